"""Completion around a first guess: mean and deviation of what is missing, from what is given and the code.

The network then denoises what the guess leaves (see `diffusion.residual`); what is given leaves nothing.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ....diffusion.kernels import diffuse
from ....diffusion.noise import gaussian
from ....diffusion.residual import Residual
from ...recipe import Batch
from .codes import whole
from .objective import Completing, drawn_codes

__all__ = ["GuessedCompleting", "GuessedCompletion"]


class GuessedCompletion(Residual):
    """`Residual` of all channels (B, M, *S), told the given ones and the code (2 M channels)."""

    def bound(self, **condition: Tensor) -> dict[str, Tensor]:
        """What the network is told, from "images" (B, M, *S), clean where "known"; all else in them is ignored."""
        return told(self.guess, condition["images"], condition["known"])

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """E[x_0 given x_t and what `bound` made]."""
        return self.with_gain(x_t, t, **condition)[0]

    def given(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """E[x_0 given x_t and the code]; known channels are returned as they came."""
        known = condition.pop("known")
        alpha, _ = self.schedule(t, x_t)
        noisy = torch.where(known, alpha * condition["mean"], x_t)
        return torch.where(known, x_t, super().given(noisy, t, **condition))


def told(guess: nn.Module, images: Tensor, known: Tensor) -> dict[str, Tensor]:
    """ "known"; "image", the given channels and the code; "mean", the given channels and guesses; "std" of these."""
    image = torch.cat([torch.where(known, images, 0), known.expand_as(images).to(images)], 1)
    mean, std = guess(image)
    return {"known": known, "image": image, "mean": torch.where(known, images, mean), "std": std}


class GuessedCompleting(Completing):
    """`Completing` around a first guess, which learns beside it (as `conversion.GuessedImage`)."""

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x_0 = whole(batch, self.contrasts)
        known = drawn_codes(self.codes, x_0)
        missing = (~known).expand_as(x_0).to(x_0)
        beside = told(self.players["guess"], x_0, known)
        mean, std = beside["mean"], beside["std"]
        fixed = {key: beside[key].detach() for key in ("image", "mean", "std")}
        t = self.times(len(x_0))
        playing = self._playing()
        assert isinstance(playing, Residual)
        schedule = playing.schedule
        alpha, _ = schedule(t, x_0)
        x_t = torch.where(known, alpha * x_0, diffuse(schedule, x_0, t, gaussian(x_0)))
        estimate, gain = playing.with_gain(x_t, t, **fixed)
        wrong, unit = (_mean(x.square(), missing) for x in (estimate - x_0, gain))
        yield "network", (wrong / unit.clamp_min(1e-12)).mean()
        unlikely = ((x_0 - mean) / std).square() / 2 + std.log()
        weight = fixed["std"] * missing
        yield "guess", (weight * unlikely).sum() / weight.sum()


def _mean(x: Tensor, where: Tensor) -> Tensor:
    """Mean of each case over the voxels where `where` is 1, (B,)."""
    return (x * where).flatten(1).sum(1) / where.flatten(1).sum(1)
