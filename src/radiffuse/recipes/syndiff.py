"""SynDiff (Özbey et al. 2022): unpaired translation by an adversarial diffusion of few large steps."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..denoise import Denoiser
from ..errors import UserError
from ..kernels import diffuse, posterior
from ..losses import Times, discrete_times
from ..nn import UNet
from ..nn.critic import PairCritic, PatchCritic
from ..nn.generator import Direct, LatentUNet, ResNet
from ..noise import Noise, Seeded, gaussian
from ..papers import Paper, by_id
from ..sample import DDPM, grids
from ..schedule import VP, Discrete, expand
from ..tasks.base import Task
from ..tasks.translation import TRANSLATION_UNPAIRED
from .base import Batch
from .conditional import check_stride, one_size

if TYPE_CHECKING:
    from ..data.dataset import Facts

__all__ = ["Adversarial", "SynDiff", "large_steps"]

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
        penalty: float = 1.0,
        every: int = 10,
        fidelity: float = 0.5,
        cycle: float = 0.5,
        rate: float = 1.6,
    ) -> None:
        self.players, self.schedule = players, schedule
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
        z = noise(x_t.new_empty(len(x_t), generator.latent))
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


TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "batch": 1,
        "learning_rate": 1e-4,
        "betas": (0.5, 0.9),
        "warmup": 0,
        "clip": 0.0,
        "cooldown": 1.0,
    },
    "small": {
        "batch": 4,
        "learning_rate": 2e-4,
        "betas": (0.5, 0.9),
        "warmup": 50,
        "clip": 0.0,
        "cooldown": 0.5,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 40.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "betas": (0.5, 0.9), "warmup": 10, "steps": 100},
}


@dataclass(frozen=True)
class SynDiff:
    """Adversarial diffusion with a cycle; the defaults are Özbey et al. 2022.

    Source and target need not show the same people. A prediction goes from source to target, or,
    where the data hold the target alone, back.
    """

    paper: ClassVar[Paper] = by_id("syndiff")
    task: ClassVar[Task] = TRANSLATION_UNPAIRED

    source_channels: int = 0
    """Channels of the source; 0 = from the data."""
    target_channels: int = 0
    """Channels of the target; 0 = from the data."""
    size: tuple[int, ...] = ()
    """Spatial size of both; empty = from the data."""
    timesteps: int = 4
    """Large steps of the diffusion, T."""
    width: int = 64
    """Channels of the diffusive generators' first level."""
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level over `width`; each level halves the resolution."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (4,)
    """Levels that attend, 0 = finest."""
    patch: int = 1
    """Side of the blocks folded into channels at the input of every network."""
    latent: int = 100
    """Length of the latent z."""
    mapped: int = 256
    """Width of the latent's mapping network."""
    translator: Literal["resnet", "unet"] = "resnet"
    """The generators without diffusion."""
    translator_width: int = 64
    """Their channels at full resolution."""
    translator_blocks: int = 6
    """Residual blocks of the resnet."""
    critic_width: int = 64
    """Channels of the critics' first layer."""
    critic_levels: int = 6
    """How often the critics of states halve the resolution."""
    patch_levels: int = 3
    """How often the patch critics halve the resolution."""
    penalty: float = 1.0
    """Factor of the R1 penalty, gamma."""
    penalty_every: int = 10
    """Steps between penalties."""
    fidelity: float = 0.5
    """Factor of the L1 distance between estimate and image."""
    cycle: float = 0.5
    """Factor of the L1 distance after going there and back."""
    generator_rate: float = 1.6
    """Learning rate of the generators over that of the critics (1.6e-4 over 1e-4)."""

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: source or target is missing, they differ in size, or are too small.
        """
        size = self.size or one_size(facts, KEYS)
        filled = dataclasses.replace(
            self,
            source_channels=self.source_channels or facts.channels["source"],
            target_channels=self.target_channels or facts.channels["target"],
            size=size,
        )
        down = max(2 ** (len(self.multiples) - 1), 4)
        check_stride(size, self.patch * down, "--multiples or --patch")
        critic = self.patch * 2 ** max(self.critic_levels, self.patch_levels)
        if min(size) < critic:
            sides = " x ".join(map(str, size))
            raise UserError(
                f"images of {sides} are smaller than the critics' stride {critic}; "
                "resize with --size, or lower --critic-levels"
            )
        return filled

    def objective(self) -> Adversarial:
        """Eight new networks and their losses.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        if not self.source_channels or not self.target_channels or not self.size:
            raise UserError("channels and size are not set; fit the recipe to data first")
        channels = {"source": self.source_channels, "target": self.target_channels}
        axes, wide = len(self.size), self.critic_width
        players: dict[str, nn.Module] = {}
        for key in KEYS:
            here, there = channels[key], channels[OTHER[key]]
            players[f"diffuse_{key}"] = LatentUNet(
                self._unet(here, there, vector=self.mapped), self.latent, self.mapped
            )
            players[f"translate_{key}"] = self._translator(there, here)
            players[f"judge_{key}"] = PairCritic(axes, here, wide, self.critic_levels, self.patch)
            players[f"patch_{key}"] = PatchCritic(axes, here, wide, self.patch_levels, self.patch)
        return Adversarial(
            players,
            large_steps(self.timesteps),
            self.penalty,
            self.penalty_every,
            self.fidelity,
            self.cycle,
            self.generator_rate,
        )

    def _unet(self, channels: int, condition: int, width: int = 0, vector: int = 0) -> UNet:
        return UNet(
            len(self.size),
            channels,
            width or self.width,
            self.multiples,
            self.blocks,
            self.attention,
            self.patch,
            condition=condition,
            vector=vector,
        )

    def _translator(self, into: int, out: int) -> nn.Module:
        if self.translator == "unet":
            return Direct(self._unet(out, into, self.translator_width), out, squash=True)
        axes, blocks = len(self.size), self.translator_blocks
        return ResNet(axes, into, out, self.translator_width, blocks, self.patch)

    def trajectory(self, objective: Adversarial, batch: Batch) -> Iterator[Tensor]:
        """The states of the chain, the last one the result; batch as in `predict`."""
        key = "target" if "source" in batch else "source"
        given = batch[OTHER[key]]
        channels = self.target_channels if key == "target" else self.source_channels
        noise = Seeded(int(seed) for seed in batch["seed"])
        like = given.new_zeros(len(given), channels, *given.shape[2:])
        sampler = DDPM(Drawing(objective, key, given, noise).eval(), noise)
        # sigma(1) is 0.99998: the authors start from pure noise
        yield from sampler.trajectory(noise(like), grids.uniform(self.timesteps))

    def predict(self, objective: Adversarial, batch: Batch) -> Batch:
        """The other modality, in T steps from noise, told the real image.

        Args:
            batch: "seed" int64 (B,) and "source" (B, C, *S), or "target" alone for the way back.

        Returns:
            {"target": (B, C, *S) in [-1, 1]}, or {"source": ...}.
        """
        key = "target" if "source" in batch else "source"
        result = None
        for result in self.trajectory(objective, batch):  # noqa: B007
            pass
        assert result is not None
        return {key: result.clamp(-1, 1)}

    @classmethod
    def small(cls) -> Self:
        return cls(
            width=32,
            multiples=(1, 2, 4),
            blocks=1,
            attention=(2,),
            patch=2,
            mapped=128,
            translator_width=24,
            translator_blocks=4,
            critic_width=24,
            critic_levels=4,
            patch_levels=2,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            width=16,
            multiples=(1, 2),
            blocks=1,
            attention=(),
            patch=2,
            latent=8,
            mapped=16,
            translator_width=8,
            translator_blocks=1,
            critic_width=8,
            critic_levels=2,
            patch_levels=1,
        )
