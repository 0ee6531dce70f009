"""Denoisers that lead a chain: between two denoisers, along a gradient, or within a range."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoiser import Denoiser

__all__ = ["Clipped", "Guided", "LogProbability", "Steered", "log_class", "log_mask", "log_value"]


class Guided(Denoiser):
    r"""Extrapolation from one denoiser to another: $\hat x = \hat x_b + w (\hat x_a - \hat x_b)$.

    Classifier-free guidance (Ho & Salimans 2022) with a = conditional, b = unconditional;
    autoguidance (Karras et al. 2024) with b = a weaker model. w = 1 is `main` alone.
    """

    def __init__(self, main: Denoiser, other: Denoiser, weight: float) -> None:
        super().__init__()
        self.main, self.other, self.weight = main, other, weight
        self.schedule = main.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        if self.weight == 1:
            return self.main(x_t, t)
        return torch.lerp(self.other(x_t, t), self.main(x_t, t), self.weight)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The guided mean, and the w of `main`."""
        x_0, w = self.main.with_variance(x_t, t)
        return (x_0 if self.weight == 1 else torch.lerp(self.other(x_t, t), x_0, self.weight)), w


class Steered(Denoiser):
    r"""Guidance by a gradient: $\hat x_0' = \hat x_0 + w\,\tfrac{\sigma^2}{\alpha}\nabla\log p(y\mid x_t)$.

    Adding $w \nabla \log p(y \mid x_t)$ to the score (Dhariwal & Nichol 2021, algorithm 1-2).

    Args:
        log_probability: maps (x_t (B, *), t) to log p(y given x_t), shape (B,).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        log_probability: Callable[[Tensor, Tensor], Tensor],
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.denoiser, self.log_probability, self.weight = denoiser, log_probability, weight
        self.schedule = denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x_t, t) + self._shift(x_t, t)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The steered mean, and the w of the denoiser."""
        x_0, w = self.denoiser.with_variance(x_t, t)
        return x_0 + self._shift(x_t, t), w

    def _shift(self, x_t: Tensor, t: Tensor) -> Tensor:
        # a likelihood differentiates the gradient once more, for its divergence
        twice = x_t.requires_grad
        with torch.enable_grad():
            x = x_t if twice else x_t.detach().requires_grad_()
            log_p = self.log_probability(x, t).sum()
            (gradient,) = torch.autograd.grad(log_p, x, create_graph=twice)
        alpha, sigma = self.schedule(t, x_t)
        return self.weight * sigma**2 / alpha * gradient


class Clipped(Denoiser):
    """The estimate kept to the range of the data (Ho et al. 2020 clip to [-1, 1]); complex: each part."""

    def __init__(self, denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.low, self.high = denoiser, low, high
        self.schedule = denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(x_t, t)
        if x_0.is_complex():
            parts = (part.clamp(self.low, self.high) for part in (x_0.real, x_0.imag))
            return torch.complex(*parts)
        return x_0.clamp(self.low, self.high)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x_0, w = self.denoiser.with_variance(x_t, t)
        return x_0.clamp(self.low, self.high), w


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
