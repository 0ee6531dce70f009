r"""What a reconstruction has to do with its measurement: residual, and what nothing was measured of."""

from torch import Tensor

from ..operators.base import LinearOperator, conjugate_gradient

__all__ = ["null_space", "null_space_energy", "residual", "residual_std"]


def residual(A: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
    """$||y - A x|| / ||y||$ of each case, (B,)."""
    gap, whole = ((part.abs().double() ** 2).flatten(1).sum(1) for part in (y - A(x), y))
    return (gap / whole).sqrt()


def residual_std(A: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
    r"""Root mean square of y - A x over what was measured, in the units of y, (B,).

    Of each part where y is complex. It compares with the noise level s: the truth gives s, a fit of
    the noise less, a reconstruction that denies its measurement more. Values of y that are exactly 0
    count as not measured.
    """
    gap = ((y - A(x)).abs().double() ** 2).flatten(1).sum(1)
    parts = 2 if y.is_complex() else 1
    return (gap / (parts * (y != 0).flatten(1).sum(1).clamp(min=1))).sqrt()


def null_space(
    A: LinearOperator, x: Tensor, iterations: int = 100, tolerance: float = 1e-6
) -> Tensor:
    r"""The part of x that the measurement does not see: $x - A^H (A A^H)^+ A x$, the shape of x.

    Args:
        A: the operator.
        x: images (B, C, *S).
        iterations, tolerance: of the conjugate gradients; few let directions that were measured badly
            count as not measured.
    """
    solved = conjugate_gradient(
        lambda v: A(A.adjoint(v)), A(x), iterations=iterations, tolerance=tolerance
    )
    seen = A.adjoint(solved)
    return x - (seen if x.is_complex() else seen.real if seen.is_complex() else seen)


def null_space_energy(
    A: LinearOperator, samples: Tensor, iterations: int = 100, tolerance: float = 1e-6
) -> Tensor:
    r"""Variance of K samples within the null space, a map: $\frac{1}{K-1}\sum_k |P (x_k - \bar x)|^2$.

    Together with the variance itself it tells what of the uncertainty no measured value limits.

    Args:
        A: the operator.
        samples: (K, B, C, *S), K at least 2.
        iterations, tolerance: as in `null_space`.

    Returns:
        (B, C, *S), real.
    """
    gaps = samples - samples.mean(0)
    total = sum(null_space(A, gap, iterations, tolerance).abs() ** 2 for gap in gaps)
    assert isinstance(total, Tensor)
    return total / (len(samples) - 1)
