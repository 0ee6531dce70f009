"""The general posterior samplers by name, at their usual settings for images in [0, 1]."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Noise
from ...diffusion.sample import DDIM, DDPM, DPMSolver, Renoised, Sampler
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
    Stein,
    white_draw,
)

__all__ = ["SOLVERS", "Solver", "SolverName"]

Solver = Callable[[Denoiser, Measurement, Noise, Tensor], Sampler]
"""Of the prior, the measurement, the noise, and the image about whose noise the chain begins."""
DATA_STD = 0.25
"""Standard deviation of images in [0, 1] about their mean, where a solver takes them for white."""

SolverName = Literal[
    "paper",
    "probed",
    "stein",
    "stein-mean",
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


def stein(denoiser: Denoiser, measurement: Measurement, first: Tensor) -> Stein:
    """As `probed` is set."""
    return Stein(denoiser, measurement, first, DATA_STD, iterations=30)


SOLVERS: dict[str, Solver] = {
    "probed": lambda d, m, n, _: DDIM(Probed(d, m, n, DATA_STD, iterations=30), n, eta=1.0),
    "stein": lambda d, m, n, first: DDIM(stein(d, m, first), n, eta=1.0),
    "stein-mean": lambda d, m, n, first: Renoised(stein(d, m, first), n),
    "moment-matching": lambda d, m, n, _: DDIM(
        MomentMatching(d, m, DATA_STD, iterations=3), n, eta=1
    ),
    "pigdm": lambda d, m, n, _: DDIM(PseudoInverse(d, m, DATA_STD, iterations=5), n, eta=1.0),
    "dds": lambda d, m, n, _: DDIM(Proximal(d, m, DATA_STD, iterations=5), n, eta=0.85),
    "dds-ode": lambda d, m, n, _: DPMSolver(Proximal(d, m, DATA_STD, iterations=5), n),
    "ddnm": lambda d, m, n, _: DDPM(RangeNull(d, m), n),
    "dps": lambda d, m, n, _: DPS(d, m, n),
    "diffpir": lambda d, m, n, _: DiffPIR(d, m, n),
    "ddrm": lambda d, m, n, _: DDRM(d, m, n),
    "red-diff": lambda d, m, n, _: REDDiff(d, m, n),
    "daps": lambda d, m, n, _: DAPS(d, m, n, white_draw(DATA_STD)),
}
