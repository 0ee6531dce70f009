"""What stands beside tiles drawn by their class: a GAN told the class, trained as long as the method."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....diffusion.noise import Seeded
from ....nn.critic import ProjectionCritic
from ....nn.generator import FromLatent
from ....training.objective import device_of
from ...recipe import Batch

__all__ = ["GAN", "gan_of"]


class GAN:
    r"""A generator of the class against a critic of the class, each image judged beside one of the other kind.

    $\min_G\max_D E\,[-f(D(G(z, y), y) - D(x, y))] - \tfrac\gamma2(R_1 + R_2)$, f the softplus: the relativistic loss
    with both zero-centred penalties of R3GAN (Huang et al. 2024, equations 2 and 3), which a small GAN survives.

    Args:
        generator, critic: the networks.
        penalty: gamma.
    """

    unaveraged = ("critic",)

    def __init__(
        self, generator: FromLatent, critic: ProjectionCritic, penalty: float = 1.0
    ) -> None:
        self.players: dict[str, nn.Module] = {"generator": generator, "critic": critic}
        self.latent, self.penalty = generator.latent, penalty

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """The critic's turn, then the generator's. batch["image"] (B, C, *S), batch["label"] (B,)."""
        real, label, critic = batch["image"], batch["label"], self.players["critic"]
        z = torch.randn(len(real), self.latent, device=real.device)
        with torch.no_grad():
            fake = self.players["generator"](z, label).float()
        yield "critic", self._told_apart(critic, real, fake, label)
        fake = self.players["generator"](z, label).float()
        yield "generator", F.softplus(critic(real, label) - critic(fake, label)).float().mean()

    def _told_apart(self, critic: nn.Module, real: Tensor, fake: Tensor, label: Tensor) -> Tensor:
        # the gradient of a gradient asks for float32
        with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
            shown = [each.detach().requires_grad_() for each in (real, fake)]
            judged = [critic(each, label) for each in shown]
            slopes = torch.autograd.grad(
                judged[0].sum() + judged[1].sum(), shown, create_graph=True
            )
        steep = sum(slope.flatten(1).square().sum(1).mean() for slope in slopes)
        return F.softplus(judged[1] - judged[0]).mean() + self.penalty / 2 * steep

    @torch.no_grad()
    def drawn(self, seeds: Sequence[int], labels: Tensor, batch: int) -> Tensor:
        """Images (n, C, *S) on the CPU, each of its seed and its class alone."""
        made, device = [], device_of(self)
        for first in range(0, len(seeds), batch):
            part = slice(first, first + batch)
            like = torch.zeros(len(seeds[part]), self.latent)
            z = Seeded(seeds[part])(like).to(device)
            made.append(self.players["generator"](z, labels[part].to(device)).float().cpu())
        return torch.cat(made)


def gan_of(recipe: Any) -> GAN:
    """The GAN beside a recipe: folded as its network is, down to a grid of about 4 voxels a side."""
    shape = (len(recipe.size), recipe.channels)
    levels = max(1, (min(recipe.size) // (4 * recipe.patch)).bit_length() - 1)
    options: dict[str, Any] = {"width": recipe.width, "levels": levels, "patch": recipe.patch}
    generator = FromLatent(*shape, recipe.size, recipe.classes, **options)
    return GAN(generator, ProjectionCritic(*shape, recipe.classes, **options))
