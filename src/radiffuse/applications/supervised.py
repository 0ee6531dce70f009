"""Trained baselines: how they are trained, and those of image-to-image tasks (regression, a GAN told the input).

Trained by the same loop for the same budget as the method they stand beside, into a folder of its
run, where an interrupted training goes on and a finished one is found again.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.noise import derive
from ..diffusion.windows import Windows
from ..nn import UNet
from ..nn.critic import PatchCritic
from ..nn.generator import Direct
from ..training.batches import Readable
from ..training.checkpoint import MODEL
from ..training.loop import Trainable, train
from ..training.options import TrainOptions
from ..training.progress import say

__all__ = [
    "InWindows",
    "Pix2Pix",
    "Regression",
    "Rival",
    "direct_unet",
    "options_like",
    "shares",
    "trained",
    "trained_beside",
]

Batch = dict[str, Tensor]
Kind = TypeVar("Kind", bound=Trainable)


def direct_unet(
    axes: int,
    into: int,
    out: int,
    size: Sequence[int],
    width: int = 32,
    multiples: Sequence[int] = (1, 2, 4, 6),
    squash: bool = True,
) -> Direct:
    """A plain U-Net from one image to another, as deep as the size allows, folded 2^n to 1."""
    patch = 2 if all(side % 2 == 0 for side in size) else 1
    levels = [k for k in range(1, len(multiples) + 1) if _fits(size, patch * 2 ** (k - 1))]
    depth = max(levels, default=1)
    unet = UNet(axes, out, width, tuple(multiples)[:depth], 1, (), patch, condition=into)
    return Direct(unet, out, squash)


def _fits(size: Sequence[int], stride: int) -> bool:
    return all(side % stride == 0 for side in size)


class Regression:
    """One network from the images `given` (concatenated) to `made`, by mean absolute error.

    Args:
        network: (B, C_in, *S) -> (B, C, *S).
        given, made: keys of the batch.
    """

    def __init__(self, network: nn.Module, given: Sequence[str], made: str) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.given, self.made = tuple(given), made

    def told(self, batch: Batch) -> Tensor:
        """The network's input."""
        return torch.cat([batch[key].float() for key in self.given], dim=1)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield "network", F.l1_loss(self.predict(batch), batch[self.made])

    def predict(self, batch: Batch) -> Tensor:
        """The image made (B, C, *S)."""
        return self.players["network"](self.told(batch)).float()


class Pix2Pix(Regression):
    """Regression with a critic that sees input and output patch by patch (Isola et al. 2017).

    Args:
        network: the generator.
        critic: judges (input, output) concatenated.
        given, made: keys of the batch.
        fidelity: factor of the mean absolute error (lambda).
    """

    def __init__(
        self,
        network: nn.Module,
        critic: PatchCritic,
        given: Sequence[str],
        made: str,
        fidelity: float = 100.0,
    ) -> None:
        super().__init__(network, given, made)
        self.players["critic"] = critic
        self.unaveraged = ("critic",)
        self.fidelity = fidelity

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        told, real, critic = self.told(batch), batch[self.made], self.players["critic"]
        with torch.no_grad():
            fake = self.predict(batch)
        judged = [critic(torch.cat([told, image], dim=1)) for image in (real, fake)]
        yield "critic", (F.softplus(-judged[0]).mean() + F.softplus(judged[1]).mean()) / 2
        fake = self.predict(batch)
        fooled = F.softplus(-critic(torch.cat([told, fake], dim=1))).mean()
        yield "network", fooled + self.fidelity * F.l1_loss(fake, real)


class InWindows:
    """A baseline that learns random windows and serves whole images by overlapping ones.

    Args:
        inner: `Regression`, `Pix2Pix`, `segmentation.Segmenter` or the like, of windows.
        windows: which.
        made: key that is learned beside those it is given.
    """

    def __init__(self, inner: Any, windows: Windows, made: str) -> None:
        self.inner, self.windows, self.made = inner, windows, made
        self.players: dict[str, nn.Module] = inner.players
        self.given: tuple[str, ...] = inner.given

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        return self.inner.losses(self.windows.cut(batch, (self.made, *self.given)))

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """What `inner` makes, of images of any size."""

        def apply(cuts: list[Tensor]) -> Tensor:
            return self.inner.predict(dict(zip(self.given, cuts, strict=True)))

        return self.windows.whole(apply, [batch[key] for key in self.given])


def options_like(run: TrainOptions, **changes: Any) -> TrainOptions:
    """Options of a baseline: the run's budget, precision, views and seed, the rest its own."""
    own = {"batch": 8, "learning_rate": 1e-3, "warmup": 50, "cooldown": 0.3, "ema": (0.05,)}
    same = ("steps", "minutes", "precision", "seed", "mirror", "turn", "zoom", "shift")
    kept = {name: getattr(run, name) for name in same}
    return TrainOptions(**{**own, **kept, **changes})


def shares(options: TrainOptions, parts: int) -> list[TrainOptions]:
    """Options of `parts` networks that take a budget together; fewer where there are fewer steps."""
    steps, minutes = options.steps, options.minutes
    if steps is None and minutes is None:
        steps = int(options.budget()[0])
    parts = parts if steps is None else min(parts, steps)
    return [
        dataclasses.replace(
            options,
            steps=None if steps is None else (steps + k) // parts,
            minutes=None if minutes is None else minutes / parts,
            seed=derive(options.seed, "share", k),
        )
        for k in range(parts)
    ]


def trained(objective: Kind, cases: Readable, options: TrainOptions, folder: Path) -> Kind:
    """Train `objective` into `folder`, or go on there, or read what was finished there.

    Returns:
        The same objective with averaged weights, ready to predict.

    Raises:
        UserError: the folder holds a training of other options or data.
    """
    options = dataclasses.replace(options, batch=min(options.batch, max(len(cases), 1)))
    train(objective, cases, options, folder, resume=True, about={"method": folder.name})
    for player in objective.players.values():
        player.eval().requires_grad_(False)
    return objective


@dataclass(frozen=True)
class Rival:
    """A baseline to be trained: how its objective is made, on which cases, for how long."""

    make: Callable[[], Trainable]
    cases: Readable
    options: TrainOptions


def trained_beside(rivals: Mapping[str, Rival], run: Path) -> dict[str, Any]:
    """Each of `rivals` `trained` in RUN/baseline-NAME; says beforehand how long all of them take.

    Initial weights depend on the seed of the options alone.
    """
    folders = {name: run / f"baseline-{name.replace('_', '-')}" for name in rivals}
    new = [name for name, folder in folders.items() if not (folder / MODEL).is_file()]
    if new:
        each = ", ".join(f"{name} {_budget(rivals[name].options)}" for name in new)
        say(f"{run}: training what the method is compared with, once: {each}")
    found = {}
    for name, rival in rivals.items():
        torch.manual_seed(derive(rival.options.seed, "baseline"))
        found[name] = trained(rival.make(), rival.cases, rival.options, folders[name])
    return found


def _budget(options: TrainOptions) -> str:
    """A budget in words."""
    steps, seconds = options.budget()
    return f"{seconds / 60:g} min" if options.minutes else f"{steps:.0f} steps"
