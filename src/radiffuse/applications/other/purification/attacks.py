r"""Attacks of a classifier: an image within $\|x'-x\|_\infty \le \epsilon$, in [0, 1], taken for something else.

FGSM (Goodfellow et al. 2015) and PGD (Madry et al. 2018) are one function; told the gradient through a defence it is
BPDA with EOT (Athalye et al. 2018). Auto-PGD is a library's.
"""

import contextlib
import importlib.util
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....diffusion.noise import Seeded, derive
from ....errors import UserError
from .multiscale import check_unit

__all__ = [
    *("ATTACKS_MISSING", "Defence", "OfUnit", "Slope"),
    *("adaptive", "ascent", "auto_pgd", "fgsm", "has_auto_pgd", "pgd", "slope_of", "slope_through"),
]

Slope = Callable[[Tensor], Tensor]
"""The direction in which an image (B, C, *S) in [0, 1] becomes another class."""
Defence = Callable[[Tensor, list[int]], Tensor]
"""Images (B, C, *S) in [0, 1], and a seed of each, to purified images."""

ATTACKS_MISSING = "Auto-PGD needs a library: pip install 'radiffuse[attacks]'"


class OfUnit(nn.Module):
    """A classifier of images in [-1, 1] for those in [0, 1], (B, C, *S) -> logits (B, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(2 * x - 1).float()


def ascent(
    slope: Slope, x: Tensor, eps: float, steps: int, size: float, start: Seeded | None = None
) -> Tensor:
    r"""$x' \leftarrow \mathrm{clip}(x' + a\,\mathrm{sign}\,g(x'))$ into the box about x and [0, 1].

    Args:
        slope: g.
        x: images (B, C, *S) in [0, 1].
        eps: epsilon.
        steps: 1 with `size` = eps from x itself is FGSM; more are PGD.
        size: a.
        start: draws the beginning uniformly in the box; None begins at x.

    Raises:
        UserError: images outside [0, 1].
    """
    check_unit(x)
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    moved = x if start is None else x + eps * (2 * start.uniform(x) - 1)
    moved = moved.clamp(low, high)
    for _ in range(steps):
        moved = (moved + size * slope(moved).sign()).clamp(low, high)
    return moved


def slope_of(logits: nn.Module, label: Tensor) -> Slope:
    """The gradient of the cross-entropy of `label` (B,); `logits` takes images in [0, 1]."""

    def slope(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(logits(x), label, reduction="sum")
        return torch.autograd.grad(loss, x)[0]

    return slope


def slope_through(
    defence: Defence, logits: nn.Module, label: Tensor, seeds: Sequence[int], draws: int
) -> Slope:
    """That gradient at purified images, mean over draws, new at every call; the defence counts as the identity."""
    inner, calls = slope_of(logits, label), itertools.count()

    def slope(x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for call in itertools.islice(calls, draws):
            with torch.no_grad():
                seen = defence(x, [derive(seed, "attacker", call) for seed in seeds])
            total += inner(seen)
        return total / draws

    return slope


def fgsm(logits: nn.Module, x: Tensor, label: Tensor, eps: float) -> Tensor:
    """One step of eps from the image itself (Goodfellow et al. 2015)."""
    return ascent(slope_of(logits, label), x, eps, 1, eps)


def pgd(
    logits: nn.Module, x: Tensor, label: Tensor, eps: float, steps: int, seeds: Sequence[int]
) -> Tensor:
    """Steps of 2.5 eps / steps from a random place in the box (Madry et al. 2018)."""
    return _from_anywhere(slope_of(logits, label), x, eps, steps, seeds)


def adaptive(
    defence: Defence,
    logits: nn.Module,
    x: Tensor,
    label: Tensor,
    eps: float,
    steps: int,
    seeds: Sequence[int],
    draws: int,
) -> Tensor:
    """PGD of an attacker who knows the defence: BPDA, with EOT over `draws` in each step (Athalye et al. 2018)."""
    slope = slope_through(defence, logits, label, seeds, draws)
    return _from_anywhere(slope, x, eps, steps, seeds)


def _from_anywhere(slope: Slope, x: Tensor, eps: float, steps: int, seeds: Sequence[int]) -> Tensor:
    start = Seeded(derive(seed, "attack") for seed in seeds)
    return ascent(slope, x, eps, steps, 2.5 * eps / steps, start)


def has_auto_pgd() -> bool:
    """Whether the library of `auto_pgd` is installed."""
    return importlib.util.find_spec("art") is not None


def auto_pgd(
    logits: nn.Module, x: Tensor, label: Tensor, eps: float, steps: int, classes: int, seed: int = 0
) -> Tensor:
    """Auto-PGD on the cross-entropy (Croce & Hein 2020), of the Adversarial Robustness Toolbox.

    Args:
        logits: of images in [0, 1].
        x, label: images (B, C, *S) in [0, 1] and their classes (B,).
        eps, steps: see `ascent`; the first step is 2 eps, as in the paper.
        classes: that the network knows.
        seed: of the beginning.

    Raises:
        UserError: the library is missing, or images are outside [0, 1].
    """
    check_unit(x)
    if not has_auto_pgd():
        raise UserError(ATTACKS_MISSING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import AutoProjectedGradientDescent
        from art.estimators.classification import PyTorchClassifier
    device = "gpu" if x.is_cuda else "cpu"
    seen = PyTorchClassifier(
        logits,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        classes,
        clip_values=(0.0, 1.0),
        device_type=device,
    )
    attack = AutoProjectedGradientDescent(
        seen,
        eps=eps,
        eps_step=2 * eps,
        max_iter=steps,
        nb_random_init=1,
        batch_size=len(x),
        verbose=False,
    )
    with _seeded(seed):
        found = attack.generate(x.detach().cpu().numpy(), label.cpu().numpy())
    return torch.from_numpy(found).to(x)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator from a seed, and back to where it was."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
