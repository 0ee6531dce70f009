"""An energy-based model trained by short Langevin chains from a replay buffer (Du & Mordatch 2019)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...diffusion.noise import Seeded
from ...nn.energy import Energy
from ...papers import Paper, by_id
from ...training.objective import device_of
from ..ranges import SHARE, Rule, at_least, more_than
from ..recipe import Batch, check_fitted
from .families import Leveled

__all__ = ["EBM", "Contrast", "Walk"]

_SHORTER: dict[str, Any] = {"rate": 10.0, "noise": 0.005, "longest": 0.1}
"""Steps of the presets that train in minutes."""


@dataclass(frozen=True)
class Walk:
    r"""Langevin steps $x \leftarrow x - \mathrm{clip}(\eta\,\nabla E(x)) + s\,\varepsilon$, bounded where asked.

    With $s^2 = 2\eta$, no clipping and small steps its law is $e^{-E}$; a smaller s is a colder, shorter chain.

    Attributes:
        rate: eta.
        noise: s.
        longest: largest move of a voxel along the gradient; 0 = any.
        bounded: whether images are kept to [-1, 1].
    """

    rate: float
    noise: float
    longest: float = 0.0
    bounded: bool = True

    def __call__(
        self, energy: Callable[[Tensor], Tensor], x: Tensor, draw: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """One step of x (B, C, *S)."""
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(energy(at).sum(), at)
        move = self.rate * slope.float()
        if self.longest:
            move = move.clamp(-self.longest, self.longest)
        x = x.detach() - move + self.noise * draw(x)
        return x.clamp(-1, 1) if self.bounded else x


class Contrast:
    r"""$E(x^+) - E(x^-) + \lambda(E(x^+)^2 + E(x^-)^2)$: images against the ends of short chains.

    The gradient of the first two is that of the negative log-likelihood where chains have the model's law. It rests
    where images and ends of chains have the same mean slope of E in its weights: kept chains of small steps learn
    $-T\log p$ at their temperature $T = s^2/2\eta$; with large steps, or few of them from noise, the energy is the one
    whose chains end like the data (Nijkamp et al. 2019), which is not that of their density.

    Args:
        energy: the network, with its pool.
        walk: a step of a chain.
        steps: of a chain.
        restart: share of chains that begin at noise.
        magnitude: lambda.
        blur: deviation of the noise added to images.
    """

    GAME = True
    """The chains follow the energy, so that its contrast need not fall."""

    def __init__(
        self, energy: Energy, walk: Walk, steps: int, restart: float, magnitude: float, blur: float
    ) -> None:
        self.players: dict[str, nn.Module] = {"energy": energy}
        self.walk, self.steps, self.restart = walk, steps, restart
        self.magnitude, self.blur = magnitude, blur

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """batch["image"] (B, C, *S)."""
        energy: Any = self.players["energy"]
        real = batch["image"].float()
        real = real + self.blur * torch.randn_like(real)
        fake, places = energy.begun(real, self.restart)
        for _ in range(self.steps):
            fake = self.walk(energy, fake, torch.randn_like)
        energy.keep(fake, places)
        of_real, of_fake = energy(torch.cat([real, fake])).float().chunk(2)
        large = of_real.square().mean() + of_fake.square().mean()
        yield "energy", of_real.mean() - of_fake.mean() + self.magnitude * large


@dataclass(frozen=True)
class EBM(Leveled):
    """An energy whose slope short Langevin chains follow from kept ends of earlier chains; images are made deeper and
    the ends of chains shallower, until chains end at images."""

    paper: ClassVar[Paper] = by_id("ebm")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("steps", "from_noise")
    RULES: ClassVar[dict[str, Rule]] = {
        "chain": at_least(1),
        "steps": at_least(1),
        "rate": more_than(0),
        "noise": at_least(0),
        "longest": at_least(0),
        "kept": at_least(1),
        "restart": SHARE,
        "magnitude": at_least(0),
        "blur": at_least(0),
    }
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "batch": 128,
            "learning_rate": 3e-4,
            "betas": (0.0, 0.999),
            "warmup": 0,
            "clip": 0.0,
            "steps": 121_200,
        },
        "small": {
            "batch": 32,
            "learning_rate": 2e-4,
            "betas": (0.0, 0.999),
            "warmup": 50,
            "cooldown": 0.3,
            "clip": 1.0,
            "precision": "bf16",
            "ema": (0.05,),
            "minutes": 30.0,
        },
        "tiny": {"batch": 8, "learning_rate": 1e-3, "betas": (0.0, 0.999), "steps": 100},
    }

    width: int = 128
    multiples: tuple[int, ...] = (1, 1, 2, 4)
    chain: int = 60
    """Langevin steps in training."""
    steps: int = 60
    """Langevin steps of a draw."""
    rate: float = 40.0
    """Factor of the energy's gradient in a step."""
    noise: float = 0.01
    """Deviation of the noise of a step."""
    longest: float = 0.2
    """Largest move of a voxel along the gradient; 0 = any."""
    kept: int = 10_000
    """Ends of chains that are kept, with the weights."""
    restart: float = 0.05
    """Share of chains that begin at noise."""
    magnitude: float = 1.0
    """Factor of the squared energies."""
    blur: float = 0.0023
    """Deviation of the noise added to images."""
    from_noise: bool = False
    """Draw by chains from noise, not from the kept ends of chains."""

    @property
    def walk(self) -> Walk:
        """A step of a chain."""
        return Walk(self.rate, self.noise, self.longest)

    def objective(self) -> Contrast:
        """The contrast.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size")
        shape = (len(self.size), self.channels, self.size, self.widths, self.blocks)
        energy = Energy(*shape, self.patch, self.kept)
        options = (self.chain, self.restart, self.magnitude, self.blur)
        return Contrast(energy, self.walk, *options)

    def states(self, objective: Contrast, noise: Seeded, count: int) -> Iterator[Tensor]:
        """The chain, from a kept end of another or from noise."""
        energy: Any = objective.players["energy"]
        device = device_of(objective)
        x = 2 * noise.uniform(torch.zeros(count, self.channels, *self.size)) - 1
        choice = noise.uniform(torch.zeros(count, 1))[:, 0]
        if not self.from_noise and int(energy.filled):
            x = energy.pool[(choice * int(energy.filled)).long().to(energy.pool.device)]
        x = x.to(device)
        yield x
        for _ in range(self.steps):
            x = self.walk(energy, x, lambda like: noise(like.cpu()).to(device))
            yield x

    @classmethod
    def small(cls) -> Self:
        return cls(
            width=48,
            multiples=(1, 2, 4, 8),
            blocks=1,
            patch=2,
            chain=20,
            steps=20,
            kept=1024,
            magnitude=0.1,
            blur=0.02,
            **_SHORTER,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            width=8,
            multiples=(1, 2),
            blocks=1,
            patch=2,
            chain=4,
            steps=4,
            kept=16,
            magnitude=0.1,
            **_SHORTER,
        )
