"""Features in which sets of images are compared: a small network trained on the data itself.

Inception's features come from photographs in colour; a network that has learned the very data is
smaller, works for any modality and any number of axes, and needs no download. It learns two things
at once, so that its features see anatomy and realism:

- what is shown: which image it is (instance discrimination: find the same image, moved by a few
  pixels, in a batch; InfoNCE, van den Oord et al. 2018), and its label where there are labels.
  Labels alone would leave a handful of directions that say the class and nothing of the rest;
- how far the image is from what it should be: for each of nine faults (`corruptions`) the network says
  whether its strength exceeds 0, 1/4, 1/2 and 3/4 (ordinal regression by binary thresholds, Frank &
  Hall 2001). Invariance to these, the usual self-supervised training, would make the distance blind
  to just the faults that generated images have.

24 features: the 15 leading principal components of what tells images apart, whitened, and the nine grades,
standardised, both over the training images. Real images hardly vary in a grade, so that a fault lies many
deviations away. So few leave the covariance of the Frechet distance well determined: its floor, real
images against real ones, grows as d^2 / n. `benchmarks/features.py` measures floor, faults and a Gaussian.
What the features see least is a small smooth deformation of an intact image. An evaluation of generated pictures
joins the features of several networks (`joined`).

The first 12 hex digits of the SHA-256 of the weights name the features: numbers compare only under one name.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UserError
from ..nn.blocks import conv
from ..training.tensorfile import metadata_of, opened, save
from . import corruptions

STEPS = 700
FEWEST = 8
"""Training images without which no network is trained."""
SHOWN, LEVELS = 15, 4
DIMENSION = SHOWN + len(corruptions.KINDS)
_VERSION = "features-2"
_HIDDEN = 64
_WIDTHS, _DEEPER = (24, 48, 96), (0, 1)
_BATCH = 50
_SMALLEST = 1e-4
Progress = Callable[[int, int], None]


class _Block(nn.Module):
    """x + convolution(SiLU(norm x))."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.GroupNorm(1, width), nn.SiLU(), conv(axes, width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FeatureNetwork(nn.Module):
    """Stages of a strided convolution and a residual block down to about 4 pixels a side, then 64 numbers
    of all of these, and 24 features of these numbers.

    Attributes:
        body: a `nn.Sequential` of stages; after k of them a place is 2^k voxels a side.

    Args:
        channels: of the images.
        size: their spatial size S, any number of axes.
        outputs: classes, or 0 where there are no labels.
    """

    axes: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int, size: tuple[int, ...], outputs: int = 0) -> None:
        super().__init__()
        depth = max(2, min(5, round(math.log2(max(8, min(size)) / 4))))
        self.body = nn.Sequential()
        before = channels
        for number in range(depth):
            width = _WIDTHS[min(number, len(_WIDTHS) - 1)]
            deeper = _DEEPER[min(number, len(_DEEPER) - 1)]
            stage: list[nn.Module] = [conv(len(size), before, width, stride=2)]
            stage += [_Block(len(size), width) for _ in range(deeper)]
            self.body.append(nn.Sequential(*stage, nn.GroupNorm(1, width), nn.SiLU()))
            before = width
        left = math.prod(math.ceil(side / 2**depth) for side in size)
        self.project = nn.Linear(before * left, _HIDDEN)
        self.identity = nn.Linear(_HIDDEN, _HIDDEN)
        self.shown = nn.Linear(_HIDDEN, max(1, outputs))
        self.graded = nn.Linear(_HIDDEN, len(corruptions.KINDS) * LEVELS)
        self.register_buffer("axes", torch.eye(_HIDDEN, SHOWN))
        self.register_buffer("centre", torch.zeros(DIMENSION))
        self.register_buffer("spread", torch.ones(DIMENSION))

    def hidden(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` in [-1, 1] -> `(B, 64)`, what all heads read."""
        hidden: Tensor = self.project(self.body(x).flatten(1))
        return hidden

    def grades(self, hidden: Tensor) -> Tensor:
        """`(B, 64)` -> `(B, 9)`: mean logits of each fault."""
        logits: Tensor = self.graded(hidden)
        return logits.unflatten(1, (-1, LEVELS)).mean(dim=2)

    def described(self, hidden: Tensor) -> Tensor:
        """`(B, 64)` -> `(B, 24)`: components of what is shown, and mean logits of each fault."""
        return torch.cat([self.identity(hidden) @ self.axes, self.grades(hidden)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` in [-1, 1] -> `(B, 24)`, standardised over the training images."""
        return (self.described(self.hidden(x)) - self.centre) / self.spread


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
        steps: of 50 images; None: 700 up to 64x64, fewer for larger images as the root of their voxels, at
            least 150. On one core about three minutes at 64x64, five at 128x128.
        progress: called with (step, steps).

    Raises:
        UserError: fewer than `FEWEST` images, or a cached file that cannot be read.
    """
    if len(images) < FEWEST:
        raise UserError(
            f"a feature network needs {FEWEST} training images, there are {len(images)}"
        )
    outputs = _classes(labels)
    network = _initial(images, outputs, seed)
    steps = steps or min(
        STEPS, max(150, round(STEPS * (4096 / math.prod(images.shape[2:])) ** 0.5))
    )
    path = cache and cache / f"features-{fingerprint[:12]}-{seed}.safetensors"
    if path and path.exists() and kept(network, path, _about(fingerprint, outputs, steps)):
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


def kept(network: nn.Module, path: Path, about: dict[str, str]) -> bool:
    """Load cached weights; False where they are of other data or another version.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    try:
        with opened(path) as file:
            if metadata_of(file) != about:
                return False
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except UserError as error:
        raise UserError(f"{error}; delete it") from None
    except RuntimeError as error:
        raise UserError(f"{path}: not a readable feature network ({error}); delete it") from None
    return True


def fit(
    network: nn.Module, loss: Callable[[], Tensor], steps: int, progress: Progress | None
) -> None:
    """AdamW, its rate rising to 2e-3 over a tenth of the steps and falling as a cosine."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    network.train()
    for step in range(steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        rate.step()
        if progress:
            progress(step + 1, steps)
    network.eval()


def _fit(
    network: FeatureNetwork,
    images: Tensor,
    labels: Tensor | None,
    seed: int,
    steps: int,
    progress: Progress | None,
) -> None:
    """`fit`, then `_standardise`."""
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        rows = torch.randperm(len(images), generator=generator)[:_BATCH]
        return _loss(network, images[rows], None if labels is None else labels[rows], generator)

    fit(network, loss, steps, progress)
    _standardise(network, images[torch.randperm(len(images), generator=generator)[:5000]])


@torch.no_grad()
def _standardise(network: FeatureNetwork, images: Tensor) -> None:
    """Principal axes of what is shown, then mean and deviation of all features over these images."""
    hidden = torch.cat([network.hidden(part) for part in images.split(_BATCH)])
    _, axes = torch.linalg.eigh(torch.cov(network.identity(hidden).double().mT))
    network.axes.copy_(axes[:, -SHOWN:])
    found = network.described(hidden)
    spread = found.std(dim=0)
    network.centre.copy_(found.mean(dim=0))
    network.spread.copy_(spread.clamp_min(_SMALLEST * float(spread.max())))


def _loss(
    network: FeatureNetwork, x: Tensor, labels: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Cross-entropies of how much an image was spoilt, which image it is and its label, added.

    Spoilt images and intact ones are graded; those that no longer show one image
    (`corruptions.LOST`) are left out of the rest.
    """
    spoilt, kinds, strength = corruptions.spoil(corruptions.shift(x, generator), generator)
    hidden = network.hidden(torch.cat([spoilt, corruptions.shift(x, generator)]))
    grades = _thresholds(kinds, strength)
    grades = torch.cat([grades, torch.zeros_like(grades)]).flatten(1)
    graded = functional.binary_cross_entropy_with_logits(
        network.graded(hidden), grades, reduction="sum"
    )
    loss = graded / (len(x) * LEVELS)
    shows = (kinds == 0) | (kinds > corruptions.LOST)
    ours, theirs = functional.normalize(network.identity(hidden), dim=1).chunk(2)
    loss = loss + functional.cross_entropy((ours @ theirs.mT / 0.2)[shows], shows.nonzero()[:, 0])
    if labels is not None:
        kept = torch.cat([shows, torch.ones_like(shows)])
        told = torch.cat([labels, labels])[kept]
        loss = loss + functional.cross_entropy(network.shown(hidden[kept]), told)
    return loss


def _thresholds(kinds: Tensor, strength: Tensor) -> Tensor:
    """`(B, faults, LEVELS)`: 1 where a fault is there and stronger than 0, 1/4, 1/2, 3/4; 0 elsewhere."""
    over = (strength[:, None] > torch.arange(LEVELS) / LEVELS).float()
    which = functional.one_hot(kinds, 1 + len(corruptions.KINDS))[:, 1:]
    return which[:, :, None] * over[:, None]
