r"""Supervised reconstruction: a U-Net after the plain reconstruction, or between steps that measure.

The second is MoDL (Aggarwal, Mani & Jacob 2019, eq. 10): $z_k = D(x_k)$,
$x_{k+1} = \arg\min_x \|y - Ax\|^2/s^2 + \|x - z_k\|^2/r^2$, with one network D for all steps and r
learned. Both are trained on pairs of a measurement and its image, for one kind of measurement: what the
methods with a prior do without.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...acquisition import Acquired
from ...data.scan import spread
from ...diffusion.noise import derive
from ...inverse import Measurement
from ...training.batches import Readable
from ...training.options import TrainOptions
from ..supervised import direct_unet, trained

__all__ = ["Scans", "Unrolled", "trained_unrolled"]

Batch = dict[str, Tensor]

TOGETHER, MOST = 8, 512
CONJUGATE_GRADIENTS = 6


class Scans:
    """Measured training images, in groups that are measured once and kept.

    A measurement with its coil maps costs more than a training step, so no image is measured again.

    Args:
        cases: with "image" (B, 1, *S) in [-1, 1].
        acquire: {"image"} -> a measurement.
        together: images of a group.
        most: images in all; evenly spaced ones of more.
    """

    def __init__(
        self,
        cases: Readable,
        acquire: Callable[[Batch], Acquired],
        together: int = TOGETHER,
        most: int = MOST,
    ) -> None:
        self.cases, self.acquire = cases, acquire
        rows = spread(len(cases), most)
        groups = math.ceil(len(rows) / together)
        # neighbours are slices of one patient: a group takes every so-many-th
        self.groups = [rows[first::groups] for first in range(groups)]
        self.kept: dict[int, tuple[Acquired, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.groups)

    def batch(self, indices: list[int], /) -> Batch:
        """Numbers of groups, (B,)."""
        return {"group": torch.tensor(indices)}

    def scan(self, group: int) -> tuple[Acquired, Tensor]:
        """A group's measurement, and its images (B, 1, *S) in [0, 1]."""
        if group not in self.kept:
            images = self.cases.batch(self.groups[group])["image"]
            self.kept[group] = self.acquire({"image": images}), (images + 1) / 2
        return self.kept[group]


class Refiner(nn.Module):
    """D(x) = x + U(x) of images (B, 1, *S), and r^2, how far to trust it."""

    def __init__(self, network: nn.Module, spread: float = 0.05) -> None:
        super().__init__()
        self.network = network
        self.log_r2 = nn.Parameter(torch.tensor(2 * math.log(spread)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.network(x), self.log_r2.exp()


class Unrolled:
    """One network between data-consistency steps, or alone.

    Args:
        refiner: D and r^2.
        steps: K; 0 is D alone, applied to the plain reconstruction.
        scans: group number -> measurement and images; None where it is not trained.
    """

    def __init__(
        self,
        refiner: Refiner,
        steps: int,
        scans: Callable[[int], tuple[Acquired, Tensor]] | None = None,
    ) -> None:
        self.players: dict[str, nn.Module] = {"network": refiner}
        self.steps, self.scans = steps, scans

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        assert self.scans is not None, "only its training has scans"
        errors = []
        for group in batch["group"].tolist():
            acquired, truth = self.scans(group)
            errors.append(F.l1_loss(self.reconstruct(acquired.measurement, acquired.first), truth))
        yield "network", torch.stack(errors).mean()

    def reconstruct(self, measurement: Measurement, first: Tensor) -> Tensor:
        """The image (B, 1, *S) from `first`, the plain reconstruction."""
        x = first
        for _ in range(max(1, self.steps)):
            x, r2 = self.players["network"](x)
            if self.steps:
                with torch.autocast(x.device.type, enabled=False):
                    x = measurement.nearest(x.to(first.dtype), r2.float(), CONJUGATE_GRADIENTS)
        return x.to(first.dtype)

    def __call__(self, measurement: Measurement, first: Tensor) -> Tensor:
        with torch.no_grad():
            return self.reconstruct(measurement, first)


def trained_unrolled(
    recipe: Any,
    train: Readable,
    options: TrainOptions,
    folder: Path,
    steps: int,
    most: int = MOST,
) -> Unrolled:
    """Train (or go on with, or find in `folder`) a supervised network for a recipe's measurement.

    Args:
        recipe: a reconstruction recipe of real grey images; says what is measured.
        train: training images.
        options: of the training; a step takes one group of `Scans`.
        folder: of this network.
        steps: data-consistency steps, 0 for none.
        most: training images; their measurements are kept in memory.
    """
    scans = Scans(train, recipe.acquire, most=most)
    torch.manual_seed(derive(options.seed, "baseline"))
    network = direct_unet(len(recipe.size), 1, 1, recipe.size, squash=False)
    unrolled = Unrolled(Refiner(network), steps, scans.scan)
    return trained(unrolled, scans, replace(options, batch=1), folder)
