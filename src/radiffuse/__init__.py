"""Radiffuse: diffusion models for medical images.

    import radiffuse as rd

    cases = rd.open("brains")                     files, folders, DICOM, NIfTI, or what is embedded
    cases[0]["image"]                             one image in stored units, with its geometry
    run = rd.train("anoddpm", "brains:label=none", out="runs/first", minutes=10)
    run = rd.load("runs/first")                   a run of `radiffuse train` or `rd.train`
    run = rd.load("brains-mri")                   or a model that comes with the library (`rd.shipped()`)
    run.predict("scan.nii.gz")                    or an array, a tensor, cases; a list, one a case
    run.sample(8)                                 of generative runs; run.trajectory(): from noise to image
    run.evaluate()                                beside honest baselines, with intervals
    rd.DPMSolver(run.denoiser)(noise, rd.grids.uniform(20))

The parts: schedules (`VP`, `VE`, `Cosine`, `EDM`, `Rectified` ...), samplers (`DDPM`, `DDIM`, `DPMSolver` ...) that
ask a `Denoiser` for E[x_0 | x_t], `Rescheduled` (another schedule for a trained network), data (`Cases`, `Image`).
Solvers of inverse problems are in `radiffuse.inverse`, operators in `radiffuse.operators`, metrics in
`radiffuse.metrics`.

`radiffuse methods` on the command line lists the papers. dir(radiffuse) lists all names; help(radiffuse.NAME)
explains one. They are loaded when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES: dict[str, str] = {
    name: module
    for module, names in {
        "api": ("Metrics", "Model", "Prediction", "Trajectory", "load", "open", "train"),
        "data.dataset": ("Cases", "Facts", "from_iterable", "open_cases"),
        "data.image": ("Image",),
        "diffusion.denoiser": ("Denoiser",),
        "diffusion.network": ("Network",),
        "diffusion.sample": ("DDIM", "DDPM", "DPMSolver", "FlowODE", "Heun", "UniPC", "grids"),
        "diffusion.units": ("Rescheduled",),
        "errors": ("UsageError", "UserError"),
        "diffusion.kernels": ("ancestral", "diffuse", "reverse"),
        "training.options": ("TrainOptions",),
        "papers": ("PAPERS", "Paper"),
        "diffusion.parametrization": ("CLEAN", "FLOW", "NOISE", "SCORE", "VELOCITY", "Predicts"),
        "runs.named": ("shipped",),
        "runs.run": ("Run", "open_run"),
        "diffusion.schedule": (
            "EDM",
            "VE",
            "VP",
            "Cosine",
            "Discrete",
            "Rectified",
            "Schedule",
            "SubVP",
        ),
    }.items()
    for name in names
}

# no __all__: help(radiffuse) would print every class, and a star import would hide the builtin `open`


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'radiffuse' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
