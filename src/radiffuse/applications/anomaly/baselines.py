"""The honest baselines of anomaly detection: what finds lesions without any diffusion.

Most are given the healthy training images and nothing else, or where there is no healthy image what
lies outside the lesions of sick ones; `rivals` says which are trained, and what else they are told. A baseline
is a map `(n, 1, *S)`, a score `(n,)`, or both, as a method's prediction is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...metrics.detection import top_mean
from ...metrics.features import FeatureNetwork, extract, trained_features
from ...training.objective import device_of
from ..evaluation.drawing import in_batches
from .attribution import Attributed

__all__ = ["Found", "answers_of", "fitted_baselines"]

TOP = 0.05
NEIGHBOURS = 5
PATCHES = 20_000


@dataclass(frozen=True)
class Found:
    """What a baseline says of n images: scores `(n,)`, and maps `(n, 1, *S)` or None."""

    scores: Tensor
    maps: Tensor | None = None


def from_map(maps: Tensor) -> Found:
    """A map and the mean of its highest values."""
    return Found(top_mean(maps, TOP), maps)


def answers_of(
    trained: Mapping[str, Any], images: Tensor, reference: Tensor, batch: int
) -> dict[str, Found]:
    """What trained rivals say of images; of a network that reads labels two maps with one score.

    Args:
        trained: of `rivals_of`, but for a plain DDPM.
        images: (n, C, *S) in [-1, 1].
        reference: (1, C, *S), where integrated gradients begin.
        batch: images at once.
    """
    found = {}
    for name, rival in trained.items():
        device = device_of(rival)

        def every(read: Callable[[dict[str, Tensor]], Tensor], on: torch.device = device) -> Tensor:
            return in_batches(read, {"image": images}, batch, on)

        if isinstance(rival, Attributed):
            begin = reference.to(device)
            scores = every(rival.score)
            found["integrated_gradients"] = Found(scores, every(partial(rival.gradients, begin)))
            found["grad_cam"] = Found(scores, every(rival.cam))
        else:
            # a residual, or the probabilities of lesions
            found[name] = from_map(every(rival.predict).sum(1, keepdim=True))
    return found


def fitted_baselines(
    healthy: Tensor,
    images: Tensor,
    *,
    fingerprint: str,
    seed: int = 0,
    cache: Path | None = None,
    progress: Callable[[float], None] | None = None,
    lesions: Tensor | None = None,
) -> dict[str, Found]:
    """What statistics of `healthy` (m, C, *S) say of `images` (n, C, *S), both in [-1, 1].

    `lesions` (m, 1, *S), bool, is what nothing is learned from; with it there are no whole healthy
    images, and "nearest_features" is left out.

    "brightness": the mean grey value; "intensity": grey values themselves, what a threshold sees;
    "atlas": deviations from the voxel-wise mean; "nearest_features": distance to the nearest healthy
    images in features (deep kNN, Sun et al. 2022); "patches": the same place by place with features of
    patches (PatchCore, Roth et al. 2022).
    """
    told = progress or (lambda done: None)
    found = {
        "brightness": Found(images.flatten(1).mean(1)),
        "intensity": from_map((images.mean(1, keepdim=True) + 1) / 2),
        "atlas": from_map(_atlas(healthy, images, lesions)),
    }
    network = trained_features(healthy, fingerprint=fingerprint, seed=seed, cache=cache)
    told(0.8)
    if lesions is None:
        found["nearest_features"] = Found(
            _distances(extract(network, images), extract(network, healthy), NEIGHBOURS)
        )
    found["patches"] = from_map(_patches(network, healthy, images, seed, lesions))
    told(1.0)
    return found


def _atlas(healthy: Tensor, images: Tensor, lesions: Tensor | None) -> Tensor:
    """Mean over channels of |x - mean| / deviation of the healthy images at each voxel."""
    sound = torch.ones_like(healthy[:, :1]) if lesions is None else (~lesions).float()
    count = sound.sum(0).clamp_min(2)
    mean = (sound * healthy).sum(0) / count
    std = ((sound * (healthy - mean) ** 2).sum(0) / (count - 1)).sqrt()
    return ((images - mean).abs() / (std + 0.05)).mean(1, keepdim=True)


def _distances(x: Tensor, to: Tensor, count: int = 1) -> Tensor:
    """Mean distance of each row of `x` (n, d) to its `count` nearest rows of `to` (m, d)."""
    near = [
        torch.cdist(part, to).topk(min(count, len(to)), largest=False) for part in x.split(1000)
    ]
    return torch.cat([each.values.mean(1) for each in near])


@torch.no_grad()
def _patches(
    network: FeatureNetwork, healthy: Tensor, images: Tensor, seed: int, lesions: Tensor | None
) -> Tensor:
    """Distance of each place's features to the nearest of all healthy places, at full size."""
    layers = network.body[:2]  # places of four voxels a side

    def features(x: Tensor) -> Tensor:
        return torch.cat([layers(part) for part in x.split(250)])

    places = features(healthy)
    bank = places.movedim(1, -1).flatten(0, -2)
    if lesions is not None:
        sick = F.interpolate(lesions.float(), size=tuple(places.shape[2:]), mode="area")
        bank = bank[sick.flatten() == 0]
    draw = torch.Generator().manual_seed(seed)
    bank = bank[torch.randperm(len(bank), generator=draw)[:PATCHES]]
    maps = features(images)
    flat = maps.movedim(1, -1)
    distance = _distances(flat.flatten(0, -2), bank).reshape(flat.shape[:-1])[:, None]
    return F.interpolate(distance, size=tuple(images.shape[2:]), mode="nearest")
