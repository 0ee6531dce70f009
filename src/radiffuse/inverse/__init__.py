"""Inverse problems: a prior's denoiser and a measurement give samples of the posterior.

Nothing here knows MRI or CT. `conditioned` turns the prior's denoiser into the posterior's, for any
sampler, and `volume` does so for a volume and a prior of slices; `gradient`, `restoration`, `proximal`,
`variational`, `annealing`, `langevin`, `particle` and `shared_path` are samplers; `project` and `warm` serve
any sampler.
docs/posterior.md says which of them sample the true posterior.
"""

from .annealing import DAPS, Draw, langevin_draw, matched_draw, white_draw
from .conditioned import MomentMatching, Proximal, PseudoInverse, RangeNull, jacobian_covariance
from .gradient import DPS, residual_gradient
from .langevin import AnnealedLangevin
from .measurement import Measurement, white_spread
from .particle import SMC
from .probed import Probed
from .project import Constrained, Project, data_consistency, low_pass
from .proximal import DiffPIR
from .restoration import DDRM
from .rician import RicianMeasurement
from .shared_path import Replacement, SMCDiff
from .stein import Stein
from .variational import REDDiff
from .volume import Slicewise, ThroughPlane
from .warm import warm_start

__all__ = [
    "DAPS",
    "DDRM",
    "DPS",
    "SMC",
    "AnnealedLangevin",
    "Constrained",
    "DiffPIR",
    "Draw",
    "Measurement",
    "MomentMatching",
    "Probed",
    "Project",
    "Proximal",
    "PseudoInverse",
    "REDDiff",
    "RangeNull",
    "Replacement",
    "RicianMeasurement",
    "SMCDiff",
    "Slicewise",
    "Stein",
    "ThroughPlane",
    "data_consistency",
    "jacobian_covariance",
    "langevin_draw",
    "low_pass",
    "matched_draw",
    "residual_gradient",
    "warm_start",
    "white_draw",
    "white_spread",
]
