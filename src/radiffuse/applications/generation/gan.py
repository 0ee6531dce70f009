"""R3GAN (Huang et al. 2024), with the adaptive augmentation of StyleGAN2-ADA (Karras et al. 2020)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.noise import Seeded
from ...nn.adaptive import Adaptive
from ...nn.r3gan import FromNoise, ToValue
from ...papers import Paper, by_id
from ..ranges import SHARE, Rule, at_least
from ..recipe import Batch, check_fitted
from .families import Leveled

__all__ = ["GAN", "Game"]


class Critic(nn.Module):
    """A critic and what is done to the images before it sees them."""

    def __init__(self, value: ToValue, adaptive: Adaptive) -> None:
        super().__init__()
        self.value, self.adaptive = value, adaptive

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S); (B,)."""
        return self.value(x)


class Game:
    r"""Generator against critic, every real image judged beside a made one.

    $\min_G\max_D E\,[-f(D(G(z)) - D(x))] - \tfrac\gamma2(R_1 + R_2)$, f the softplus, and
    $R_1 = E\|\nabla D(x)\|^2$, $R_2 = E\|\nabla D(G(z))\|^2$ (equations 2 and 3). With both penalties the game
    converges locally (proposition 3.2); with pairs no mode of the data can be dropped at a local minimum (section 3.1).

    Args:
        generator, critic: the networks.
        penalty: gamma.
    """

    unaveraged = ("critic",)
    GAME = True
    """The losses are those of a game, and need not fall."""

    def __init__(self, generator: FromNoise, critic: Critic, penalty: float) -> None:
        self.players: dict[str, nn.Module] = {"generator": generator, "critic": critic}
        self.latent, self.adaptive, self.penalty = generator.latent, critic.adaptive, penalty

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """The critic's turn, then the generator's. batch["image"] (B, C, *S)."""
        real, critic = batch["image"], self.players["critic"]
        with torch.no_grad():
            fake = self.made(real)
        yield "critic", self.told_apart(self.adaptive(real), self.adaptive(fake))
        fake = self.adaptive(self.made(real))
        yield "generator", F.softplus(critic(self.adaptive(real)) - critic(fake)).float().mean()

    def made(self, like: Tensor) -> Tensor:
        """As many images as `like` has."""
        z = torch.randn(len(like), self.latent, device=like.device)
        return self.players["generator"](z).float()

    def told_apart(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's loss with its penalties."""
        # the gradient of a gradient asks for float32
        with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
            shown = [each.detach().float().requires_grad_() for each in (real, fake)]
            judged = [self.players["critic"](each) for each in shown]
            slopes = torch.autograd.grad(
                judged[0].sum() + judged[1].sum(), shown, create_graph=True
            )
            self.adaptive.told(judged[0] - judged[1])
            steep = sum(slope.flatten(1).square().sum(1).mean() for slope in slopes)
            return F.softplus(judged[1] - judged[0]).mean() + self.penalty / 2 * steep


@dataclass(frozen=True)
class GAN(Leveled):
    """Generator against critic in pairs of a real and a made image, both gradients of the critic penalised: R3GAN."""

    paper: ClassVar[Paper] = by_id("gan")
    RULES: ClassVar[dict[str, Rule]] = {
        "latent": at_least(1),
        "penalty": at_least(0),
        "augment": SHARE,
        "pace": at_least(1),
    }
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "batch": 512,
            "learning_rate": 2e-4,
            "betas": (0.0, 0.99),
            "warmup": 0,
            "clip": 0.0,
            "steps": 390_000,
        },
        "small": {
            "batch": 32,
            "learning_rate": 4e-4,
            "betas": (0.0, 0.99),
            "warmup": 50,
            "cooldown": 0.5,
            "clip": 0.0,
            "precision": "bf16",
            "ema": (0.05,),
            "minutes": 30.0,
        },
        "tiny": {"batch": 8, "learning_rate": 1e-3, "betas": (0.0, 0.99), "steps": 100},
    }

    width: int = 768
    multiples: tuple[int, ...] = (1, 1, 1, 1)
    latent: int = 64
    """Length of the latent z."""
    penalty: float = 0.05
    """Factor of both gradient penalties, gamma."""
    augment: float = 0.0
    """Adapt the changes of what the critic sees to this share of pairs told apart; 0 = change nothing."""
    pace: int = 500_000
    """Images that take the probability of a change from 0 to 1."""

    def objective(self) -> Game:
        """The game.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size")
        shape = (len(self.size), self.channels, self.size, self.widths, self.blocks)
        generator = FromNoise(*shape, self.latent, self.patch)
        critic = Critic(ToValue(*shape, self.patch), Adaptive(self.augment, self.pace))
        return Game(generator, critic, self.penalty)

    def states(self, objective: Game, noise: Seeded, count: int) -> Iterator[Tensor]:
        """The image, of one pass."""
        z = self.normal(objective, noise, count, self.latent)
        yield objective.players["generator"](z).float()

    @classmethod
    def small(cls) -> Self:
        return cls(
            width=32,
            multiples=(1, 2, 4, 12),
            patch=2,
            penalty=1.0,
            augment=0.6,
            pace=100_000,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            width=8,
            multiples=(1, 2),
            blocks=1,
            patch=2,
            latent=8,
            penalty=0.1,
            augment=0.6,
            pace=1000,
        )
