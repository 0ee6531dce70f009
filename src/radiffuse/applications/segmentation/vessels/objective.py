r"""Diffusion adversarial representation learning (Kim et al. 2023, sections 3.1 to 3.3).

Three unpaired pictures a step: A shows vessels, B none, F is a drawn mask. One network $\epsilon_\theta$ and one
generator G in two modes serve all paths, with one noise $\epsilon$:

$$ S = G([A_{t_a}, \epsilon_\theta(A_{t_a})]),\quad \tilde A = G([B_{t_b}, \epsilon_\theta(B_{t_b})], F),\quad
   S' = G([\tilde A_{t_a}, \epsilon_\theta(\tilde A_{t_a})]) $$

S must look like F to one critic, $\tilde A$ like A to the other, and S' be F. The noise is learned on B alone.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....diffusion.kernels import diffuse
from ....diffusion.losses import discrete_times
from ....diffusion.network import Network
from ....diffusion.noise import gaussian
from ....diffusion.schedule import Discrete
from ....nn.critic import Remembering
from ....nn.switched import SwitchedGenerator
from ...recipe import Batch

__all__ = ["CRITICS", "LABELS", "MAKERS", "Vessels"]

LABELS = 2
"""Channels of a map: background, vessel."""
MAKERS = ("network", "generator")
CRITICS = ("judge_masks", "judge_images")

Triple = tuple[Tensor, Tensor, Tensor]


class Vessels:
    """The losses of the three paths.

    Args:
        network: reads noisy pictures, learns their noise; its backbone is the player "network".
        generator: the player "generator".
        judge_masks, judge_images: critics of segmentations and of pictures with vessels.
        triples: batch -> A, B (B, 1, *S) in [-1, 1] and F (B, 1, *S) of 0 and 1.
        light: steps of the chain, from the first, at which A is seen.
        cycle: factor of the mean absolute difference of S' and F.
        adversarial: factor of the least-squares losses (Mao et al. 2017) of S and A~.
        latent: whether G is told what the network says, or zeros.
        balanced: whether vessels of F count as much in the cycle's error as all that is none of them.
    """

    def __init__(
        self,
        network: Network,
        generator: SwitchedGenerator,
        judge_masks: Remembering,
        judge_images: Remembering,
        triples: Callable[[Batch], Triple],
        light: int = 200,
        cycle: float = 5.0,
        adversarial: float = 0.2,
        latent: bool = True,
        balanced: bool = False,
    ) -> None:
        self.network, self.triples, self.latent = network, triples, latent
        self.balanced = balanced
        self.cycle, self.adversarial = cycle, adversarial
        self.players: dict[str, nn.Module] = {
            **network.players,
            "generator": generator,
            "judge_masks": judge_masks,
            "judge_images": judge_images,
        }
        self.remembered = {
            "judge_masks": judge_masks.remembered,
            "judge_images": judge_images.remembered,
        }
        self.unaveraged = CRITICS
        schedule = network.schedule
        assert isinstance(schedule, Discrete)
        self.steps = schedule.steps
        self.light = discrete_times(schedule, light / schedule.steps)
        self.times = discrete_times(schedule)

    def losses(self, batch: Batch) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """One loss of network and generator, then one of both critics, who see the same images.

        The critics' is half of each squared distance; the factor `adversarial` is the makers' alone.
        """
        shown, empty, drawn = self.triples(batch)
        z, t_a, t_b = gaussian(shown), self.light(len(shown)), self.times(len(empty))
        found = self.segmented(diffuse(self.network.schedule, shown, t_a, z), t_a)
        painted, guess = self.painted(diffuse(self.network.schedule, empty, t_b, z), t_b, drawn)
        back = self.segmented(diffuse(self.network.schedule, painted, t_a, z), t_a)
        wanted = 2 * drawn - 1
        fooled = self._off("judge_masks", found, 1.0) + self._off("judge_images", painted, 1.0)
        total = F.mse_loss(guess, z) + self.cycle * self.apart(back, drawn)
        yield MAKERS, total + self.adversarial * fooled
        told = torch.zeros((), device=shown.device)
        for critic, real, made in (
            ("judge_masks", wanted, found),
            ("judge_images", shown, painted),
        ):
            earlier = self.remembered[critic](made)
            told = told + (self._off(critic, real, 1.0) + self._off(critic, earlier, 0.0)) / 2
        yield CRITICS, told

    def apart(self, back: Tensor, drawn: Tensor) -> Tensor:
        """Mean absolute difference of S' and F, over all voxels or the mean of that of vessels and of the rest.

        Of all voxels a tenth are vessels, and the least of the first is soon no vessel at all.
        """
        gap = (back - (2 * drawn - 1)).abs()
        if not self.balanced:
            return gap.mean()
        parts = [(gap * part).sum() / part.sum().clamp_min(1) for part in (drawn, 1 - drawn)]
        return torch.stack(parts).mean()

    def _off(self, critic: str, images: Tensor, wanted: float) -> Tensor:
        """Mean squared distance of a critic's logits from what they should be."""
        return (self.players[critic](images).float() - wanted).square().mean()

    def guess(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network takes for the noise of x_t (B, 1, *S) at t () or (B,)."""
        return self.network.around(self.players["network"]).raw(x_t, t).float()

    def segmented(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, 1, *S) in (-1, 1), above 0 where a vessel is."""
        return self._made(x_t, self.guess(x_t, t), None)

    def painted(self, x_t: Tensor, t: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A picture with the vessels of `mask` (B, 1, *S), and what the network said of x_t."""
        guess = self.guess(x_t, t)
        return self._made(x_t, guess, torch.cat([1 - mask, mask], dim=1)), guess

    def _made(self, x_t: Tensor, guess: Tensor, labels: Tensor | None) -> Tensor:
        told = guess if self.latent else torch.zeros_like(guess)
        return self.players["generator"](torch.cat([x_t, told], dim=1), labels).float()
