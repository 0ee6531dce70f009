r"""Linear operators, their algebra, their norm, and the conjugate-gradient solver.

An operator $A$ maps images x of shape (B, C, *S) to measurements y, case by case, and proves its
adjoint: $\langle A x, y\rangle = \langle x, A^H y\rangle$ with $\langle a, b\rangle = \sum \bar a b$.
`testing.check_operator` checks it. Noise belongs to the measurement, never to the operator.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError

__all__ = [
    "Identity",
    "LinearOperator",
    "Matrix",
    "Product",
    "conjugate_gradient",
    "factors",
    "norm",
]


class LinearOperator(ABC):
    """A linear map of each case: `A(x)`, `A.adjoint(y)`, and `A @ B`, `A + B`, `2 * A`, `A.H`."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A x, for x (B, C, *S)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y, of the shape of x."""

    def gram(self, x: Tensor) -> Tensor:
        """A^H A x, the shape of x."""
        return self.adjoint(self(x))

    @property
    def H(self) -> "LinearOperator":
        """The adjoint as an operator; `A.H.H` is A."""
        return _Adjoint(self)

    def __matmul__(self, other: "LinearOperator") -> "LinearOperator":
        """(A @ B)(x) = A(B(x))."""
        if not isinstance(other, LinearOperator):
            return NotImplemented
        return self if isinstance(other, Identity) else Product(self, other)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        return _Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return _Sum(self, -other) if isinstance(other, LinearOperator) else NotImplemented

    def __mul__(self, factor: complex) -> "LinearOperator":
        return (
            _Scaled(self, factor) if isinstance(factor, int | float | complex) else NotImplemented
        )

    __rmul__ = __mul__

    def __neg__(self) -> "LinearOperator":
        return -1 * self


@dataclass(frozen=True)
class _Adjoint(LinearOperator):
    of: LinearOperator

    def __call__(self, x: Tensor) -> Tensor:
        return self.of.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.of(y)

    @property
    def H(self) -> LinearOperator:
        return self.of


@dataclass(frozen=True)
class Product(LinearOperator):
    """A = left @ right."""

    left: LinearOperator
    right: LinearOperator

    def __call__(self, x: Tensor) -> Tensor:
        return self.left(self.right(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.right.adjoint(self.left.adjoint(y))

    def gram(self, x: Tensor) -> Tensor:
        return self.right.adjoint(self.left.gram(self.right(x)))


@dataclass(frozen=True)
class _Sum(LinearOperator):
    left: LinearOperator
    right: LinearOperator

    def __call__(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.left.adjoint(y) + self.right.adjoint(y)


@dataclass(frozen=True)
class _Scaled(LinearOperator):
    of: LinearOperator
    factor: complex

    def __call__(self, x: Tensor) -> Tensor:
        return self.factor * self.of(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.factor.conjugate() * self.of.adjoint(y)


class Identity(LinearOperator):
    """A x = x."""

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return other if isinstance(other, LinearOperator) else NotImplemented


class Matrix(LinearOperator):
    """A dense matrix acting on each flattened case: x (B, *shape) -> y (B, M).

    Args:
        matrix: (M, N).
        shape: the shape of one case, N elements in all; (N,) if None.

    Raises:
        UserError: the matrix does not fit the shape.
    """

    def __init__(self, matrix: Tensor, shape: tuple[int, ...] | None = None) -> None:
        self.matrix, self.shape = matrix, shape or tuple(matrix.shape[1:])
        if matrix.ndim != 2 or torch.Size(self.shape).numel() != matrix.shape[1]:
            raise UserError(f"a matrix of shape {tuple(matrix.shape)} cannot act on {shape}")

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x.device).mT

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.to(y.device).conj()).unflatten(1, self.shape)


def factors(A: LinearOperator) -> tuple[LinearOperator, ...]:
    """(A1, A2, ...) of A = A1 @ A2 @ ...; (A,) if it is no product."""
    if isinstance(A, Product):
        return (*factors(A.left), *factors(A.right))
    return (A,)


def _squared(x: Tensor) -> Tensor:
    """||x||^2 of each case, (B,), real."""
    return (x.real**2 + x.imag**2 if x.is_complex() else x**2).flatten(1).sum(1)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> of each case, (B,), real."""
    return (a.conj() * b).real.flatten(1).sum(1)


def _rows(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))


def norm(A: LinearOperator, like: Tensor, iterations: int = 50, seed: int = 0) -> Tensor:
    """The spectral norm ||A|| of each case, by power iteration on A^H A.

    Args:
        A: the operator; it may differ from case to case.
        like: gives shape (B, C, *S), dtype and device of x; its values are not used.
        iterations: number of applications of A^H A. The result grows towards ||A|| from below.
        seed: of the start, the same for every case, so that a case does not see its batch.

    Returns:
        (B,), real.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(1, *like.shape[1:], generator=generator, dtype=like.real.dtype)
    x = start.to(like).expand_as(like)
    largest = torch.zeros(len(like), dtype=like.real.dtype, device=like.device)
    for _ in range(iterations):
        x = x / _rows(_squared(x).sqrt().clamp(min=torch.finfo(like.dtype).tiny), x)
        x = A.gram(x)
        largest = _squared(x).sqrt()
    return largest.sqrt()


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    b: Tensor,
    x: Tensor | None = None,
    iterations: int = 50,
    tolerance: float = 1e-6,
) -> Tensor:
    r"""Solve $N x = b$ for a Hermitian positive (semi-)definite N by conjugate gradients.

    Hestenes & Stiefel (1952). Every case has its own step sizes and stops by itself, so a case does
    not depend on its batch; a solution of N unknowns is exact after N steps, but for rounding.

    Args:
        normal: N, e.g. `A.gram` or `lambda x: A.gram(x) + weight * x`.
        b: right-hand side (B, *), real or complex.
        x: where to start, (B, *); zero if None.
        iterations: at most that many applications of N.
        tolerance: a case stops where ||b - N x|| <= tolerance ||b||.

    Returns:
        x (B, *). A case with NaN stays NaN; a direction without curvature ends its case.
    """
    if x is None:
        x, residual = torch.zeros_like(b), b
    else:
        residual = b - normal(x)
    direction, rest = residual, _squared(residual)
    enough = tolerance**2 * _squared(b)
    active = ~(rest <= enough)
    for _ in range(iterations):
        if not bool(active.any()):
            break
        image = normal(direction)
        curvature = _inner(direction, image)
        active = active & ~(curvature <= 0)
        step = _rows(torch.where(active, rest / torch.where(active, curvature, 1.0), 0.0), b)
        x, residual = x + step * direction, residual - step * image
        new = _squared(residual)
        turn = torch.where(active, new / torch.where(active, rest, 1.0), 0.0)
        direction, rest = residual + _rows(turn, b) * direction, new
        active = active & ~(rest <= enough)
    return x
