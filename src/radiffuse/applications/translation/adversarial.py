"""Adversarial diffusion in few large steps, with a cycle: the eight players of SynDiff."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Noise
from ...diffusion.schedule import Discrete
from ..large_steps import LargeSteps
from ..recipe import Batch

__all__ = ["KEYS", "OTHER", "Adversarial", "Drawing"]

KEYS = ("source", "target")
OTHER = {"source": "target", "target": "source"}


class Adversarial(LargeSteps):
    r"""Two diffusions and a cycle, trained together; j is either modality, j' the other.

    Eight players: `diffuse_j` makes $\hat x^j_0$ from $(x^j_t, \tilde y^{j'}, t, z)$, `judge_j` judges
    $(x^j_s, x^j_t)$, `translate_j` makes $\tilde y^j$ from $x^{j'}$ and `patch_j` judges it. All
    critics share one turn, then all generators one loss: nothing is detached, so the diffusive
    losses train the translators too.

    Args:
        players: the networks by these names.
        schedule: T large steps.
        latent: length of the generators' z.
        penalty: factor of R1 (Mescheder et al. 2018), gamma.
        every: steps between penalties; they are not scaled up for it.
        fidelity: factor of the L1 distance of $\hat x_0$ from $x_0$.
        cycle: factor of the L1 distance after going there and back.
        rate: learning rate of the generators over that of the critics.
    """

    critics = tuple(f"{kind}_{key}" for key in KEYS for kind in ("judge", "patch"))
    generators = tuple(f"{kind}_{key}" for key in KEYS for kind in ("diffuse", "translate"))

    def __init__(
        self,
        players: dict[str, nn.Module],
        schedule: Discrete,
        latent: int,
        penalty: float = 1.0,
        every: int = 10,
        fidelity: float = 0.5,
        cycle: float = 0.5,
        rate: float = 1.6,
    ) -> None:
        super().__init__(schedule, penalty, every)
        self.players, self.latent = players, latent
        self.fidelity, self.cycle = fidelity, cycle
        self.rates = dict.fromkeys(self.generators, rate)
        self.unaveraged = self.critics

    def losses(self, batch: Batch) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """The critics' turn, then the generators'. batch["source"], batch["target"] (B, C, *S).

        Which source stands beside which target is drawn anew: no loss may know.
        """
        real = {key: batch[key] for key in KEYS}
        real["target"] = real["target"][torch.randperm(len(real["target"]))]
        step = int(self._counter())
        with torch.no_grad():
            made = {key: self._translated(key, real) for key in KEYS}
        yield self.critics, self._critics(real, made, due=step % self.every == 0)
        yield self.generators, self._generators(real)
        self._counter().fill_(step + 1)  # not += 1: every micro-batch of a step comes by here

    def _critics(self, real: Batch, made: Batch, due: bool) -> Tensor:
        """Softplus losses of all four critics, and R1 of the two that judge states."""
        total = torch.zeros((), device=real["source"].device)
        for key in KEYS:
            judge, patch = self.players[f"judge_{key}"], self.players[f"patch_{key}"]
            x_s, x_t, t = self.states(real[key])
            with torch.no_grad():
                fake_s, _ = self._reversed(key, x_t, t, made[OTHER[key]])
            total = total + self.told_apart(judge, x_s, fake_s, x_t, t)
            total = total + F.softplus(-patch(real[key])).mean()
            total = total + F.softplus(patch(made[key])).mean()
            if due:
                total = total + self.penalty / 2 * self.slope(judge, x_s, x_t, t)
        return total

    def _generators(self, real: Batch) -> Tensor:
        """One loss of all four generators; the critics stand still."""
        total = torch.zeros((), device=real["source"].device)
        made = {key: self._translated(key, real) for key in KEYS}
        for key in KEYS:
            _, x_t, t = self.states(real[key])
            fake_s, x_0 = self._reversed(key, x_t, t, made[OTHER[key]])
            judged = self.judged(self.players[f"judge_{key}"], fake_s, x_t, t)
            total = total + F.softplus(-judged).mean()
            total = total + F.softplus(-self.players[f"patch_{key}"](made[key])).mean()
            total = total + self.fidelity * F.l1_loss(x_0, real[key])
            back = self._translated(key, made)
            total = total + self.cycle * F.l1_loss(back, real[key])
        return total

    def _translated(self, key: str, images: Batch) -> Tensor:
        """Modality `key` made from the other one of `images`."""
        return self.players[f"translate_{key}"](images[OTHER[key]]).float()

    def _reversed(
        self, key: str, x_t: Tensor, t: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x_s drawn from q(x_s given x_t and the generator's estimate), and the estimate."""
        x_0 = self.estimate(key, x_t, t, condition, self.noise)
        return self.drawn_before(x_t, x_0, t, self.noise), x_0

    def estimate(self, key: str, x_t: Tensor, t: Tensor, condition: Tensor, noise: Noise) -> Tensor:
        """The clean image of modality `key` that the diffusive generator draws at x_t, t (B,)."""
        generator = self.players[f"diffuse_{key}"]
        z = noise(x_t.new_empty(len(x_t), self.latent))
        return generator(x_t, self.clock(t, x_t), z, condition).float()

    def _counter(self) -> Tensor:
        """Training steps so far, kept with the weights so that lazy penalties survive a stop."""
        counter = self.players["judge_source"].seen
        assert isinstance(counter, Tensor)
        return counter


class Drawing(Denoiser):
    """One direction of a trained `Adversarial` as a denoiser: each question draws a new latent."""

    def __init__(self, objective: Adversarial, key: str, condition: Tensor, noise: Noise) -> None:
        super().__init__()
        self.objective, self.key, self.noise = objective, key, noise
        self.image, self.schedule = condition, objective.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        times = torch.as_tensor(t).expand(len(x_t))
        return self.objective.estimate(self.key, x_t, times, self.image, self.noise)
