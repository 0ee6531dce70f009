"""Measurements of slices that lie side by side, as that of one image of several channels."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.noise import Noise
from ...inverse import Measurement, Project
from ...operators import LinearOperator

__all__ = ["Beside", "Stack", "in_units", "replaced", "side_by_side"]


@dataclass(frozen=True)
class Stack(Acquired):
    """The measurement of slice s, and of its neighbours s - 1, s + 1, s + 2."""

    around: tuple[Acquired, ...] = ()


class Beside(LinearOperator):
    """An operator for each channel: x (B, n, *S) -> (B, K_1 + ... + K_n, *S), all of equal K."""

    def __init__(self, *parts: LinearOperator) -> None:
        self.parts = parts

    def __call__(self, x: Tensor) -> Tensor:
        channels = x.split(1, 1)
        return torch.cat([A(one) for A, one in zip(self.parts, channels, strict=True)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        measured = y.chunk(len(self.parts), 1)
        return torch.cat([A.adjoint(v) for A, v in zip(self.parts, measured, strict=True)], 1)


def side_by_side(first: Acquired, second: Acquired) -> Measurement:
    """The measurement of two slices as that of one image of two channels."""
    a, b = first.measurement, second.measurement
    return Measurement(torch.cat([a.y, b.y], 1), Beside(a.A, b.A), a.std)


def replaced(measurement: Measurement) -> Project:
    """k-space replaced by y as it is, whatever the level."""

    def project(x: Tensor, alpha: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        return x + measurement.A.adjoint(measurement.residual(x))

    return project


def in_units(acquired: Acquired, other: Acquired) -> Acquired:
    """A measurement in the units of another: the slices of a pair share one scale."""
    factor = (acquired.scale / other.scale).to(acquired.measurement.y.device)
    if bool((factor == 1).all()):
        return acquired
    m = acquired.measurement
    y = m.y * factor.reshape(-1, *[1] * (m.y.dim() - 1))
    std = m.std * float(factor.mean())
    return replace(acquired, measurement=replace(m, y=y, std=std), scale=other.scale)
