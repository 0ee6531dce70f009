"""The general posterior samplers by name, at their usual settings for images in [0, 1]."""

from collections.abc import Callable
from typing import Literal

from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Noise
from ...diffusion.sample import DDIM, DDPM, DPMSolver, Sampler
from ...inverse import (
    DAPS,
    DDRM,
    DPS,
    DiffPIR,
    Measurement,
    MomentMatching,
    Probed,
    Proximal,
    PseudoInverse,
    RangeNull,
    REDDiff,
    white_draw,
)

__all__ = ["ITERATIONS", "SOLVERS", "Solver", "SolverName"]

Solver = Callable[[Denoiser, Measurement, Noise], Sampler]
DATA_STD = 0.25
"""Standard deviation of images in [0, 1] about their mean, where a solver takes them for white."""

SolverName = Literal[
    "paper",
    "probed",
    "moment-matching",
    "pigdm",
    "dds",
    "dds-ode",
    "ddnm",
    "dps",
    "diffpir",
    "ddrm",
    "red-diff",
    "daps",
]
ITERATIONS = 30
"""Of conjugate gradients, where the covariance is probed."""
SOLVERS: dict[str, Solver] = {
    "probed": lambda d, m, n: DDIM(Probed(d, m, n, DATA_STD, ITERATIONS), n, eta=1.0),
    "moment-matching": lambda d, m, n: DDIM(MomentMatching(d, m, DATA_STD, iterations=3), n, eta=1),
    "pigdm": lambda d, m, n: DDIM(PseudoInverse(d, m, DATA_STD, iterations=5), n, eta=1.0),
    "dds": lambda d, m, n: DDIM(Proximal(d, m, DATA_STD, iterations=5), n, eta=0.85),
    "dds-ode": lambda d, m, n: DPMSolver(Proximal(d, m, DATA_STD, iterations=5), n),
    "ddnm": lambda d, m, n: DDPM(RangeNull(d, m), n),
    "dps": lambda d, m, n: DPS(d, m, n),
    "diffpir": lambda d, m, n: DiffPIR(d, m, n),
    "ddrm": lambda d, m, n: DDRM(d, m, n),
    "red-diff": lambda d, m, n: REDDiff(d, m, n),
    "daps": lambda d, m, n: DAPS(d, m, n, white_draw(DATA_STD)),
}
