r"""What an image would look like if it were different: encode, guide, decode.

Encoding and decoding are DDIM steps on the same times, up and down (Song et al. 2021, eq. 13), so that
without guidance the image comes back. The image itself stands at the first time $t_1 = 1/T$, where a
network may be asked and the noise is all but nothing. Guidance acts on the way down only:
a network that reads noisy images gives $\log p(\text{target} \mid x_t)$, whose gradient moves the
denoiser (`denoise.Steered`); the diffusion itself is not retrained.
"""

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.denoiser import Denoiser
from ...diffusion.kernels import diffuse
from ...diffusion.losses import Times
from ...diffusion.network import Network
from ...diffusion.noise import gaussian
from ...diffusion.sample import DDIM, grids
from ...diffusion.schedule import Discrete
from ...training.objective import Objective

__all__ = [
    "Normalised",
    "Reader",
    "Together",
    "decode",
    "encode",
    "ladder",
    "log_class",
    "log_mask",
    "log_value",
]

Batch = dict[str, Tensor]


def ladder(schedule: Discrete, depth: float, steps: int) -> Tensor:
    """`(L,)` rising times from 1 / T to `depth`, at most `steps` of the schedule's own."""
    highest = max(2, round(depth * schedule.steps))
    return grids.ascending(grids.strided(schedule, min(steps, highest), highest))


def encode(denoiser: Denoiser, x: Tensor, times: Tensor) -> Tensor:
    """The latent at times[-1] of images x (B, *), which stand at times[0]; deterministic."""
    return DDIM(denoiser).encode(x, times)


def decode(denoiser: Denoiser, latent: Tensor, times: Tensor) -> Tensor:
    """The mirror of `encode`: from times[-1] down to times[0]."""
    return DDIM(denoiser).encode(latent, times.flip(0))


class Normalised(Denoiser):
    r"""Dynamic normalisation (Saharia et al. 2022; Sanchez et al. 2022): estimates scaled into range.

    For each case and channel $s = \max(1, q)$ with q the quantile of $|\hat x_0|$; the estimate is
    clipped to [-s, s] and divided by s.
    """

    def __init__(self, denoiser: Denoiser, quantile: float = 0.99) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.quantile = denoiser, denoiser.schedule, quantile

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(x_t, t)
        flat = x_0.flatten(2)
        top = flat.abs().quantile(self.quantile, dim=2, keepdim=True).clamp_min(1)
        return (flat.clamp(-top, top) / top).reshape(x_0.shape)


class Reader:
    """Objective of a network that reads noisy images: what guides a decoding.

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
    """Objectives trained side by side on the same batches; none touches another's players."""

    def __init__(self, *parts: Objective) -> None:
        self.parts = parts
        self.players = {name: module for part in parts for name, module in part.players.items()}

    def losses(self, batch: Batch) -> Iterator[tuple[str | tuple[str, ...], Tensor]]:
        self.play()
        for part in self.parts:
            yield from part.losses(batch)

    def play(self) -> None:
        """Hand the players, as the training loop has them, to the parts."""
        for part in self.parts:
            part.players = {name: self.players[name] for name in part.players}


LogProbability = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, *), t) -> log p(target given x_t), `(B,)`, up to a constant."""


def log_class(read: Callable[[Tensor, Tensor], Tensor], label: Tensor) -> LogProbability:
    """Of the class `label` (B,) under a classifier's logits."""
    return lambda x_t, t: read(x_t, t).log_softmax(1).gather(1, label[:, None])[:, 0]


def log_value(read: Callable[[Tensor, Tensor], Tensor], value: Tensor) -> LogProbability:
    r"""Of a value (B,): $-(R(x_t, t) - y)^2$."""
    return lambda x_t, t: -((read(x_t, t)[:, 0] - value) ** 2)


def log_mask(read: Callable[[Tensor, Tensor], Tensor], mask: Tensor) -> LogProbability:
    """Of a segmentation (B, 1, *S): the sum over voxels of the log-probability of its label."""

    def log_probability(x_t: Tensor, t: Tensor) -> Tensor:
        each = F.cross_entropy(read(x_t, t), mask[:, 0], reduction="none")
        return -each.flatten(1).sum(1)

    return log_probability
