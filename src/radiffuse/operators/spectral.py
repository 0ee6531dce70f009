r"""The singular value decomposition $A = U \Sigma V^H$ of the operators that have a fast one.

Coefficients $c = V^H x$ are laid out like x itself (B, *), or flat (B, N) for a dense matrix;
$U^H y$ is laid out the same way, with zeros where there is no singular value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .base import Identity, LinearOperator, Matrix, Product
from .fourier import Fourier, Mask
from .resample import BlockMean

__all__ = ["Spectral", "spectral"]


@dataclass(frozen=True)
class Spectral:
    """A = U S V^H as functions.

    Attributes:
        coefficients: V^H x.
        image: V c, its inverse.
        measured: U^H y, laid out like c.
        values: the singular values S >= 0, broadcastable over c.
    """

    coefficients: Callable[[Tensor], Tensor]
    image: Callable[[Tensor], Tensor]
    measured: Callable[[Tensor], Tensor]
    values: Tensor


def spectral(A: LinearOperator, like: Tensor) -> Spectral:
    """The decomposition of A on images like `like` (B, *).

    Offered by `Identity`, `Mask`, `Mask @ Fourier` and `Fourier` on complex images, `BlockMean` and
    `Matrix`.

    Raises:
        UserError: A has no fast decomposition, or is complex where the image is real.
    """
    if isinstance(A, Identity):
        return Spectral(_same, _same, _same, torch.ones((), dtype=like.real.dtype).to(like.device))
    if isinstance(A, Mask):
        return _of_mask(A, like, _same, _same)
    if isinstance(A, BlockMean):
        return _of_blocks(A, like)
    complex_enough = like.is_complex()
    if isinstance(A, Matrix) and (complex_enough or not A.matrix.is_complex()):
        return _of_matrix(A, like)
    mask, fourier = _mask_and_fourier(A)
    if fourier is not None and complex_enough:
        return _of_mask(mask, like, fourier, fourier.adjoint)
    reason = (
        "a real image has no decomposition under a complex operator: give a complex image"
        if fourier is not None or isinstance(A, Matrix)
        else "it offers no singular value decomposition: use another solver, e.g. dds or daps"
    )
    raise UserError(f"DDRM cannot take the operator {type(A).__name__.strip('_')}: {reason}")


def _same(x: Tensor) -> Tensor:
    return x


def _mask_and_fourier(A: LinearOperator) -> tuple[Mask, Fourier | None]:
    everything = Mask(torch.ones(()))
    if isinstance(A, Fourier):
        return everything, A
    if isinstance(A, Product) and isinstance(A.left, Mask) and isinstance(A.right, Fourier):
        return A.left, A.right
    return everything, None


def _of_mask(
    mask: Mask,
    like: Tensor,
    coefficients: Callable[[Tensor], Tensor],
    image: Callable[[Tensor], Tensor],
) -> Spectral:
    weight = mask.mask.to(like.device, like.real.dtype)
    return Spectral(coefficients, image, lambda y: torch.sign(weight) * y, weight.abs())


def _of_matrix(A: Matrix, like: Tensor) -> Spectral:
    left, some, right = torch.linalg.svd(A.matrix.to(like.device))
    columns = A.matrix.shape[1]
    values = torch.zeros(columns, dtype=some.dtype, device=like.device)
    # rounding must not pass for a singular value
    values[: len(some)] = torch.where(some > 1e-6 * some.max(), some, 0.0)

    def measured(y: Tensor) -> Tensor:
        c = (y @ left.conj())[:, :columns]
        return torch.nn.functional.pad(c, (0, columns - c.shape[1]))

    return Spectral(
        lambda x: x.flatten(1) @ right.mT,
        lambda c: (c @ right.conj()).unflatten(1, A.shape),
        measured,
        values,
    )


def _cosines(n: int, like: Tensor) -> Tensor:
    """An orthonormal basis (n, n) whose first row is constant: the cosine transform."""
    k = torch.arange(n, dtype=torch.float64)
    basis = torch.cos(math.pi / n * (k + 0.5) * k[:, None]) * math.sqrt(2 / n)
    basis[0] = n**-0.5
    return basis.to(like)


def _of_blocks(A: BlockMean, like: Tensor) -> Spectral:
    """In each block, the mean over it is the first coefficient; the others are the null space."""
    bases = [_cosines(f, like) for f in A.factors]

    def turned(x: Tensor, transpose: bool) -> Tensor:
        for back, basis in enumerate(reversed(bases), start=1):
            blocks = x.movedim(-back, -1).unflatten(-1, (-1, len(basis)))
            blocks = blocks @ (basis if transpose else basis.mT)
            x = blocks.flatten(-2).movedim(-1, -back)
        return x

    def placed(y: Tensor) -> Tensor:
        for back, basis in enumerate(reversed(bases), start=1):
            first = torch.nn.functional.pad(y.movedim(-back, -1)[..., None], (0, len(basis) - 1))
            y = first.flatten(-2).movedim(-1, -back)
        return y

    coarse = A(torch.zeros_like(like[:1]))
    values = placed(torch.full_like(coarse.real, math.prod(A.factors) ** -0.5))
    return Spectral(lambda x: turned(x, False), lambda c: turned(c, True), placed, values)
