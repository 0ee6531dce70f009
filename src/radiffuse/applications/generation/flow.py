"""TarFlow (Zhai et al. 2024): a normalising flow whose density and inverse are exact."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...diffusion.noise import Seeded
from ...nn.tarflow import TarFlow
from ...papers import Paper, by_id
from ...training.objective import device_of
from ..ranges import Rule, at_least
from ..recipe import Batch, check_fitted
from ..sizes import check_stride
from .families import Family

__all__ = ["Flow", "Likelihood"]

LEVELS = 256


class Likelihood:
    """Maximum likelihood of noisy images, nats a dimension.

    Args:
        network: the flow.
        noise: deviation of the Gaussian noise; 0: uniform over a bin of 256 grey values.
    """

    def __init__(self, network: TarFlow, noise: float) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.noise = noise

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """batch["image"] (B, C, *S)."""
        x = batch["image"].float()
        u = (
            torch.randn_like(x) * self.noise
            if self.noise
            else (2 * torch.rand_like(x) - 1) / LEVELS
        )
        z, log_determinant = self.players["network"](x + u)
        squares = 0.5 * z.float().square().flatten(1).sum(1)
        nats = (squares - log_determinant) / x[0].numel() + 0.5 * math.log(2 * math.pi)
        yield "network", nats.mean()


@dataclass(frozen=True)
class Flow(Family):
    """An image's patches one after the other, each an affine function of noise that a causal transformer of the patches
    before it chooses, block after block in alternating order: density and inverse are exact."""

    paper: ClassVar[Paper] = by_id("flow")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("denoised",)
    RULES: ClassVar[dict[str, Rule]] = {"noise": at_least(0), "layers": at_least(1)}
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "batch": 256,
            "learning_rate": 1e-4,
            "betas": (0.9, 0.95),
            "weight_decay": 1e-4,
            "steps": 10_000,
        },
        "small": {
            "batch": 32,
            "learning_rate": 1e-3,
            "betas": (0.9, 0.95),
            "warmup": 100,
            "cooldown": 0.5,
            "precision": "bf16",
            "ema": (0.05,),
            "minutes": 30.0,
        },
        "tiny": {"batch": 8, "learning_rate": 2e-3, "warmup": 10, "steps": 100},
    }

    width: int = 768
    """Width of the transformers."""
    blocks: int = 8
    """Causal blocks."""
    patch: int = 2
    """Side of a patch: a token."""
    layers: int = 8
    """Layers of each block's transformer."""
    noise: float = 0.05
    """Deviation of the noise added in training; 0 = uniform over a bin of 256 grey values, for likelihoods."""
    denoised: bool = True
    """Draws are denoised by the gradient of their own density (Tweedie), where `noise` is not 0."""

    def check_size(self) -> None:
        """Refuse images that patches do not divide.

        Raises:
            UserError: says which size would fit.
        """
        check_stride(self.size, self.patch, "--patch")

    def objective(self) -> Likelihood:
        """Maximum likelihood.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size")
        shape = (len(self.size), self.channels, self.size, self.patch)
        return Likelihood(TarFlow(*shape, self.width, self.blocks, self.layers), self.noise)

    def states(self, objective: Likelihood, noise: Seeded, count: int) -> Iterator[Tensor]:
        """The noise's way through the blocks, and the image without the noise of training."""
        network: Any = objective.players["network"]
        z = self.normal(objective, noise, count, math.prod(network.grid), network.length)
        x = z
        with torch.no_grad():
            for x in network.states(z):
                yield x
        if self.noise and self.denoised:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                (score,) = torch.autograd.grad(network.log_density(x).sum(), x)
            yield (x + self.noise**2 * score).detach()

    def log_density(self, objective: Likelihood, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """log p(x) in nats (B,) of images (B, C, *S): exact, by the change of variables."""
        network: Any = objective.players["network"].eval()
        with torch.no_grad():
            return network.log_density(x.to(device_of(objective))).double().cpu()

    @classmethod
    def small(cls) -> Self:
        return cls(width=192, blocks=6, layers=2, patch=4)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=32, blocks=2, layers=1, patch=4)
