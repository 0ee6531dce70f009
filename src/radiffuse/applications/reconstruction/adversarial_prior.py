"""An adversarial diffusion of images alone: a generator of large steps and a critic of its states."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.noise import Noise
from ...nn import UNet
from ...nn.critic import PairCritic
from ...nn.generator import LatentUNet
from ..large_steps import LargeSteps, large_steps
from ..recipe import Batch

__all__ = ["AdversarialPrior", "players_of"]


def players_of(recipe: Any) -> dict[str, nn.Module]:
    """The generator "network" and the critic "judge" of a recipe's fields."""
    axes, patch = len(recipe.size), recipe.patch
    unet = UNet(axes, recipe.channels, recipe.width, **recipe.unet_shape(), vector=recipe.mapped)
    return {
        "network": LatentUNet(unet, recipe.latent, recipe.mapped),
        "judge": PairCritic(
            axes, recipe.channels, recipe.critic_width, recipe.critic_levels, patch
        ),
    }


class AdversarialPrior(LargeSteps):
    r"""The critic's turn, then the generator's; as in the paper no other loss says what images are.

    $L_D = \mathrm{softplus}(-D(x_s, x_t)) + \mathrm{softplus}(D(x'_s, x_t)) + \tfrac{\gamma}{2} R_1$ (R1 every
    so many steps), $L_G = \mathrm{softplus}(-D(x'_s, x_t))$ with $x'_s \sim q(x_s \mid x_t, G(x_t, t, z))$. With
    a fidelity $\lambda > 0$, which the paper has not, $L_G$ has $\lambda\,|x_0 - G(x_t, t, z)|$ too, a mean over
    voxels: in trainings of minutes the critic alone tells the generator next to nothing.

    Args:
        recipe: a fitted recipe, whose fields describe the networks and the losses.
        images: batch -> x_0 (B, C, *S).
    """

    def __init__(self, recipe: Any, images: Callable[[Batch], Tensor]) -> None:
        super().__init__(large_steps(recipe.timesteps), recipe.penalty, recipe.penalty_every)
        self.players, self.images, self.latent = players_of(recipe), images, recipe.latent
        self.rates, self.fidelity = {"network": recipe.generator_rate}, recipe.fidelity
        self.unaveraged = ("judge",)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x_0 = self.images(batch)
        seen = self.players["judge"].seen
        assert isinstance(seen, Tensor)
        step = int(seen)
        yield "judge", self.of_critic(x_0, due=step % self.every == 0)
        yield "network", self.of_generator(x_0)
        seen.fill_(step + 1)  # not += 1: every micro-batch of a step comes by here

    def of_critic(self, x_0: Tensor, due: bool) -> Tensor:
        """The critic's loss, with the penalty where it is due."""
        judge = self.players["judge"]
        x_s, x_t, t = self.states(x_0)
        with torch.no_grad():
            made = self.drawn_before(x_t, self.estimate(x_t, t, self.noise), t, self.noise)
        loss = self.told_apart(judge, x_s, made, x_t, t)
        return loss + self.penalty / 2 * self.slope(judge, x_s, x_t, t) if due else loss

    def of_generator(self, x_0: Tensor) -> Tensor:
        """The generator's loss; the critic stands still."""
        _, x_t, t = self.states(x_0)
        estimate = self.estimate(x_t, t, self.noise)
        made = self.drawn_before(x_t, estimate, t, self.noise)
        loss = F.softplus(-self.judged(self.players["judge"], made, x_t, t)).mean()
        return loss + self.fidelity * F.l1_loss(estimate, x_0) if self.fidelity else loss

    def estimate(self, x_t: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """What the generator draws of x_0 at x_t, t (B,), with a new latent."""
        return self.made(self.players["network"], x_t, t, self.latents(x_t, noise))

    def made(self, generator: Callable[..., Tensor], x_t: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """What a generator makes at x_t, t (B,), of the latent z (B, latent)."""
        made: Tensor = generator(x_t, self.clock(t, x_t), z).float()
        return made

    def latents(self, like: Tensor, noise: Noise) -> Tensor:
        """A latent of each case, (B, latent)."""
        return noise(like.new_empty(len(like), self.latent))
