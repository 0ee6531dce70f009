"""Features in which sets of images are compared: a small network trained on the data itself.

Inception's features come from photographs in colour; a network that has learned the very data is
smaller, works for any modality and any number of axes, and needs no download. It learns two things
at once, so that its features see anatomy and realism:

- what is shown: which image it is (instance discrimination: find the same image, moved by a few
  pixels, in a batch; InfoNCE, van den Oord et al. 2018), and its label where there are labels.
  Labels alone would leave a handful of directions that say the class and nothing of the rest;
- whether the image is as it should be: noise, blur, two halves of different images, wrong tone
  (`corruptions`). Invariance to these, the usual self-supervised training, would make the distance
  blind to just the faults that generated images have.

The last maps are kept in their places, not averaged, so that a feature may say where something is.
What the features see least is a smooth deformation of an intact image.

64 features (standardised over the training images) leave the covariance of the Frechet distance
well determined with 600 images, which Inception's 2048 do not. The first 12 hex digits of the
SHA-256 of the weights name the features: numbers compare only under one name.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UserError
from ..nn.blocks import conv
from ..training.tensorfile import save
from . import corruptions

DIMENSION = 64
STEPS = 700
_VERSION = "features-1"
_WIDTHS = (24, 48, 96)
_BATCH = 50
Progress = Callable[[int, int], None]


class FeatureNetwork(nn.Module):
    """Strided convolutions down to about 4 pixels a side, then 64 features of all of these.

    Args:
        channels: of the images.
        size: their spatial size S, any number of axes.
        outputs: classes, or 0 where there are no labels.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int, size: tuple[int, ...], outputs: int = 0) -> None:
        super().__init__()
        depth = max(2, min(5, round(math.log2(max(8, min(size)) / 4))))
        widths = (*_WIDTHS, *(_WIDTHS[-1],) * depth)[:depth]
        stages: list[nn.Module] = []
        before = channels
        for width in widths:
            stages += [conv(len(size), before, width, stride=2), nn.GroupNorm(1, width), nn.SiLU()]
            before = width
        self.body = nn.Sequential(*stages)
        left = math.prod(math.ceil(side / 2**depth) for side in size)
        self.project = nn.Linear(before * left, DIMENSION)
        self.identity = nn.Linear(DIMENSION, DIMENSION)
        self.shown = nn.Linear(DIMENSION, max(1, outputs))
        self.spoilt = nn.Linear(DIMENSION, 1 + len(corruptions.CORRUPTIONS))
        self.register_buffer("centre", torch.zeros(DIMENSION))
        self.register_buffer("spread", torch.ones(DIMENSION))

    def raw(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` in [-1, 1] -> `(B, 64)`, not standardised."""
        return self.project(self.body(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` in [-1, 1] -> `(B, 64)`, standardised over the training images."""
        return (self.raw(x) - self.centre) / self.spread


def weights_hash(module: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 over names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def extract(network: nn.Module, images: Tensor, batch: int = 250) -> Tensor:
    """Features `(n, d)` of images `(n, C, *S)` in [-1, 1], clipped to that range.

    Args:
        network: images to features; `pixels` of it, where it resizes them, says how many it works on.
        images: all of them.
        batch: so many of 64 x 64 at a time, fewer of larger ones.
    """
    network.eval()
    pixels = int(getattr(network, "pixels", images[0].numel()))
    parts = images.clamp(-1, 1).float().split(batch * 4096 // pixels + 1)
    return torch.cat([network(part) for part in parts])


def trained_features(
    images: Tensor,
    labels: Tensor | None = None,
    *,
    fingerprint: str,
    seed: int = 0,
    cache: Path | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> FeatureNetwork:
    """The feature network of these training images: read from `cache` or trained and put there.

    Training is deterministic in (images, labels, seed) on one machine with one number of threads;
    elsewhere rounding may give another hash, so keep the cache to compare across machines.

    Args:
        images: `(n, C, *S)` in [-1, 1], the training split only.
        labels: `(n,)` int64, or None.
        fingerprint: names the data in the cache.
        seed: of initial weights, order and corruptions.
        cache: folder for `features-FINGERPRINT-SEED.safetensors`; None keeps nothing.
        steps: of 50 images; None: 700 for 64x64, fewer for larger images, at least 150.
        progress: called with (step, steps).

    Raises:
        UserError: fewer than 8 images, or a cached file that cannot be read.
    """
    if len(images) < 8:
        raise UserError(f"a feature network needs 8 training images, there are {len(images)}")
    outputs = _classes(labels)
    network = _initial(images, outputs, seed)
    steps = steps or min(STEPS, max(150, STEPS * 4096 // math.prod(images.shape[2:])))
    path = cache and cache / f"features-{fingerprint[:12]}-{seed}.safetensors"
    if path and path.exists() and _read(network, path, _about(fingerprint, outputs, steps)):
        return network.eval()
    _fit(network, images, labels if outputs else None, seed, steps, progress)
    if path:
        save(path, network.state_dict(), _about(fingerprint, outputs, steps))
    return network.eval()


def _classes(labels: Tensor | None) -> int:
    """Number of classes; 0 where there are none or only one."""
    if labels is None or len(labels.unique()) < 2:
        return 0
    return int(labels.max()) + 1


def _about(fingerprint: str, outputs: int, steps: int) -> dict[str, str]:
    text = {"fingerprint": fingerprint, "outputs": str(outputs), "steps": str(steps)}
    return {"format": _VERSION, **text}


def _initial(images: Tensor, outputs: int, seed: int) -> FeatureNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FeatureNetwork(images.shape[1], tuple(images.shape[2:]), outputs)


def _read(network: FeatureNetwork, path: Path, about: dict[str, str]) -> bool:
    """Load cached weights; False where they are of other data or another version."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if file.metadata() != about:
                return False
        network.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable feature network ({error}); delete it") from None
    return True


def _fit(
    network: FeatureNetwork,
    images: Tensor,
    labels: Tensor | None,
    seed: int,
    steps: int,
    progress: Progress | None,
) -> None:
    """AdamW with a cosine from 2e-3 to 0, then standardise over (up to 5000) training images."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for step in range(steps):
        rows = torch.randperm(len(images), generator=generator)[:_BATCH]
        loss = _loss(network, images[rows], None if labels is None else labels[rows], generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        if progress:
            progress(step + 1, steps)
    network.eval()
    with torch.no_grad():
        raw = torch.cat([network.raw(part) for part in images[:5000].split(_BATCH)])
        network.centre.copy_(raw.mean(dim=0))
        network.spread.copy_(raw.std(dim=0).clamp_min(1e-6))


def _loss(
    network: FeatureNetwork, x: Tensor, labels: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Cross-entropies of how an image was spoilt, which image it is and its label, added.

    A spoilt image keeps its identity and label, but for one in pieces, which has two.
    """
    spoilt, kinds = corruptions.spoil(corruptions.shift(x, generator), generator)
    features, plain = network.raw(spoilt), network.raw(corruptions.shift(x, generator))
    whole = kinds != corruptions.PIECES
    ours, theirs = (functional.normalize(network.identity(f), dim=1) for f in (features, plain))
    same = torch.arange(len(x))
    loss = functional.cross_entropy(network.spoilt(features), kinds)
    loss = loss + functional.cross_entropy((ours @ theirs.mT / 0.2)[whole], same[whole])
    if labels is not None:
        loss = loss + functional.cross_entropy(network.shown(features[whole]), labels[whole])
    return loss
