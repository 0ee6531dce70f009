"""A reconstruction by a generator that is fitted to one scan: the second phase of AdaDiff."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...inverse import Measurement

__all__ = ["Adapted", "adapted"]


@dataclass(frozen=True)
class Adapted:
    """What an adaptation gave.

    Attributes:
        x: the image before its k-space is replaced.
        losses: the data's loss before each step, and after the last.
    """

    x: Tensor
    losses: list[float]


def adapted(
    generator: nn.Module,
    made: Callable[[Callable[..., Tensor]], Tensor],
    measurement: Measurement,
    steps: int,
    rate: float,
) -> Adapted:
    r"""Fit a copy of a generator's weights to a scan: $\min_\theta \|y - A\,G_\theta\|_1$ by Adam.

    The generator itself is left as it is, so that no scan depends on another; with no steps its own image is the
    answer.

    Args:
        generator: G; its weights are where the fit begins.
        made: what a network in its place makes of one input and one latent, (B, 1, *S); the same at every step.
        measurement: y and A.
        steps: of Adam (Kingma & Ba 2015) with beta = (0.5, 0.9).
        rate: of the steps.
    """
    weights = {
        name: value.detach().clone().requires_grad_(True)
        for name, value in generator.named_parameters()
    }
    optimiser = torch.optim.Adam(weights.values(), lr=rate, betas=(0.5, 0.9))

    def fitted(*given: Any) -> Tensor:
        answer: Tensor = functional_call(generator, weights, given)
        return answer

    losses = []
    with torch.enable_grad():
        for _ in range(steps):
            loss = measurement.residual(made(fitted)).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    with torch.no_grad():
        x = made(fitted)
        losses.append(float(measurement.residual(x).abs().mean()))
    return Adapted(x, losses)
