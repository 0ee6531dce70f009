r"""What a reconstruction has to do with its measurement: residual, and what nothing was measured of."""

from torch import Tensor

from ..operators.base import LinearOperator, conjugate_gradient

__all__ = ["misfit", "null_space", "null_space_energy", "residual", "residual_std"]


RIDGE, EXPLAINED = 1e-2, 1.25
"""Of `misfit`; with coil maps of simulated scans (R 4 and 8, lines and points) the estimate is 0.8 to
1.2 times the deviation of A x - y at the true image."""


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


def misfit(A: LinearOperator, y: Tensor) -> Tensor:
    r"""How far y is from all that A explains, as the deviation of white noise, (B,).

    `residual_std` of the plain reconstruction $(A^H A + w)^{-1} A^H y$, times 1.25 for what it fits of
    it. Wrong coil maps or a wrong phase leave several times the noise, right ones less than the noise:
    take the larger of the two. Meant for $\|A\| \approx 1$.
    """

    def normal(x: Tensor) -> Tensor:
        return A.gram(x) + RIDGE * x

    x = conjugate_gradient(normal, A.adjoint(y), iterations=30)
    return EXPLAINED * residual_std(A, x, y)


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
