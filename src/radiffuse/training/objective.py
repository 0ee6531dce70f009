"""What a training loop optimises: players (networks with an optimiser each) and their losses."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..diffusion.kernels import diffuse, posterior
from ..diffusion.likelihood import discretised_nll, normal_kl
from ..diffusion.losses import Times, Weight, simple
from ..diffusion.network import Network
from ..diffusion.noise import gaussian
from ..diffusion.schedule import expand

__all__ = [
    "Absolute",
    "Denoising",
    "Hybrid",
    "Objective",
    "Prepared",
    "Reader",
    "Together",
    "device_of",
]

Batch = dict[str, Tensor]
_CONDITIONS = ("label", "vector")


class Objective(Protocol):
    """One training loop serves one network and a GAN.

    `losses` yields (player, scalar loss); the loop zeroes, backpropagates and steps that player at
    every yield; a tuple of players shares one loss and one backward pass. Randomness comes from
    torch's global generator, which the loop seeds. Optional attributes: `rates`, factors of the
    learning rate by player; `unaveraged`, players that keep their last weights.
    """

    players: dict[str, nn.Module]

    def losses(self, batch: Batch) -> Iterator[tuple[str | tuple[str, ...], Tensor]]: ...


class Denoising:
    """Denoising score matching of batch["image"], whatever the schedule, prediction and weight.

    Conditions the batch holds and the network takes ("label", "vector") are handed to it; "source"
    is a concatenated image condition. Labels are dropped (set to "no label") with probability
    `drop`, for classifier-free guidance (Ho & Salimans 2022).

    Args:
        network: the denoiser to train; its backbone is the player "network".
        times: the law of t.
        weight: factor of the squared output error.
        drop: probability of dropping the label.
    """

    def __init__(
        self, network: Network, times: Times, weight: Weight = simple, drop: float = 0.1
    ) -> None:
        self.players = network.players
        self.network, self.times, self.weight, self.drop = network, times, weight, drop

    def condition(self, batch: Batch) -> Batch:
        """The network's conditions in `batch`, labels dropped at random."""
        found = {key: batch[key] for key in _CONDITIONS if key in batch}
        if "source" in batch:
            found["image"] = batch["source"]
        classes = int(getattr(self.network.backbone, "classes", 0))
        label = found.pop("label", None)
        if classes and label is not None:
            dropped = torch.rand(len(label)) < self.drop
            none = torch.full_like(label, classes)
            found["label"] = torch.where(dropped.to(none.device), none, label)
        return found

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield "network", self.matching(batch["image"], self.condition(batch))

    def matching(self, x_0: Tensor, condition: Batch) -> Tensor:
        """The loss of x_0 (B, C, *S) at random times, under random noise."""
        t = self.times(len(x_0))
        z = self.noise_for(x_0, condition)
        network = self._playing()
        x_t = diffuse(network.schedule, x_0, t, z)
        out = network.raw(x_t, t, **condition).float()
        return self.loss(out, x_0, z, x_t, t)

    def noise_for(self, x_0: Tensor, condition: Batch) -> Tensor:
        """The noise of x_0 (B, C, *S)."""
        return gaussian(x_0)

    def loss(self, out: Tensor, x_0: Tensor, z: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The weighted mean squared error of the network's output at x_t = alpha x_0 + sigma z."""
        return self.errors(out, x_0, z, t).mean()

    def errors(self, out: Tensor, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """The weighted squared error of the network's output at every voxel, (B, C, *S)."""
        schedule, predicts = self.network.schedule, self.network.predicts
        target = predicts.target(x_0, z, *schedule(t, x_0))
        weight = expand(self.weight(schedule, t, predicts).to(target), target)
        return weight * (out - target) ** 2

    def _playing(self) -> Network:
        """The network around the player as the loop has it (wrapped for many processes)."""
        return self.network.around(self.players["network"])


class Absolute(Denoising):
    r"""Denoising by absolute errors: $E\,\sqrt{w(t)}\,|\hat z - z|$ with the weight of the squared error.

    The root makes it the absolute value of what `Denoising` squares; the best answer is a median.
    """

    def loss(self, out: Tensor, x_0: Tensor, z: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The weighted mean absolute error of the network's output at x_t = alpha x_0 + sigma z."""
        schedule, predicts = self.network.schedule, self.network.predicts
        target = predicts.target(x_0, z, *schedule(t, x_0))
        weight = expand(self.weight(schedule, t, predicts).sqrt().to(target), target)
        return (weight * (out - target).abs()).mean()


class Prepared(Denoising):
    """Denoising of examples made from a batch.

    Args:
        network, times, weight: as `Denoising`.
        prepare: batch -> {"image": x_0 (M, C, *S), optionally "source": what the network is told}.
    """

    def __init__(
        self, network: Network, times: Times, weight: Weight, prepare: Callable[[Batch], Batch]
    ) -> None:
        super().__init__(network, times, weight)
        self.prepare = prepare

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield from super().losses(self.prepare(batch))


class Hybrid(Denoising):
    r"""Learned-range variance (Nichol & Dhariwal 2021): $L_{simple} + \lambda L_{vlb}$.

    The network's second half of channels places log variance between log beta~ and log beta; it is
    trained by the variational bound with the mean detached. Uses steps of 1 / T of a `Discrete`
    schedule; a batch item's bound term is scaled by T, so lambda = 0.001 is the paper's.
    """

    vlb = 0.001

    def loss(self, out: Tensor, x_0: Tensor, z: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The simple loss of the first half of channels, and the bound's of the second."""
        mean_out, v = out[:, : x_0.shape[1]], out[:, x_0.shape[1] :]
        at = self.network.schedule(t, x_0)
        estimate = self.network.predicts.clean(mean_out.detach(), x_t, *at)
        bound = self._bound(x_0, x_t, estimate, v, t)
        return super().loss(mean_out, x_0, z, x_t, t) + self.vlb * bound

    def _bound(self, x_0: Tensor, x_t: Tensor, estimate: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Mean over the batch of the bound's terms, bits a dimension, times T."""
        schedule = self.network.schedule
        steps = getattr(schedule, "steps", 1000)
        s = t - 1 / steps
        s = torch.where(s < 0.5 / steps, torch.zeros_like(s), s)
        true, small, large = posterior(schedule, x_t, x_0, t, s)
        mean, _, _ = posterior(schedule, x_t, estimate, t, s)
        tiny = torch.tensor(1e-20).to(small)
        floor = posterior(schedule, x_t, x_0, torch.tensor(2 / steps), torch.tensor(1 / steps))[1]
        small = torch.where(small > 0, small, floor).maximum(tiny)
        w = (v + 1) / 2
        log_variance = w * large.log() + (1 - w) * small.log()
        kl = normal_kl(true, small.log(), mean, log_variance)
        decoder = discretised_nll(x_0, mean, log_variance / 2)
        last = expand((s == 0).to(x_0.device), x_0)
        return steps * torch.where(last, decoder, kl).mean() / math.log(2)


class Reader:
    """Objective of a network that reads noisy images: what guides a chain.

    Args:
        player: its name among the players.
        module: (x_t, clock) -> what it reads: logits (B, K), a value (B, 1), logits (B, K, *S).
        network: the denoiser whose schedule, input scale and clock it shares.
        times: the law of t.
        loss: (what was read, batch) -> scalar.
    """

    def __init__(
        self,
        player: str,
        module: nn.Module,
        network: Network,
        times: Times,
        loss: Callable[[Tensor, Batch], Tensor],
    ) -> None:
        self.players: dict[str, nn.Module] = {player: module}
        self.player, self.network, self.times, self.loss = player, network, times, loss

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x_0 = batch["image"]
        t = self.times(len(x_0))
        x_t = diffuse(self.network.schedule, x_0, t, gaussian(x_0))
        yield self.player, self.loss(self(x_t, t), batch)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What is read in x_t (B, C, *S) at t () or (B,)."""
        n = self.network
        reader = Network(self.players[self.player], n.schedule, n.predicts, n.scale, n.clock)
        return reader.raw(x_t, t).float()


class Together:
    """A denoiser and those that read its images, trained side by side on the same batches.

    All parts share one table of players, so that what the training loop puts there, each part has.

    Args:
        denoising: of the images.
        readers: told of the same noise process; none touches another's player.
    """

    def __init__(self, denoising: Denoising, *readers: Reader) -> None:
        self.denoising = denoising
        self.readers = {reader.player: reader for reader in readers}
        self.players: dict[str, nn.Module] = {}
        parts: tuple[Denoising | Reader, ...] = (denoising, *readers)
        for part in parts:
            self.players |= part.players
            part.players = self.players

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield from self.denoising.losses(batch)
        for reader in self.readers.values():
            yield from reader.losses(batch)


def device_of(objective: Any) -> torch.device:
    """Where the players of an objective are; the CPU where they have no parameters."""
    player = next(iter(objective.players.values()))
    return next((parameter.device for parameter in player.parameters()), torch.device("cpu"))
