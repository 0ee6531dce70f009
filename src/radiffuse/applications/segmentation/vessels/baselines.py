"""What a segmenter of vessels stands beside: two filters, and a network that has labels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....data.cases import Cases
from ....diffusion.windows import Windows
from ....metrics.vessels import best_threshold
from ...evaluation.asked import Asked, spread
from ...recipe import Batch
from ...supervised import InWindows, Rival, direct_unet
from ..segmenter import Segmenter
from .field import evened, field_of, grey

__all__ = ["FILTERS", "OfAnyLabel", "frangi", "matched", "rivals_of", "scores", "threshold_of"]

CELL, MOST = 32, 16
"""Side of the cells that even grey values before a filter, and training cases that set its threshold."""
_SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
_WIDTH, _LENGTH, _TURNS = 2.0, 9, 12
"""Deviation and length of the matched filter and number of its directions, as Chaudhuri et al. 1989."""


def frangi(x: Tensor) -> Tensor:
    """Vesselness (Frangi et al. 1998) of dark tubes at several scales, (*S)."""
    from skimage.filters import frangi as vesselness

    return torch.from_numpy(vesselness(x.double().numpy(), _SCALES, black_ridges=True)).float()


def matched(x: Tensor) -> Tensor:
    """The strongest answer of twelve turned profiles of a dark vessel (Chaudhuri et al. 1989), plane by plane, (*S)."""
    from scipy.ndimage import correlate

    planes = x.double().numpy().reshape(-1, *x.shape[-2:])
    best = np.stack([np.max([correlate(one, k) for k in _kernels()], axis=0) for one in planes])
    return torch.from_numpy(best.reshape(x.shape)).float()


def _kernels() -> list[np.ndarray]:
    """Profiles $-e^{-u^2/2s^2}$ along a piece of straight vessel, of mean 0."""
    reach = int(max(3 * _WIDTH, _LENGTH / 2)) + 1
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    made = []
    for angle in np.arange(_TURNS) * np.pi / _TURNS:
        across = row * np.cos(angle) + column * np.sin(angle)
        along = column * np.cos(angle) - row * np.sin(angle)
        near = (np.abs(across) <= 3 * _WIDTH) & (np.abs(along) <= _LENGTH / 2)
        profile = np.where(near, -np.exp(-(across**2) / (2 * _WIDTH**2)), 0.0)
        made.append(np.where(near, profile - profile[near].mean(), 0.0))
    return made


FILTERS = {"frangi": frangi, "matched_filter": matched}


def scores(name: str, recipe: Any, parts: dict[str, Tensor]) -> Tensor:
    """What a filter says of every voxel, (n, 1, *S); of the channel the method reads, evened in the field of view."""
    x = grey(parts["image"], recipe.channel, recipe.channels)
    x = evened(x if not recipe.bright else -x, field_of(parts), CELL)
    return torch.stack([FILTERS[name](one[0]) for one in x])[:, None]


def threshold_of(name: str, recipe: Any, train: Cases) -> float:
    """The threshold of a filter with the highest Dice on training cases: labels that the method has not."""
    parts = train.batch(spread(len(train), MOST))
    told = scores(name, recipe, parts)
    return best_threshold(told, parts["mask"] > 0, field_of(parts))


class OfAnyLabel(Segmenter):
    """A segmenter to which every label is a vessel, as to the measures: arteries and veins may have one each."""

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        return super().losses({**batch, "mask": (batch["mask"] > 0).long()})


def rivals_of(recipe: Any, train: Cases, asked: Asked) -> dict[str, Rival]:
    """A U-Net with the labels of the training cases, trained as long, on windows of the same extent."""
    size = tuple(recipe.phases * side for side in recipe.size)

    def make() -> Any:
        network = direct_unet(len(size), recipe.channels, 2, size, squash=False)
        return InWindows(OfAnyLabel(network, ("image",), 1), Windows(size, recipe.crops), "mask")

    return {"unet": Rival(make, train, asked.budget("batch"))}
