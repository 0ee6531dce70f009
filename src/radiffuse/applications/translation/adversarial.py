"""Adversarial diffusion in few large steps, with a cycle: the eight players of SynDiff."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.denoiser import Denoiser
from ...diffusion.kernels import diffuse, posterior
from ...diffusion.losses import Times, discrete_times
from ...diffusion.noise import Noise, gaussian
from ...diffusion.schedule import VP, Discrete, expand
from ..recipe import Batch

__all__ = ["KEYS", "OTHER", "Adversarial", "Drawing", "large_steps"]

KEYS = ("source", "target")
OTHER = {"source": "target", "target": "source"}


def large_steps(steps: int, first: float = 1e-3) -> Discrete:
    r"""The VP schedule in few steps: $\bar\alpha_i = e^{-\tfrac12 t_i^2(20-0.1)-0.1 t_i}$.

    $t_i = 10^{-3} + (1-10^{-3})\,i/T$; time 0 of the chain is clean, as in the authors' code.
    """
    grid = first + (1 - first) * torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    kept = VP(0.1, 20.0).alpha(grid) ** 2
    return Discrete(1 - kept[1:] / kept[:-1])


class Adversarial:
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
        self.players, self.schedule, self.latent = players, schedule, latent
        self.penalty, self.every, self.fidelity, self.cycle = penalty, every, fidelity, cycle
        self.rates = dict.fromkeys(self.generators, rate)
        self.unaveraged = self.critics
        self.times: Times = discrete_times(schedule)
        self.noise: Noise = gaussian

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
            x_s, x_t, t = self._states(real[key])
            with torch.no_grad():
                fake_s, _ = self._reversed(key, x_t, t, made[OTHER[key]])
            total = total + F.softplus(-judge(x_s, x_t, self._clock(t, x_t))).mean()
            total = total + F.softplus(judge(fake_s, x_t, self._clock(t, x_t))).mean()
            total = total + F.softplus(-patch(real[key])).mean()
            total = total + F.softplus(patch(made[key])).mean()
            if due:
                total = total + self.penalty / 2 * self._slope(key, x_s, x_t, t)
        return total

    def _slope(self, key: str, x_s: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Mean squared norm of the gradient of the critic's logit at real states, along x_s."""
        with torch.enable_grad():
            x = x_s.detach().requires_grad_()
            logit = self.players[f"judge_{key}"](x, x_t, self._clock(t, x_t), exact=True)
            (slope,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
            return slope.square().flatten(1).sum(dim=1).mean()

    def _generators(self, real: Batch) -> Tensor:
        """One loss of all four generators; the critics stand still."""
        total = torch.zeros((), device=real["source"].device)
        made = {key: self._translated(key, real) for key in KEYS}
        for key in KEYS:
            _, x_t, t = self._states(real[key])
            fake_s, x_0 = self._reversed(key, x_t, t, made[OTHER[key]])
            judged = self.players[f"judge_{key}"](fake_s, x_t, self._clock(t, x_t))
            total = total + F.softplus(-judged).mean()
            total = total + F.softplus(-self.players[f"patch_{key}"](made[key])).mean()
            total = total + self.fidelity * F.l1_loss(x_0, real[key])
            back = self._translated(key, made)
            total = total + self.cycle * F.l1_loss(back, real[key])
        return total

    def _translated(self, key: str, images: Batch) -> Tensor:
        """Modality `key` made from the other one of `images`."""
        return self.players[f"translate_{key}"](images[OTHER[key]]).float()

    def _states(self, x_0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A real pair (x_s, x_t) of successive states of the chain, and t (B,); s = t - 1/T."""
        t = self.times(len(x_0))
        s = self._before(t)
        x_s = diffuse(self.schedule, x_0, s, self.noise(x_0))
        beta = self.schedule.betas[(t * self.schedule.steps).round().long() - 1]
        beta = expand(beta.to(x_0), x_0)
        return x_s, torch.sqrt(1 - beta) * x_s + torch.sqrt(beta) * self.noise(x_0), t

    def _reversed(
        self, key: str, x_t: Tensor, t: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x_s drawn from q(x_s given x_t and the generator's estimate), and the estimate."""
        x_0 = self.estimate(key, x_t, t, condition, self.noise)
        mean, variance, _ = posterior(self.schedule, x_t, x_0, t, self._before(t))
        return mean + torch.sqrt(variance) * self.noise(x_t), x_0

    def estimate(self, key: str, x_t: Tensor, t: Tensor, condition: Tensor, noise: Noise) -> Tensor:
        """The clean image of modality `key` that the diffusive generator draws at x_t, t (B,)."""
        generator = self.players[f"diffuse_{key}"]
        z = noise(x_t.new_empty(len(x_t), self.latent))
        return generator(x_t, self._clock(t, x_t), z, condition).float()

    def _before(self, t: Tensor) -> Tensor:
        """t - 1/T, exactly 0 at the clean end."""
        return ((t * self.schedule.steps).round() - 1) / self.schedule.steps

    def _clock(self, t: Tensor, like: Tensor) -> Tensor:
        return t.to(like.device, like.dtype)

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
