"""Reconstruct held-out patients by every method with one prior, beside classical methods.

    python benchmarks/reconstruction.py runs/acdc-sde --name acdc128

The run is a prior of grey images. Every pair of a measurement and a method is one entry of
benchmarks/results/reconstruction-NAME.json; entries that are there are not computed again, so the
same command goes on after an interruption. Some middle slices of every held-out patient are
measured by simulation. Weights of classical methods are chosen on training patients. BART joins
where `bart` is on the path.
"""

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path

import bart
import torch
from recorded import RESULTS, brief

from radiffuse import papers
from radiffuse.applications.evaluation.asked import Asked, about
from radiffuse.applications.reconstruction.baselines import classical
from radiffuse.applications.reconstruction.evaluate import compare, evaluate_reconstruction
from radiffuse.applications.reconstruction.unrolled import trained_unrolled
from radiffuse.applications.tuning import tune
from radiffuse.commands.source import open_source
from radiffuse.data.files import read_json, write_json
from radiffuse.runs.run import command_line, environment, open_run
from radiffuse.training.options import TrainOptions

MEASUREMENTS = {
    "mri-1d-r4": {"measurement": "mri", "mask": "gaussian-columns", "acceleration": 4.0},
    "mri-1d-r8": {"measurement": "mri", "mask": "gaussian-columns", "acceleration": 8.0},
    "mri-2d-r4": {"measurement": "mri", "mask": "poisson-disc", "acceleration": 4.0},
    "mri-2d-r8": {"measurement": "mri", "mask": "poisson-disc", "acceleration": 8.0},
    "ct-parallel-20": {"measurement": "ct", "views": 20},
    "ct-parallel-60": {"measurement": "ct", "views": 60},
    "ct-fan-20": {"measurement": "ct", "views": 20, "beam": "fan"},
    "ct-fan-60": {"measurement": "ct", "views": 60, "beam": "fan"},
    "sr-2": {"measurement": "super-resolution", "factor": 2, "noise": 0.01},
    "sr-4": {"measurement": "super-resolution", "factor": 4, "noise": 0.01},
    "noise-0.1": {"measurement": "noise", "noise": 0.1},
    "rician-0.1": {"measurement": "noise", "noise": 0.1, "noise_law": "rician"},
}
"""Fields of a reconstruction recipe that say what is measured."""
MRI, CT, IMAGE = ("mri",), ("ct",), ("super-resolution", "noise")
ANY, GENERAL = MRI + CT + IMAGE, {"steps": 50, "highest": 5.0}
METHODS = {
    "score-mri": ("score-mri", {"steps": 24}, MRI),
    "score-inverse": ("score-inverse", {"steps": 24}, MRI + CT),
    "mcg": ("mcg", {"steps": 24}, MRI + CT),
    "r2d2": ("r2d2", {"steps": 100}, IMAGE),
    "bayes-mri": ("bayes-mri", {"values": "real", "steps": 24, "repeats": 3}, MRI),
    "diffuse-recon": ("diffuse-recon", {"values": "real", "chains": 1}, MRI),
    **{
        name: ("score-mri", {**GENERAL, "solver": name}, ANY) for name in ("dds", "ddnm", "diffpir")
    },
    **{
        name: ("score-mri", {**GENERAL, "solver": name}, ANY)
        for name in ("dps", "daps", "red-diff")
    },
    "probed": ("score-mri", {**GENERAL, "solver": "probed", "steps": 24}, ANY),
    "pigdm": ("score-mri", {**GENERAL, "solver": "pigdm", "steps": 25}, ANY),
    "moment-matching": ("score-mri", {**GENERAL, "solver": "moment-matching", "steps": 12}, ANY),
    "probed-1000": ("score-mri", {**GENERAL, "solver": "probed", "steps": 500}, MRI + CT),
}
"""Name -> recipe, its settings (at most 50 network calls a draw, but for the one with 1000), what it is
tried on. All share the prior of the run, grey and of single slices: `bayes-mri` and `diffuse-recon` are
given it in place of the complex ones they would train themselves."""
SUPERVISED = {"unet": 0, "unet-consistent": 3}
"""Name -> data-consistency steps of a supervised network."""
CHANGED = {"mri-2d-r8": "mri-1d-r8", "mri-1d-r4": "mri-1d-r8"}
"""Measurement -> the one that the supervised networks of "changed" entries were trained for."""
APART = ("classical", *SUPERVISED, *(f"changed-{who}" for who in SUPERVISED))
"""Entries of methods without a prior."""


def recipe_of(run, method, settings, measurement):
    """A recipe of the small preset with the prior's network."""
    fields = ("channels", "size", "data_std")
    values = {name: getattr(run.recipe, name) for name in fields}
    return dataclasses.replace(
        papers.by_id(method).load().small(), **{**values, **settings, **measurement}
    )


def middle_slices(cases, each):
    """Some middle slices of every patient, by slice number where there is one."""
    rows = []
    for patient in dict.fromkeys(cases.patients):
        own = [row for row, name in enumerate(cases.patients) if name == patient]
        if "slice" in cases.texts:
            own.sort(key=lambda row: int(cases.texts["slice"][row]))
        start = (len(own) - each + 1) // 2
        rows += own[max(0, start) : max(0, start) + each]
    return cases.take(rows)


def classical_and_bart(recipe, train):
    """The library's classical methods, and BART's where it is installed."""
    found = classical(recipe, train, work=2000)
    if recipe.measurement == "mri" and shutil.which("bart"):
        images = train.batch(range(0, len(train), max(1, len(train) // 4)))["image"][:4]
        acquired = recipe.acquire({"image": images})
        truth = ((images + 1) / 2).to(acquired.first.dtype)
        for kind, name in (("W", "bart_l1_wavelet"), ("T", "bart_total_variation")):
            method = bart.method(kind)
            weight = tune(method, [(acquired.measurement, truth)], (1e-3, 4e-3, 1.6e-2)).weight
            found[name] = lambda m, x, method=method, weight=weight: method(m, x, weight)
    return found


def supervised(recipe, train, arguments, who, name):
    """A U-Net without or with data consistency, trained for measurement `name` as long as asked for."""
    options = TrainOptions(
        minutes=arguments.minutes, learning_rate=1e-3, warmup=50, cooldown=0.3, ema=(0.05,)
    )
    known = dataclasses.replace(recipe, **MEASUREMENTS[name])
    folder = arguments.run / f"supervised-{name}" / who
    return trained_unrolled(known, train, options, folder, SUPERVISED[who], most=len(train))


def rivals_of(method, recipe, train, arguments, name):
    """Methods without a prior; "changed" ones were trained for another mask."""
    if method == "classical":
        return classical_and_bart(recipe, train)
    who = method.removeprefix("changed-")
    known = name if who == method else CHANGED[name]
    rival = supervised(recipe, train, arguments, who, known)
    return {who if known == name else f"{who} of {known}": rival}


def entry(run, train, held_out, name, method, arguments):
    """Measure one method on one measurement; methods without a prior share entries of their own."""
    kind, settings, _ = METHODS.get(method, METHODS["probed"])
    recipe = recipe_of(run, kind, settings, MEASUREMENTS[name])
    asked = Asked(
        count=len(held_out),
        batch=arguments.batch,
        folder_for_pictures=arguments.pictures and arguments.pictures / f"{name}-{method}",
    )
    if method in APART:
        rivals = rivals_of(method, recipe, train, arguments, name)
        return {
            "metrics": brief(compare(recipe, held_out, rivals, asked)),
            "settings": {} if method == "classical" else {"minutes": arguments.minutes},
            "data": about(train, held_out),
        }
    recipe = dataclasses.replace(recipe, samples=arguments.samples)
    record = evaluate_reconstruction(recipe, run.objective, train, held_out, asked, baselines={})
    return {
        "metrics": {method: brief(record["method"])},
        "settings": {**record["settings"], **settings},
        "data": record["data"],
    }


def fits(method, name):
    """Whether a method is tried on a measurement."""
    if method.startswith("changed-"):
        return name in CHANGED
    return method in APART or MEASUREMENTS[name]["measurement"] in METHODS[method][2]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--each", type=int, default=1, help="middle slices of a patient")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--measurements", nargs="*", default=list(MEASUREMENTS))
    parser.add_argument("--methods", nargs="*", default=[*APART, *METHODS])
    parser.add_argument("--minutes", type=float, default=40, help="of each supervised network")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    cases = open_source(run.config.data)
    train, held_out = cases.split("train"), middle_slices(cases.held_out(), arguments.each)
    out = arguments.json or RESULTS / f"reconstruction-{arguments.name}.json"
    results = read_json(out) if out.is_file() else {"entries": {}}
    results["command"] = command_line(sys.argv).removeprefix("radiffuse ")
    results["prior"] = {"trained_by": run.manifest["command"], "sha256": run.model_sha256}
    results["environment"] = environment()
    for name in arguments.measurements:
        for method in arguments.methods:
            if not fits(method, name) or method in results["entries"].setdefault(name, {}):
                continue
            torch.manual_seed(0)
            found = entry(run, train, held_out, name, method, arguments)
            results = read_json(out) if out.is_file() else results
            results["entries"].setdefault(name, {})[method] = found
            write_json(out, results)
            for who, table in found["metrics"].items():
                print(name, who, {k: round(v["mean"], 3) for k, v in table.items() if "mean" in v})


if __name__ == "__main__":
    main()
