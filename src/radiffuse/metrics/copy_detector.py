"""A network that knows an image again: flipped, cropped, turned a little, brighter or darker, noisier.

It learns from the training images alone, by contrast (SimCLR, Chen et al. 2020; for copies SSCD, Pizzi et al. 2022):
two views of an image shall lie near each other, and far from views of other people's images. What views differ in, a
copy may differ in.
"""

from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..nn.augment import Augment
from ..training.tensorfile import save
from .features import FeatureNetwork, Progress, fit, kept

__all__ = ["CopyDetector", "copy_detector", "described", "views"]

STEPS = 400
_BATCH = 48
_TEMPERATURE = 0.1
_VERSION = "copies-1"


class CopyDetector(nn.Module):
    """Images `(B, C, *S)` in [-1, 1] -> descriptors `(B, 64)` of unit length."""

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.network = FeatureNetwork(channels, size)

    def forward(self, x: Tensor) -> Tensor:
        # grey shifts are taken out before anything is learned
        axes = tuple(range(1, x.dim()))
        spread = x.std(axes, keepdim=True).clamp_min(1e-3)
        hidden = self.network.hidden((x - x.mean(axes, keepdim=True)) / spread)
        return functional.normalize(hidden, dim=1)


def views(x: Tensor) -> Tensor:
    """Each image `(B, C, *S)` mirrored, turned up to 15 degrees, zoomed and moved, its greys shifted, with noise."""
    axes = x.dim() - 2
    move = Augment(tuple(range(axes)), *((15.0, 0.2, 0.08) if axes > 1 else (0.0, 0.0, 0.0)))
    x = move({"image": x})["image"]
    shape = (len(x), *[1] * (x.dim() - 1))
    gain, lift = 1 + 0.4 * (torch.rand(shape) - 0.5), 0.4 * (torch.rand(shape) - 0.5)
    return (gain * x + lift + 0.1 * torch.rand(shape) * torch.randn(x.shape)).clamp(-1, 1)


def copy_detector(
    images: Tensor,
    groups: Tensor,
    *,
    fingerprint: str,
    seed: int = 0,
    steps: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> CopyDetector:
    """The detector of these training images: read from `cache`, or trained and put there.

    Args:
        images: `(n, C, *S)` in [-1, 1].
        groups: the person of each, `(n,)`; images of one person are not held apart.
        fingerprint: names the data in the cache.
        seed: of weights, order and views.
        steps: of 48 images; 0: 400.
        progress: called with (step, steps).

    Raises:
        UserError: a cached file that cannot be read.
    """
    steps = steps or STEPS
    about = {"format": _VERSION, "fingerprint": fingerprint, "steps": str(steps)}
    path = cache and cache / f"copies-{fingerprint[:12]}-{seed}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = CopyDetector(images.shape[1], tuple(images.shape[2:]))
        if path and path.exists() and kept(detector, path, about):
            return detector.eval()

        def loss() -> Tensor:
            rows = torch.randperm(len(images))[:_BATCH]
            one, other = (detector(views(images[rows])) for _ in range(2))
            return contrast(one, other, groups[rows])

        fit(detector, loss, steps, progress)
    if path:
        save(path, detector.state_dict(), about)
    return detector.eval()


def contrast(one: Tensor, other: Tensor, groups: Tensor) -> Tensor:
    """Cross-entropy of finding each image's other view `(B, d)` among those of other people (InfoNCE)."""
    alike = one @ other.mT / _TEMPERATURE
    same = groups[:, None] == groups
    own = torch.eye(len(one), dtype=torch.bool)
    logits = alike.masked_fill(same & ~own, -torch.inf)
    target = torch.arange(len(one))
    return (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.mT, target)
    ) / 2


@torch.no_grad()
def described(detector: CopyDetector, images: Tensor, batch: int = 250) -> Tensor:
    """Descriptors `(n, 64)` of unit length: the mean of those of an image mirrored along any of its axes.

    So that a mirrored copy is described exactly as its image is.
    """
    axes = range(2, images.dim())
    mirrors = [several for count in range(len(axes) + 1) for several in combinations(axes, count)]
    parts = images.split(batch * 4096 // images[0].numel() + 1)
    found = [sum(detector(part.flip(several)) for several in mirrors) for part in parts]
    return functional.normalize(torch.cat(found), dim=1)
