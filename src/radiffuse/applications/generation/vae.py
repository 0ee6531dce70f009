"""A hierarchical variational auto-encoder (VDVAE, Child 2021) with Gaussian images of learned deviation."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...diffusion.noise import Seeded, derive
from ...nn.hierarchy import Hierarchy
from ...papers import Paper, by_id
from ...training.objective import device_of
from ..ranges import Rule, at_least
from ..recipe import Batch, check_fitted
from .families import Leveled

__all__ = ["VAE", "Bound", "evidence", "importance"]

LEVELS = 256
Inferred = tuple[Tensor, Tensor, Tensor, Tensor]
Network = Callable[..., Inferred]


def log_normal(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log N(x; mean, scale^2) of images (B, C, *S) in nats, (B,)."""
    each = -0.5 * ((x - mean) * torch.exp(-log_scale)).square() - log_scale
    return each.flatten(1).sum(1) - 0.5 * math.log(2 * math.pi) * x[0].numel()


def evidence(network: Network, x: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    r"""The bound $E_q\log p(x\mid z) - \sum_l KL(q_l\,\|\,p_l) \le \log p(x)$ by one draw, in nats (B,)."""
    mean, log_scale, divergences, _ = network(x, draw)
    return log_normal(x, mean, log_scale) - divergences.sum(1)


def importance(
    network: Network, x: Tensor, draw: Callable[[Tensor], Tensor], samples: int
) -> Tensor:
    r"""$\log\frac1K\sum_k p(x, z_k)/q(z_k\mid x)$ in nats (B,): between the bound and log p(x) in expectation.

    Burda et al. 2016 (importance weighted auto-encoders).
    """
    logs = []
    for _ in range(samples):
        mean, log_scale, _, ratios = network(x, draw)
        logs.append((log_normal(x, mean, log_scale) + ratios.sum(1)).double())
    return torch.logsumexp(torch.stack(logs), 0) - math.log(samples)


class Bound:
    """The negative bound in nats a dimension, its divergences warmed up and none pressed below the free bits.

    The buffer `seen` of the network counts its steps, so that a warm-up goes on where it was cut.

    Args:
        network: prior, posterior and image.
        warmup: steps over which the weight of the divergences rises from 0 to 1.
        free: nats a group of latents may have for nothing (Kingma et al. 2016, free bits).
    """

    def __init__(self, network: Hierarchy, warmup: int, free: float) -> None:
        network.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.players: dict[str, nn.Module] = {"network": network}
        self.warmup, self.free = warmup, free

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """batch["image"] (B, C, *S), spread over a bin of 256 grey values."""
        network: Any = self.players["network"]
        x = batch["image"].float()
        x = x + (2 * torch.rand_like(x) - 1) / LEVELS
        mean, log_scale, divergences, _ = network(x)
        step = int(network.seen) + 1
        weight = min(1.0, step / self.warmup) if self.warmup else 1.0
        kept = divergences.mean(0).clamp_min(self.free).sum()
        nats = weight * kept - log_normal(x, mean, log_scale).mean()
        yield "network", nats / x[0].numel()
        network.seen.fill_(step)  # after the yield: every micro-batch of a step comes by here


@dataclass(frozen=True)
class VAE(Leveled):
    """Latents of many groups from the coarsest grid to the finest, prior and posterior sharing the way down, and an
    image whose deviation is learned voxel by voxel: a bound of the density."""

    paper: ClassVar[Paper] = by_id("vae")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("weighed",)
    RULES: ClassVar[dict[str, Rule]] = {
        "latent": at_least(1),
        "divergence_warmup": at_least(0),
        "free": at_least(0),
        "weighed": at_least(1),
    }
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "batch": 32,
            "learning_rate": 2e-4,
            "betas": (0.9, 0.9),
            "weight_decay": 0.01,
            "clip": 200.0,
            "steps": 1_050_000,
        },
        "small": {
            "batch": 32,
            "learning_rate": 1e-3,
            "betas": (0.9, 0.99),
            "warmup": 100,
            "cooldown": 0.5,
            "precision": "bf16",
            "ema": (0.05,),
            "minutes": 30.0,
        },
        "tiny": {"batch": 8, "learning_rate": 2e-3, "warmup": 10, "steps": 100},
    }

    width: int = 384
    multiples: tuple[int, ...] = (1, 1, 1, 1, 1, 1)
    blocks: int = 8
    latent: int = 16
    """Channels of a group of latents."""
    divergence_warmup: int = 0
    """Steps over which the divergences come to count in full."""
    free: float = 0.0
    """Nats that each group of latents has for nothing."""
    weighed: int = 16
    """Draws of the importance-weighted bound that an evaluation computes."""

    def objective(self) -> Bound:
        """The bound.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size")
        shape = (len(self.size), self.channels, self.size, self.widths, self.blocks)
        return Bound(Hierarchy(*shape, self.latent, self.patch), self.divergence_warmup, self.free)

    def states(self, objective: Bound, noise: Seeded, count: int) -> Iterator[Tensor]:
        """The mean of the image given latents from the prior, of one pass."""
        network: Any = objective.players["network"]
        device = device_of(objective)
        with torch.no_grad():
            yield network.drawn(count, lambda like: noise(like.cpu()).to(device))

    def log_density(self, objective: Bound, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """A bound of log p(x) in nats (B,) of images (B, C, *S): importance-weighted, of `weighed` draws."""
        network: Any = objective.players["network"].eval()
        device, noise = device_of(objective), Seeded(derive(seed, "latents") for seed in seeds)
        with torch.no_grad():
            return importance(
                network, x.to(device), lambda like: noise(like.cpu()).to(device), self.weighed
            ).cpu()

    @classmethod
    def small(cls) -> Self:
        return cls(
            width=32,
            multiples=(1, 2, 4, 6),
            blocks=2,
            patch=2,
            latent=8,
            divergence_warmup=300,
            free=0.5,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=16, multiples=(1, 2), blocks=1, patch=2, latent=4)
