"""Operators of other libraries: with stand-ins of the same form, and with the libraries if present."""

import builtins
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from radiffuse.errors import UserError
from radiffuse.operators import Coils, Fourier, Mask, Matrix, Parallel, Radon, norm, views
from radiffuse.operators.adapters import (
    NonCartesian,
    from_deepinv,
    from_mrpro,
    from_sigpy,
    non_cartesian,
)
from radiffuse.operators.coils import birdcage
from radiffuse.testing import check_operator


def draws(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ------------------------------------------------------------------------------------ stand-ins
def physics(A, coils=None):
    """As deepinv's: plain functions, and for MRI real and imaginary parts as channels."""
    return SimpleNamespace(A=A, A_adjoint=A.adjoint, coil_maps=coils)


class InParts:
    """deepinv's convention around a complex operator: (B, 2, *) in and out, coils behind."""

    def __init__(self, A, coils=None):
        self.of, self.coil_maps = A, coils

    def A(self, x):
        y = self.of(torch.complex(x[:, 0], x[:, 1])[:, None])
        y = y if self.coil_maps is not None else y[:, 0]
        return torch.stack([y.real, y.imag], 1)

    def A_adjoint(self, y):
        y = torch.complex(y[:, 0], y[:, 1])
        x = self.of.adjoint(y if self.coil_maps is not None else y[:, None])[:, 0]
        return torch.stack([x.real, x.imag], 1)


class Linop:
    """As SigPy's: numpy arrays of one case."""

    def __init__(self, matrix, ishape, oshape):
        self.matrix, self.ishape, self.oshape = matrix, ishape, oshape

    def __call__(self, x):
        assert isinstance(x, np.ndarray) and x.shape == tuple(self.ishape)
        return (self.matrix @ x.reshape(-1)).reshape(self.oshape)

    @property
    def H(self):
        return Linop(self.matrix.conj().T, self.oshape, self.ishape)


class Tupled:
    """As MRpro's: every answer is a tuple of one."""

    def __init__(self, A):
        self.of = A

    def __call__(self, x):
        return (self.of(x),)

    def adjoint(self, y):
        return (self.of.adjoint(y),)


def test_a_physics_with_real_images():
    A = Radon(Parallel((9, 8), views(5)))
    x, y = draws(2, 1, 9, 8), draws(2, 1, 5, A.geometry.detectors, seed=1)
    adapted = from_deepinv(physics(A))
    check_operator(adapted, x, y)
    assert torch.equal(adapted(x), A(x))


@pytest.mark.parametrize("coils", [1, 3])
def test_a_physics_whose_channels_are_parts(coils):
    maps = birdcage((8, 6), coils, [0, 1]).to(torch.complex128)
    mask = Mask((draws(8, 6) > 0).double())
    A = mask @ Fourier(2) @ Coils(maps) if coils > 1 else mask @ Fourier(2)
    x = draws(2, 1, 8, 6, dtype=torch.complex128)
    y = draws(2, coils, 8, 6, seed=1, dtype=torch.complex128)
    adapted = from_deepinv(InParts(A, maps if coils > 1 else None), parts=True)
    check_operator(adapted, x, y)
    assert torch.allclose(adapted(x), A(x)) and torch.allclose(adapted(x.real), A(x.real))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_a_linop_is_applied_case_by_case(dtype):
    M = draws(10, 6, dtype=dtype)
    adapted = from_sigpy(Linop(M.numpy(), [2, 3], [5, 2]))
    x, y = draws(4, 1, 2, 3, seed=1, dtype=dtype), draws(4, 5, 2, seed=2, dtype=dtype)
    check_operator(adapted, x, y)
    assert torch.allclose(adapted(x).flatten(1), Matrix(M, (1, 2, 3))(x), atol=1e-5)
    channels = from_sigpy(Linop(M.numpy(), [2, 3], [5, 2]), shape=(2, 3))
    assert channels.adjoint(y).shape == (4, 2, 3)


def test_a_real_image_may_have_complex_values_measured():
    M = draws(4, 6, dtype=torch.complex128)
    adapted = from_sigpy(Linop(M.numpy(), [6], [4]))
    x, y = draws(2, 1, 6).requires_grad_(), draws(2, 4, seed=1, dtype=torch.complex128)
    (gradient,) = torch.autograd.grad(adapted(x), x, y)
    assert torch.allclose(gradient, adapted.adjoint(y).real)


def test_an_operator_that_answers_in_tuples():
    A = Matrix(draws(5, 6), (1, 6))
    check_operator(from_mrpro(Tupled(A)), draws(3, 1, 6), draws(3, 5, seed=1))


def test_an_adapted_operator_has_second_derivatives_and_algebra():
    A = from_sigpy(Linop(draws(5, 6).numpy(), [6], [5]))
    x = draws(2, 1, 6).requires_grad_()
    (slope,) = torch.autograd.grad(0.5 * A(x).square().sum(), x, create_graph=True)
    (curved,) = torch.autograd.grad(slope.sum(), x)
    assert torch.allclose(curved, A.gram(torch.ones_like(x)))
    assert torch.allclose((2 * A).H(A(x)), 2 * A.gram(x))


@pytest.mark.parametrize("adapt", [from_deepinv, from_sigpy, from_mrpro])
def test_something_else_is_said_in_one_line(adapt):
    with pytest.raises(UserError, match="object is no linear") as error:
        adapt(object())
    assert "\n" not in str(error.value)


def test_a_case_must_hold_what_the_linop_takes():
    with pytest.raises(UserError, match="do not fit a linop"):
        from_sigpy(Linop(np.eye(6), [2, 3], [6]), shape=(1, 5))


@pytest.mark.parametrize(
    ("trajectory", "size", "words"),
    [
        (torch.zeros(5, 3), (8, 8), "last axis"),
        (torch.zeros(0, 2), (8, 8), "last axis"),
        (torch.full((5, 2), 3.0), (8, 8), "cycles per pixel"),
        (torch.full((5, 2), torch.nan), (8, 8), "cycles per pixel"),
    ],
)
def test_a_trajectory_that_does_not_fit_is_said(trajectory, size, words):
    with pytest.raises(UserError, match=words):
        non_cartesian(trajectory, size)


def test_a_missing_library_is_said_with_what_to_install(monkeypatch):
    true_import = builtins.__import__

    def without(name, *words, **more):
        if name in ("mrinufft", "finufft"):
            raise ImportError(name)
        return true_import(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"radiffuse\[operators\]") as error:
        non_cartesian(torch.zeros(4, 2), (8, 8))
    assert "\n" not in str(error.value)


class Slow:
    """As mri-nufft's operator: explicit sums, divided by the root of 2^axes N."""

    def __init__(self, samples, shape, n_coils=1, **_):
        grid = np.stack(
            np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"), -1
        ).reshape(-1, len(shape))
        self.matrix = np.exp(-1j * samples @ grid.T) / math.sqrt(2 ** len(shape) * len(grid))
        self.shape = shape

    def op(self, x):
        flat = x.reshape(*x.shape[:2], -1)
        return (flat @ self.matrix.T).astype(x.dtype)

    def adj_op(self, y):
        return (y @ self.matrix.conj()).astype(y.dtype).reshape(*y.shape[:2], *self.shape)


def grid_points(size):
    """The Cartesian grid as a trajectory."""
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def check_non_cartesian(size, dtype):
    """On the grid it is `Fourier`; off it the adjoint holds; coils go before it."""
    K = 3
    x = draws(2, K, *size, dtype=dtype)
    y = draws(2, K, math.prod(size), seed=1, dtype=dtype)
    A = NonCartesian(grid_points(size), size)
    close = 1e-9 if dtype == torch.complex128 else 1e-4
    assert torch.allclose(A(x), Fourier(len(size))(x).flatten(2), atol=close)
    assert abs(float(norm(A, x[:1], 3)) - 1) < 1e-3
    trajectory = torch.rand(5, 9, len(size), generator=torch.Generator().manual_seed(0)) - 0.5
    maps = birdcage(size, K, [0, 1]).to(dtype)
    off = non_cartesian(trajectory, size, maps)
    check_operator(off, x[:, :1], y[:, :, :45])
    apart = NonCartesian(trajectory, size)(Coils(maps)(x[:, :1]))
    assert torch.allclose(off(x[:, :1]), apart)
    with pytest.raises(UserError, match="do not fit a trajectory"):
        A(x[..., 1:])


@pytest.mark.parametrize("size", [(8, 7), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_non_cartesian_mri_with_a_stand_in(size, dtype, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "finufft", SimpleNamespace())
    standing = SimpleNamespace(get_operator=lambda name: Slow)
    monkeypatch.setitem(sys.modules, "mrinufft", standing)
    check_non_cartesian(size, dtype)


# -------------------------------------------------------------------------------- the libraries
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("size", [(8, 7), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_non_cartesian_mri_with_mri_nufft(size, dtype):
    pytest.importorskip("mrinufft")
    pytest.importorskip("finufft")
    check_non_cartesian(size, dtype)


@pytest.mark.filterwarnings("default")
def test_sigpy():
    sigpy = pytest.importorskip("sigpy")
    maps = birdcage((12, 10), 3, [0])
    linop = sigpy.linop.FFT([3, 12, 10], axes=(-2, -1)) * sigpy.linop.Multiply(
        [12, 10], maps[0].numpy()
    )
    x, y = draws(2, 1, 12, 10, dtype=torch.complex64), draws(2, 3, 12, 10, dtype=torch.complex64)
    adapted = from_sigpy(linop)
    check_operator(adapted, x, y)
    assert torch.allclose(adapted(x), (Fourier(2) @ Coils(maps))(x), atol=1e-5)


@pytest.mark.filterwarnings("default")
def test_mrpro():
    operators = pytest.importorskip("mrpro.operators")
    maps = birdcage((12, 10), 3, [0, 1])
    theirs = operators.FastFourierOp(dim=(-2, -1)) @ operators.SensitivityOp(maps[:, :, None])
    x = draws(2, 1, 1, 12, 10, dtype=torch.complex64)
    y = draws(2, 3, 1, 12, 10, seed=1, dtype=torch.complex64)
    adapted = from_mrpro(theirs)
    check_operator(adapted, x, y)
    ours = (Fourier(2) @ Coils(maps))(x[:, :, 0])
    assert torch.allclose(adapted(x)[:, :, 0], ours, atol=1e-5)


@pytest.mark.filterwarnings("default")
def test_deepinv_mri():
    deepinv = pytest.importorskip("deepinv")
    mask = (draws(12, 10) > 0).float()
    maps = birdcage((12, 10), 3, [0, 1])
    x = draws(2, 1, 12, 10, dtype=torch.complex64)
    single = from_deepinv(deepinv.physics.MRI(mask=mask, img_size=(2, 12, 10)), parts=True)
    many = from_deepinv(deepinv.physics.MultiCoilMRI(mask=mask, coil_maps=maps), parts=True)
    for adapted, A in (
        (single, Mask(mask) @ Fourier(2)),
        (many, Mask(mask) @ Fourier(2) @ Coils(maps)),
    ):
        expected = A(x)
        check_operator(adapted, x, draws(*expected.shape, seed=1, dtype=torch.complex64))
        assert torch.allclose(adapted(x), expected, atol=1e-5)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("fan", [False, True])
def test_deepinv_tomography(fan):
    deepinv = pytest.importorskip("deepinv")
    theirs = deepinv.physics.Tomography(
        angles=torch.arange(0, 180, 30.0),
        img_width=16,
        normalize=False,
        fan_beam=fan,
        adjoint_via_backprop=True,
    )
    adapted = from_deepinv(theirs)
    x = draws(2, 1, 16, 16, dtype=torch.float32)
    y = adapted(x)
    check_operator(adapted, x, draws(*y.shape, seed=1, dtype=torch.float32))
