r"""Diffusion of label maps by classification: the network outputs logits of labels, not numbers.

Where x_0 is one of a few codes at every voxel, $E[x_0 \mid x_t] = \sum_l p(l \mid x_t)\, code_l$, and the
probabilities are learned by cross-entropy, as a segmentation network learns them (score interpolation,
Dieleman et al. 2022, section 3.1). The estimate lies between the codes whatever the network says.

What a voxel's own value says is known, $\log N(x_t;\ \alpha\,code_l,\ \sigma^2 I)$, and is added to the
logits, so that the network learns what the image and the other voxels say (as EDM's skip connection
does for numbers). Where there is little noise this alone gives the code back.

What the image alone says may be guessed by a network of its own (`Guessed`), which then need not be learned
anew at every noise level.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .denoiser import Denoiser
from .label_maps import distribution, probabilities
from .network import Clock, Network, Scale, log_noise, unscaled
from .parametrization import CLEAN
from .schedule import Schedule

__all__ = ["Categorical", "Guessed"]

_LEAST = 1e-4
"""Least sigma: at zero noise the evidence would be infinite."""


class Categorical(Network):
    """A network of logits read as a denoiser of label maps.

    Args:
        backbone: (B, L, *S) -> logits of the labels 0 (background) to L, (B, L + 1, *S).
        schedule, scale, clock: as `Network`.
        absent, factor: x_0 is factor times what `label_maps.encode` makes with `absent`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        absent: float,
        factor: float,
        scale: Scale = unscaled,
        clock: Clock = log_noise,
    ) -> None:
        super().__init__(backbone, schedule, CLEAN, scale, clock)
        self.absent, self.factor = absent, factor

    def given(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        p = self.logits(self.raw(x_t, t, **condition), x_t, t).softmax(1)[:, 1:]
        return (self.factor * (self.absent + (1 - self.absent) * p)).to(x_t.dtype)

    def with_variance(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> tuple[Tensor, Tensor]:
        return Denoiser.with_variance(self, x_t, t)

    def logits(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Logits of all labels: the network's output and what each voxel's value says.

        $\log N(x_t; \alpha\,code_l, \sigma^2) - \log N(x_t; \alpha\,code_0, \sigma^2)
        = \alpha f (1 - a)\,(x_l - \alpha f (1 + a)/2) / \sigma^2$ with a = `absent`, f = `factor`.
        """
        alpha, sigma = self.schedule(t, x_t)
        step = alpha * self.factor * (1 - self.absent)
        middle = alpha * self.factor * (1 + self.absent) / 2
        evidence = step * (x_t - middle) / sigma.clamp_min(_LEAST).square()
        return out.float() + F.pad(evidence, (0,) * (2 * (x_t.ndim - 2)) + (1, 0))

    def cross_entropy(self, out: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Of the network's output (B, L + 1, *S) against the labels of x_0 (B, L, *S), nats a voxel."""
        return F.cross_entropy(self.logits(out, x_t, t), self.truth(x_0))

    def truth(self, x_0: Tensor) -> Tensor:
        """The labels of x_0 (B, L, *S) as probabilities, background first, (B, L + 1, *S)."""
        return distribution(probabilities(x_0.float() / self.factor, self.absent))


class Guessed(Categorical):
    """Logits of labels as a guess from the image, what the noisy labels add to it, and their evidence.

    Args:
        backbone: as `Categorical`'s, with an image condition of C_c + L + 1 channels: it sees the guess.
        guess: (B, C_c, *S) -> logits (B, L + 1, *S).
        rest: as `Categorical`.
    """

    def __init__(self, backbone: nn.Module, guess: nn.Module, *rest: Any) -> None:
        super().__init__(backbone, *rest)
        self.guess = guess

    @property
    def players(self) -> dict[str, nn.Module]:
        return {**super().players, "guess": self.guess}

    def bound(self, **condition: Tensor) -> dict[str, Tensor]:
        return {**condition, "guess": self.guess(condition["image"]).float()}

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """Logits without the evidence, told `image` and `guess` as `bound` makes them."""
        guess = condition.pop("guess")
        told = torch.cat([condition.pop("image"), guess.softmax(1)], 1)
        return guess + super().raw(x_t, t, **condition, image=told).float()
