r"""What was measured: $y = A x_0 + n$, $n \sim N(0, s^2 I)$, and the two least-squares steps it allows.

A real image seen by a complex operator is a real-linear map, whose adjoint is the real part of
$A^H$; `Measurement.adjoint` takes it, so that every method here serves real and complex images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.schedule import Schedule, expand
from ..errors import UserError
from ..operators.base import LinearOperator, conjugate_gradient

__all__ = ["Measurement", "white_spread"]


@dataclass(frozen=True)
class Measurement:
    """What was measured, how, and how well.

    Attributes:
        y: the measured values, (B, *).
        A: the operator.
        std: standard deviation s of the noise (of each part, where y is complex); one number, or one
            a case, (B,) or (B, 1, ...).

    Raises:
        UserError: std is negative or not finite, or neither one number nor one a case.
    """

    y: Tensor
    A: LinearOperator
    std: float | Tensor

    def __post_init__(self) -> None:
        std = torch.as_tensor(self.std)
        if not bool(torch.isfinite(std).all()) or bool((std < 0).any()):
            raise UserError("std, the deviation of the noise, must be finite and at least 0")
        if std.numel() == 1:
            return
        if std.numel() != len(self.y):
            raise UserError(
                f"std has shape {tuple(std.shape)}; it is one number, or one for each of {len(self.y)} cases"
            )
        # to multiply y, whatever its axes
        object.__setattr__(self, "std", std.reshape(-1, *[1] * (self.y.ndim - 1)))

    @property
    def deviations(self) -> Tensor:
        """s of each case, (B,) float64."""
        std = torch.as_tensor(self.std, dtype=torch.float64)
        return std.reshape(-1).expand(len(self.y))

    def residual(self, x: Tensor) -> Tensor:
        """y - A x, the shape of y.

        Raises:
            UserError: A x has another shape.
        """
        return self.y - self.seen(x)

    def seen(self, x: Tensor) -> Tensor:
        """A x, the shape of y but for the number of cases, where either has one alone.

        Raises:
            UserError: A x has another shape.
        """
        seen = self.A(x)
        alike = len(seen) == len(self.y) or 1 in (len(seen), len(self.y))
        if seen.shape[1:] != self.y.shape[1:] or not alike:
            raise UserError(
                f"y has shape {tuple(self.y.shape)}, and the operator makes {tuple(seen.shape)} of an image; they "
                "must be equal"
            )
        return seen

    def adjoint(self, v: Tensor, like: Tensor) -> Tensor:
        """A^H v for v of the shape of y; its real part where the image `like` is real."""
        x = self.A.adjoint(v)
        return x.real if x.is_complex() and not like.is_complex() else x

    def gram(self, x: Tensor) -> Tensor:
        """A^H A x, of the kind of x."""
        image = self.A.gram(x)
        return image.real if image.is_complex() and not x.is_complex() else image

    def pseudo_inverse(self, v: Tensor, like: Tensor, iterations: int = 20) -> Tensor:
        """A^+ v, the smallest x of the kind of `like` with A x nearest to v, by conjugate gradients."""
        return self._inverse(v, like, 0.0, iterations)

    def damped_inverse(self, v: Tensor, like: Tensor, r2: Tensor, iterations: int = 20) -> Tensor:
        r"""$(A^H A + s^2/r^2)^{-1} A^H v$, an image of the kind of `like`; A^+ v where s = 0.

        Args:
            v: of the shape of y.
            like: an image (B, *).
            r2: r^2 >= 0, broadcastable; where it is 0, and s is not, the result is 0.
            iterations: of conjugate gradients.
        """
        deviations = expand(self.deviations.to(device=like.device, dtype=r2.dtype), like)
        weight = deviations**2 / r2.clamp_min(1e-12)
        return self._inverse(v, like, weight, iterations)

    def _inverse(self, v: Tensor, like: Tensor, weight: Tensor | float, iterations: int) -> Tensor:
        """(A^H A + weight)^{-1} A^H v."""
        return conjugate_gradient(
            lambda x: self.gram(x) + weight * x,
            self.adjoint(v, like),
            iterations=iterations,
        )

    def nearest(self, x_0: Tensor, r2: Tensor, iterations: int = 20) -> Tensor:
        r"""$\arg\min_x \|y-Ax\|^2/s^2 + \|x-x_0\|^2/r^2$, by conjugate gradients over measurements.

        Equal to $x_0 + r^2 A^H (r^2 A A^H + s^2)^{-1} (y - A x_0)$. x_0 (B, *); r2 broadcastable.
        """

        def normal(v: Tensor) -> Tensor:
            return self.A(r2 * self.adjoint(v, x_0)) + self.std**2 * v

        v = conjugate_gradient(normal, self.residual(x_0), iterations=iterations)
        return x_0 + r2 * self.adjoint(v, x_0)

    def unbiased(self, image: Tensor) -> Tensor:
        """The image that `image`, an average of measurements, stands for: itself, the noise being of mean 0."""
        return image

    def log_likelihood(self, x: Tensor) -> Tensor:
        r"""$-\|y - A x\|^2 / 2 s^2$ of each case, (B,), without its constant; s > 0."""
        return -_squared(self.residual(x) / self.std) / 2


def white_spread(schedule: Schedule, t: Tensor, like: Tensor, data_std: float) -> Tensor:
    r"""$r^2 = \sigma^2 d^2/(\alpha^2 d^2+\sigma^2)$, the variance of $x_0\mid x_t$ for white data of std d."""
    alpha, sigma = schedule(t, like)
    return sigma**2 * data_std**2 / (alpha**2 * data_std**2 + sigma**2)


def _squared(v: Tensor) -> Tensor:
    flat = torch.view_as_real(v) if v.is_complex() else v
    return (flat**2).flatten(1).sum(1)
