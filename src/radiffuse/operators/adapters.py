r"""Operators of deepinv, SigPy and MRpro as ours, and non-Cartesian MRI by mri-nufft.

Each wrapper keeps the library's forward map and adjoint, takes batches, and has the adjoint as its
gradient. None of the libraries is needed by Radiffuse: `pip install 'radiffuse[operators]'`.
Whether a library's adjoint is exact is the library's; `testing.check_operator` tells.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .base import LinearOperator
from .fourier import Coils

__all__ = ["NonCartesian", "from_deepinv", "from_mrpro", "from_sigpy", "non_cartesian"]

Map = Callable[[Tensor], Tensor]


class _Linear(torch.autograd.Function):
    """x -> forward(x), whose gradient is backward(y), and so on for higher orders."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Map, backward: Map) -> Tensor:
        ctx.pair, ctx.real = (backward, forward), not x.is_complex()
        return forward(x.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x = _Linear.apply(gradients[0], *ctx.pair)
        return (x.real if ctx.real and x.is_complex() else x), None, None


@dataclass(frozen=True)
class _Pair(LinearOperator):
    """An operator made of two functions of batches."""

    forward: Map
    backward: Map

    def __call__(self, x: Tensor) -> Tensor:
        return _Linear.apply(x, self.forward, self.backward)

    def adjoint(self, y: Tensor) -> Tensor:
        return _Linear.apply(y, self.backward, self.forward)


def _needs(given: Any, names: tuple[str, ...], what: str) -> None:
    missing = [name for name in names if not hasattr(given, name)]
    if missing:
        raise UserError(
            f"{type(given).__name__} is no {what}: it has no {' and no '.join(missing)}"
        )


def from_deepinv(physics: Any, parts: bool = False) -> LinearOperator:
    """A deepinv `LinearPhysics`: `A(x)` and `A_adjoint(y)`, without its noise.

    Args:
        physics: e.g. `deepinv.physics.Tomography(..., normalize=False)`.
        parts: for its MRI, whose channels are real and imaginary part: x (B, 1, *S) and y (B, 1 or K, *S)
            become complex.

    Raises:
        UserError: it has no adjoint.
    """
    _needs(physics, ("A", "A_adjoint"), "linear physics of deepinv")

    if not parts:
        return _Pair(physics.A, physics.A_adjoint)
    many = getattr(physics, "coil_maps", None) is not None

    def forward(x: Tensor) -> Tensor:
        y = _joined(physics.A(_split(x[:, 0])))
        return y if many else y[:, None]

    def backward(y: Tensor) -> Tensor:
        return _joined(physics.A_adjoint(_split(y if many else y[:, 0])))[:, None]

    return _Pair(forward, backward)


def _split(x: Tensor) -> Tensor:
    """Real and imaginary part as an axis behind the batch."""
    return torch.stack([x.real, x.imag if x.is_complex() else torch.zeros_like(x)], 1)


def _joined(parts: Tensor) -> Tensor:
    return torch.complex(parts[:, 0].contiguous(), parts[:, 1].contiguous())


def from_sigpy(linop: Any, shape: tuple[int, ...] | None = None) -> LinearOperator:
    """A SigPy `Linop`, case by case on the CPU: x (B, *shape) -> y (B, *oshape).

    Args:
        linop: with `ishape`, `oshape` and `H`, of one case.
        shape: (C, *S) of one case, as many numbers as `ishape` holds; (1, *ishape) if None.

    Raises:
        UserError: it is no linop, or the shape does not fit it.
    """
    _needs(linop, ("ishape", "oshape", "H"), "linear operator of SigPy")
    inside, outside = tuple(linop.ishape), tuple(linop.oshape)
    shape = shape or (1, *inside)
    if math.prod(shape) != math.prod(inside):
        raise UserError(f"cases of shape {shape} do not fit a linop of {inside}")

    def apply(step: Any, old: tuple[int, ...], new: tuple[int, ...]) -> Map:
        def each(data: Tensor) -> Tensor:
            cases = [step(case.cpu().numpy().reshape(old)) for case in data]
            out = torch.stack([torch.as_tensor(case).reshape(new) for case in cases])
            # SigPy computes some transforms in single precision only
            kind = data.dtype.to_complex() if out.is_complex() else data.real.dtype
            return out.to(data.device, kind)

        return each

    return _Pair(apply(linop, inside, outside), apply(linop.H, outside, shape))


def from_mrpro(operator: Any) -> LinearOperator:
    """An MRpro `LinearOperator`: x and y have its shapes, (other, coils or 1, z, y, x) for images.

    Raises:
        UserError: it has no adjoint.
    """
    _needs(operator, ("adjoint",), "linear operator of MRpro")

    def forward(x: Tensor) -> Tensor:
        return operator(x)[0]

    def backward(y: Tensor) -> Tensor:
        return operator.adjoint(y)[0]

    return _Pair(forward, backward)


class NonCartesian(LinearOperator):
    r"""Fourier transform at any points of k-space: x (B, K, *S) -> y (B, K, M), complex; by mri-nufft.

    $y_m = N^{-1/2}\sum_n x_n e^{-2\pi i\,k_m\cdot(n - c)}$, $c = \lfloor S/2 \rfloor$: on the points of the grid it
    is `Fourier`. Runs on the CPU (finufft), accurate to 1e-6 in single precision.

    Args:
        trajectory: k (..., axes) in cycles per pixel, within [-0.5, 0.5], in the order of `size`.
        size: S, two or three axes.

    Raises:
        UserError: the library is missing, or trajectory and size do not fit each other or the data.
    """

    def __init__(self, trajectory: Tensor, size: tuple[int, ...]) -> None:
        points = trajectory.detach().cpu().double().reshape(-1, trajectory.shape[-1])
        if len(size) not in (2, 3) or points.shape[1] != len(size) or not len(points):
            raise UserError(
                f"a trajectory of shape {tuple(trajectory.shape)} does not fit images of {size}: its "
                "last axis holds one coordinate for each of 2 or 3 axes"
            )
        if not bool((points.abs() <= 0.5 + 1e-9).all()):
            raise UserError(
                "the trajectory leaves [-0.5, 0.5] or is not finite: give cycles per pixel"
            )
        try:
            import finufft  # noqa: F401
            import mrinufft
        except ImportError as error:
            raise UserError(
                "non-Cartesian MRI needs mri-nufft and finufft: pip install 'radiffuse[operators]'"
            ) from error
        self.points, self.size, self.make = points, tuple(size), mrinufft.get_operator("finufft")
        self._plans: dict[tuple[int, torch.dtype], Any] = {}

    def _plan(self, count: int, kind: torch.dtype) -> Any:
        """The library's operator for `count` images; it takes k in [-pi, pi]."""
        if (count, kind) not in self._plans:
            real = torch.float64 if kind == torch.complex128 else torch.float32
            self._plans[count, kind] = self.make(
                (2 * math.pi * self.points).to(real).numpy(),
                self.size,
                n_coils=count,
                squeeze_dims=False,
                eps=1e-12 if real == torch.float64 else 1e-6,
            )
        return self._plans[count, kind]

    def _apply(self, data: Tensor, shape: tuple[int, ...], new: tuple[int, ...], t: bool) -> Tensor:
        if data.ndim != 2 + len(shape) or tuple(data.shape[2:]) != shape:
            raise UserError(
                f"data of shape {tuple(data.shape)} do not fit a trajectory of {len(self.points)} "
                f"points over {self.size}: expected (batch, coils, {', '.join(map(str, shape))})"
            )
        kind = data.dtype.to_complex()
        plan = self._plan(data.shape[1], kind)
        apply = plan.adj_op if t else plan.op
        # mri-nufft divides by the root of 2^axes N, in both directions
        scale = 2 ** (len(self.size) / 2)
        cases = [apply(case[None].contiguous().numpy())[0] for case in data.detach().cpu().to(kind)]
        out = torch.stack([torch.from_numpy(case) for case in cases])
        return scale * out.reshape(*data.shape[:2], *new).to(data.device, kind)

    def _forward(self, x: Tensor) -> Tensor:
        return self._apply(x, self.size, (len(self.points),), t=False)

    def _backward(self, y: Tensor) -> Tensor:
        return self._apply(y, (len(self.points),), self.size, t=True)

    def __call__(self, x: Tensor) -> Tensor:
        return _Linear.apply(x, self._forward, self._backward)

    def adjoint(self, y: Tensor) -> Tensor:
        return _Linear.apply(y, self._backward, self._forward)


def non_cartesian(
    trajectory: Tensor, size: tuple[int, ...], coils: Tensor | None = None
) -> LinearOperator:
    """Multi-coil MRI along a trajectory: `NonCartesian(trajectory, size) @ Coils(coils)`.

    Args:
        trajectory: (..., axes), cycles per pixel.
        size: of the image.
        coils: sensitivities (B or 1, K, *size); none: x goes in as it is.
    """
    transform = NonCartesian(trajectory, size)
    return transform if coils is None else transform @ Coils(coils)
