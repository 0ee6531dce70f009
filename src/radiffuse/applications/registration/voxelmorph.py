"""VoxelMorph (Balakrishnan et al. 2019): the deformation network told both images, without a diffusion."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...nn.augment import UNVARIED, Varied
from ...nn.field import FieldUNet
from ...nn.warp import exponential
from ..recipe import Batch
from .losses import misfit

__all__ = ["VoxelMorph", "voxelmorph_of"]


class VoxelMorph:
    r"""A U-Net from both images to a displacement, or to the velocity of a diffeomorphism, for `supervised.trained`.

    Local correlation and smoothness of the field, eq. 2, 5 and 6 of the paper with its weight of 1
    (IEEE TMI 38(8), arXiv 1809.05231); of velocities as in Dalca et al. 2019, without their prior.

    Args:
        network: (B, 2, *S) -> (B, n, *S) in voxels; the player "field".
        smooth: weight of the smoothness.
        padding: what lies beyond the moving image.
        diffeomorphic: the network gives a velocity.
        varied: how training pairs vary.
    """

    def __init__(
        self,
        network: FieldUNet,
        smooth: float = 1.0,
        padding: str = "border",
        diffeomorphic: bool = False,
        varied: Varied = UNVARIED,
    ) -> None:
        self.players: dict[str, nn.Module] = {"field": network}
        self.varied = varied
        self.smooth, self.padding, self.diffeomorphic = smooth, padding, diffeomorphic

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        moving, fixed = self.varied(batch["moving"], batch["fixed"])
        field = self.displacement(moving, fixed)
        yield "field", misfit(moving, fixed, field, self.smooth, padding=self.padding).mean()

    def displacement(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """u (B, n, *S) in voxels."""
        out = self.players["field"](torch.cat([moving, fixed], dim=1)).float()
        return exponential(out) if self.diffeomorphic else out


def voxelmorph_of(recipe: Any) -> VoxelMorph:
    """With the deformation network of a registration recipe: as large, and shown the same pairs."""
    shape = (recipe.encoder, recipe.decoder, recipe.convolutions, recipe.coarse)
    network = FieldUNet(len(recipe.size), 2, *shape)
    options = (recipe.smooth, recipe.padding, recipe.diffeomorphic, recipe.varied())
    return VoxelMorph(network, *options)
