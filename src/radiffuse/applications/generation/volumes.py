"""What generated volumes are judged by beside pictures: their slices, their voxels, their coherence."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...data.dataset import Cases
from ...errors import UserError
from ...metrics.diversity import copy_metrics, find_copies
from ...metrics.estimate import Metric, average, proportion
from ...metrics.features import extract, trained_features, weights_hash
from ...metrics.pretrained import load_pretrained
from ...metrics.volumes import (
    centred,
    coherence,
    median_distance,
    planes_metrics,
    slices_of,
    voxel_metric,
)
from ..evaluation.judge import Judge
from ..evaluation.progress import progress_bar

__all__ = ["Volumes", "are_volumes", "look_at"]


def are_volumes(cases: Cases) -> bool:
    """Whether the images of the cases have three axes."""
    key = "image" if "image" in cases.image_keys else next(iter(cases.image_keys), None)
    return key is not None and cases.batch([0])[key][0, 0].dim() == 3


@dataclass(frozen=True)
class Volumes:
    """Real volumes as they are compared with others.

    Attributes:
        network: slices -> features `(B, d)`.
        held_out: features of slices of the held-out volumes, `(m, planes, k, d)`.
        voxels: the held-out volumes themselves.
        width: of the kernel of voxels, the median distance of training volumes.
        aligned: training and held-out volumes, `metrics.volumes.centred`.
        people: whose each held-out volume is.
    """

    network: nn.Module
    held_out: Tensor
    voxels: Tensor
    width: float
    aligned: tuple[Tensor, Tensor]
    people: tuple[str, ...] = ()

    def distances(self, images: Tensor, people: Sequence[str] = ()) -> dict[str, Metric]:
        """Against the held-out volumes, and from slice to slice; of real images, whose each is."""
        of = self.people, people
        return {
            **planes_metrics(self.held_out, _described(self.network, images), people=of),
            "mmd": voxel_metric(self.voxels, images, self.width, people=of),
            "coherence": average(coherence(images), people=people),
        }

    def nearest(self, images: Tensor, ids: tuple[str, ...]) -> dict[str, Metric]:
        """The nearest training volume, wherever in the grid the images lie."""
        train, held_out = self.aligned
        return copy_metrics(find_copies(centred(images), held_out, train), ids, "aligned")

    def control(self) -> dict[str, Metric]:
        """The same of the held-out volumes."""
        train, held_out = self.aligned
        found = find_copies(held_out, held_out, train)
        return {
            "nearest_aligned": average(found.control.distance, people=self.people),
            "copies_aligned": proportion(found.flagged, self.people),
        }

    @property
    def named(self) -> dict[str, str]:
        """The feature network of slices, for the record."""
        return {"name": type(self.network).__name__, "hash": weights_hash(self.network)}


def look_at(
    real: Judge, fingerprint: str, cache: Path | None = None, weights: Path | None = None
) -> Volumes:
    """Cut the real volumes, and train the feature network of slices (or find it in `cache`), or read `weights`.

    It learns from slices in all planes of the training volumes; its label is the plane.

    Args:
        real: training and held-out volumes.
        fingerprint: of the training data.
        cache: folder that keeps the network.
        weights: of a ResNet-50 or an Inception-v3 of the user's in place of our own network.

    Raises:
        UserError: `weights` are for pictures of one or three channels.
    """
    network: nn.Module
    if weights is not None:
        if real.train.shape[1] not in (1, 3):
            raise UserError(
                f"{weights}: features of photographs are for grey or colour slices only"
            )
        network = load_pretrained(weights)
    else:
        slices = slices_of(real.train)
        n, planes, k = slices.shape[:3]
        plane = torch.arange(planes).repeat_interleave(k).repeat(n)
        with progress_bar("training the feature network of slices", 1) as done:
            network = trained_features(
                slices.flatten(0, 2),
                plane,
                fingerprint=hashlib.sha256(f"slices {fingerprint}".encode()).hexdigest(),
                cache=cache,
                progress=lambda step, steps: done(step / steps),
            )
    return Volumes(
        network,
        _described(network, real.held_out),
        real.held_out,
        median_distance(real.train),
        (centred(real.train), centred(real.held_out)),
        real.people,
    )


def _described(network: nn.Module, images: Tensor) -> Tensor:
    """Features of slices `(n, planes, k, d)`."""
    slices = slices_of(images)
    return extract(network, slices.flatten(0, 2)).unflatten(0, slices.shape[:3])
