"""The honest baselines of anomaly detection: what finds lesions without any diffusion.

All are given the healthy training images and nothing else, or where there is no healthy image what
lies outside the lesions of sick ones. A baseline is a map `(n, 1, *S)`, a score
`(n,)`, or both, as a method's prediction is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...metrics.detection import top_mean
from ...metrics.features import FeatureNetwork, extract, trained_features
from ...nn.blocks import conv, upsample

__all__ = ["Found", "Reconstruction", "all_baselines", "fit_reconstruction"]

TOP = 0.05
NEIGHBOURS = 5
PATCHES = 20_000
STEPS = 600
_BATCH = 32


@dataclass(frozen=True)
class Found:
    """What a baseline says of n images: scores `(n,)`, and maps `(n, 1, *S)` or None."""

    scores: Tensor
    maps: Tensor | None = None


def from_map(maps: Tensor) -> Found:
    """A map and the mean of its highest values."""
    return Found(top_mean(maps, TOP), maps)


def all_baselines(
    healthy: Tensor,
    images: Tensor,
    *,
    fingerprint: str,
    seed: int = 0,
    cache: Path | None = None,
    steps: int | None = None,
    progress: Callable[[float], None] | None = None,
    lesions: Tensor | None = None,
) -> dict[str, Found]:
    """Every baseline on `images` (n, C, *S), fitted to `healthy` (m, C, *S), both in [-1, 1].

    `lesions` (m, 1, *S), bool, is what nothing is learned from; with it there are no whole healthy
    images, and "nearest_features" is left out.

    "brightness": the mean grey value; "intensity": grey values themselves, what a threshold sees;
    "atlas": deviations from the voxel-wise mean; "autoencoder", "vae": squared residuals;
    "nearest_features": distance to the nearest healthy images in features (deep kNN, Sun et al.
    2022); "patches": the same place by place with features of patches (PatchCore, Roth et al. 2022).
    """
    steps = STEPS if steps is None else steps
    told = progress or (lambda done: None)
    found = {
        "brightness": Found(images.flatten(1).mean(1)),
        "intensity": from_map((images.mean(1, keepdim=True) + 1) / 2),
        "atlas": from_map(_atlas(healthy, images, lesions)),
    }
    for place, name in enumerate(("autoencoder", "vae")):
        model = fit_reconstruction(healthy, name == "vae", seed=seed, steps=steps, lesions=lesions)
        found[name] = from_map(model.residual(images))
        told(0.3 * (place + 1))
    network = trained_features(healthy, fingerprint=fingerprint, seed=seed, cache=cache)
    told(0.9)
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
    layers = network.body[: 3 * 2]  # two stages: places of four voxels a side

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


class Reconstruction(nn.Module):
    """A convolutional auto-encoder, or a variational one; any number of axes.

    Args:
        channels: of the images.
        size: their spatial size; halved up to three times, as often as it divides.
        variational: the code is a normal distribution, kept near the standard one.
    """

    def __init__(self, channels: int, size: tuple[int, ...], variational: bool) -> None:
        super().__init__()
        axes, depth = len(size), 0
        while depth < 3 and all(side % 2 ** (depth + 1) == 0 for side in size):
            depth += 1
        widths = [channels, 16, 32, 64][: depth + 1]
        self.variational = variational
        down: list[nn.Module] = []
        for before, width in pairwise(widths):
            down += [conv(axes, before, width, stride=2), nn.GroupNorm(8, width), nn.SiLU()]
        self.down = nn.Sequential(*down)
        code = 4
        self.code = conv(axes, widths[-1], 2 * code, size=1)
        self.enter = conv(axes, code, max(widths[-1], 16), size=1)
        self.up = nn.ModuleList()
        before = max(widths[-1], 16)
        for width in [*widths[-2:0:-1], 16][:depth]:
            stage = nn.Sequential(conv(axes, before, width), nn.GroupNorm(8, width), nn.SiLU())
            self.up.append(stage)
            before = width
        self.leave = conv(axes, before, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, *S) -> reconstructions, and the divergence of the code (nats a value)."""
        mean, log_variance = self.code(self.down(x)).chunk(2, dim=1)
        divergence = torch.zeros(())
        code = mean
        if self.variational:
            divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / x.numel()
            noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
            code = mean + noise * (log_variance / 2).exp()
        h = self.enter(code)
        for stage in self.up:
            h = stage(upsample(h))
        return self.leave(h), divergence

    @torch.no_grad()
    def residual(self, images: Tensor) -> Tensor:
        """Squared difference from the reconstruction, mean over channels, `(n, 1, *S)`."""
        self.eval()
        rebuilt = torch.cat([self(part)[0] for part in images.split(250)])
        return (images - rebuilt).square().mean(1, keepdim=True)


def fit_reconstruction(
    images: Tensor,
    variational: bool,
    *,
    seed: int = 0,
    steps: int = STEPS,
    lesions: Tensor | None = None,
) -> Reconstruction:
    """Train on images (m, C, *S) in [-1, 1]: AdamW, a cosine from 2e-3 to 0, 32 images a step.

    Errors inside `lesions` (m, 1, *S), bool, do not count.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Reconstruction(images.shape[1], tuple(images.shape[2:]), variational)
        optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 1e-3 * (1 + math.cos(math.pi * step / steps))
            rows = torch.randint(len(images), (min(_BATCH, len(images)),))
            rebuilt, divergence = model(images[rows])
            error = (rebuilt - images[rows]).square()
            if lesions is not None:
                error = error * ~lesions[rows]
            loss = error.mean() + 0.02 * divergence
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()
