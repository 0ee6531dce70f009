"""DDM (Kim & Ye 2022): the frames between two phases of a heart beat, by one scaled latent."""

from dataclasses import dataclass
from typing import ClassVar

from ...papers import Paper, by_id
from .base import Deformable

__all__ = ["DDM"]


@dataclass(frozen=True)
class DDM(Deformable):
    """Every frame is a warp of the moving image (end-diastole): M(moving, gamma s), gamma 0 to 1.

    The latent is scaled, not the field, and no reverse chain runs: a prediction has no randomness.
    """

    paper: ClassVar[Paper] = by_id("ddm")
