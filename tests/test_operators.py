"""Operators: adjoint, norm and gradient of every one, and exact answers of each."""

import math

import pytest
import torch

from radiffuse.errors import UserError
from radiffuse.operators import (
    BlockMean,
    Blur,
    Coils,
    Fan,
    Fourier,
    Identity,
    KSpaceCrop,
    Mask,
    Matrix,
    Parallel,
    Radon,
    conjugate_gradient,
    norm,
    views,
)
from radiffuse.operators.coils import birdcage
from radiffuse.testing import check_operator

REAL = (torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def mri(coils=3, size=(6, 7), batch=2):
    mask = draw(batch, 1, *size) > 0
    return Mask(mask) @ Fourier(len(size)) @ Coils(birdcage(size, coils, range(batch)))


PARALLEL = Parallel((7, 9), views(5), 11, 1.2)
FAN = Fan((7, 9), views(5, 2 * math.pi), 11, 1.2, distance=12.0)

ANY = {
    "identity": (Identity(), (2, 3, 5)),
    "mask": (Mask(draw(4, 5) > 0), (2, 3, 4, 5)),
    "soft mask": (Mask(draw(2, 1, 4, 1)), (2, 3, 4, 5)),
    "blur": (Blur((0.7, 1.5)), (2, 2, 6, 9)),
    "blur of three axes": (Blur((1.0, 0.0, 0.5)), (2, 1, 5, 4, 6)),
    "periodic blur": (Blur((0.7, 1.5), periodic=True), (2, 2, 6, 9)),
    "block mean": (BlockMean((2, 3)), (2, 2, 6, 9)),
    "block mean through-plane": (BlockMean((4, 1, 1)), (2, 1, 8, 3, 5)),
    "crop to even": (KSpaceCrop((9, 8), (4, 6)), (2, 2, 9, 8)),
    "crop to odd": (KSpaceCrop((6, 8, 7), (3, 8, 5)), (2, 1, 6, 8, 7)),
    "parallel": (Radon(PARALLEL), (2, 2, 7, 9)),
    "fan": (Radon(FAN), (2, 1, 7, 9)),
    "slices": (Radon(PARALLEL), (2, 1, 3, 7, 9)),
    "blurred blocks": (BlockMean((2, 2)) @ Blur((1.0, 1.0)), (2, 1, 6, 8)),
    "inpainting + projections": (Radon(PARALLEL) @ Mask(draw(7, 9) > 0), (2, 1, 7, 9)),
    "sum and difference": (2 * Identity() - Blur((1.0,)) * 0.5 + Mask(draw(5)), (2, 1, 5)),
    "adjoint": (BlockMean((2, 3)).H, (2, 2, 3, 3)),
}
ONLY_COMPLEX = {
    "fourier": (Fourier(2), (2, 3, 5, 8)),
    "fourier of slices": (Fourier(1), (2, 3, 5, 8)),
    "fourier of volumes": (Fourier(3), (2, 1, 4, 5, 6)),
    "coils": (Coils(birdcage((4, 5), 3, [1])), (2, 1, 4, 5)),
    "MRI": (mri(), (2, 1, 6, 7)),
    "MRI of volumes": (mri(size=(4, 5, 6)), (2, 1, 4, 5, 6)),
    "complex factor": ((1 + 2j) * Fourier(1), (2, 1, 5)),
    "adjoint of MRI": (mri().H, (2, 3, 6, 7)),
}


def check(operator, shape, dtype):
    x = draw(*shape, dtype=dtype)
    y = draw(*operator(x).shape, dtype=dtype, seed=1)
    check_operator(operator, x, y)


@pytest.mark.parametrize("dtype", REAL + COMPLEX, ids=str)
@pytest.mark.parametrize("name", ANY)
def test_adjoint_and_gradient(name, dtype):
    check(*ANY[name], dtype)


@pytest.mark.parametrize("dtype", COMPLEX, ids=str)
@pytest.mark.parametrize("name", ONLY_COMPLEX)
def test_adjoint_and_gradient_of_complex_operators(name, dtype):
    check(*ONLY_COMPLEX[name], dtype)


@pytest.mark.parametrize("name", ANY | ONLY_COMPLEX)
def test_a_case_does_not_see_its_batch(name):
    operator, shape = (ANY | ONLY_COMPLEX)[name]
    x = draw(*shape, dtype=torch.complex128)
    changed = torch.stack([x[0], x[1] * 3 + 1])
    assert torch.allclose(operator(x)[0], operator(changed)[0], atol=1e-12)
    assert not torch.allclose(operator(x)[1], operator(changed)[1])


@pytest.mark.parametrize(
    ("operator", "shape", "answer"),
    [
        (Fourier(2), (2, 1, 5, 8), 1.0),
        (Mask(draw(5, 8) > 0), (2, 1, 5, 8), 1.0),
        (Coils(birdcage((5, 8), 4, [0])), (2, 1, 5, 8), 1.0),
        (Blur((1.0, 2.0), periodic=True), (2, 1, 5, 8), 1.0),
        (BlockMean((2, 4)), (2, 1, 4, 8), 1 / math.sqrt(8)),
        (KSpaceCrop((5, 8), (3, 4)), (2, 1, 5, 8), math.sqrt(12 / 40)),
        (-3 * Fourier(2).H @ Fourier(2), (2, 1, 5, 8), 3.0),
    ],
)
def test_norms(operator, shape, answer):
    like = torch.zeros(shape, dtype=torch.complex128)
    assert norm(operator, like, iterations=200).tolist() == pytest.approx([answer] * 2, rel=1e-6)


def test_the_norm_is_the_largest_singular_value_of_each_case():
    m = draw(7, 6, dtype=torch.complex128)
    got = norm(Matrix(m, (1, 2, 3)), torch.zeros(3, 1, 2, 3, dtype=m.dtype), iterations=400)
    assert got.tolist() == pytest.approx([float(torch.linalg.matrix_norm(m, 2))] * 3, rel=1e-6)
    assert norm(0 * Identity(), torch.zeros(2, 1, 3)).tolist() == [0.0, 0.0]


def test_the_algebra_is_that_of_matrices():
    a, b = draw(4, 5, dtype=torch.complex128), draw(5, 6, dtype=torch.complex128, seed=1)
    c = draw(4, 6, dtype=torch.complex128, seed=2)
    x = draw(3, 6, dtype=torch.complex128, seed=3)
    whole = (2 - 1j) * (Matrix(a) @ Matrix(b)) + Matrix(c) * 2 - Matrix(c) @ Identity()
    dense = (2 - 1j) * a @ b + c
    assert torch.allclose(whole(x), x @ dense.mT)
    assert torch.allclose(whole.gram(x), x @ (dense.mH @ dense).mT)
    y = whole(x)
    assert torch.allclose(whole.H(y), y @ dense.conj())
    fourier = Fourier(1)
    assert fourier.H.H is fourier and Identity() @ fourier is fourier
    with pytest.raises(TypeError):
        fourier @ a


class TestConjugateGradient:
    def system(self, dtype):
        m = draw(3, 6, 6, dtype=dtype)
        return m.mH @ m + 0.5 * torch.eye(6, dtype=dtype), draw(3, 6, dtype=dtype, seed=1)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    def test_solves_small_systems_exactly_in_as_many_steps_as_unknowns(self, dtype):
        n, b = self.system(dtype)
        answer = torch.linalg.solve(n, b)
        calls = 0

        def normal(x):
            nonlocal calls
            calls += 1
            return (n @ x[..., None])[..., 0]

        x = conjugate_gradient(normal, b, iterations=9, tolerance=1e-11)
        assert torch.allclose(x, answer, atol=1e-8)
        assert 5 <= calls <= 8
        again = conjugate_gradient(normal, b, x=answer, tolerance=1e-8)
        assert torch.equal(again, answer), "a start that solves it is the answer"

    def test_a_case_does_not_depend_on_its_batch(self):
        n, b = self.system(torch.complex128)
        n, b = n.clone(), b.clone()
        n[1], b[2] = torch.eye(6), 0  # cases that stop after one step and at once
        each = [
            conjugate_gradient(lambda x, k=k: x @ n[k].mT, b[k : k + 1], iterations=4)
            for k in range(3)
        ]
        together = conjugate_gradient(lambda x: (n @ x[..., None])[..., 0], b, iterations=4)
        assert torch.allclose(together, torch.cat(each), atol=1e-12)
        assert torch.equal(together[2], torch.zeros(6, dtype=b.dtype))

    def test_reconstructs_multi_coil_data(self):
        A = mri(coils=6)
        x = draw(2, 1, 6, 7, dtype=torch.complex128)
        dense = torch.stack(
            [
                A.gram(e.expand(2, 1, 6, 7)).flatten(1)
                for e in torch.eye(42).reshape(42, 1, 6, 7).to(x)
            ],
            -1,
        )  # (2, 42, 42)
        system = dense + 0.1 * torch.eye(42)
        b = A.adjoint(A(x))
        answer = torch.linalg.solve(system, b.flatten(1)).reshape(b.shape)
        got = conjugate_gradient(lambda v: A.gram(v) + 0.1 * v, b, iterations=80, tolerance=1e-12)
        assert torch.allclose(got, answer, atol=1e-9)

    def test_gradients_pass_and_nan_stays(self):
        n, b = self.system(torch.float64)
        leaf = b.clone().requires_grad_()

        def solve(v):
            return conjugate_gradient(lambda x: (n @ x[..., None])[..., 0], v, tolerance=1e-11)

        (gradient,) = torch.autograd.grad(solve(leaf).sum(), leaf)
        assert torch.allclose(gradient, torch.linalg.solve(n, torch.ones_like(b)), atol=1e-6)
        b[1, 0] = torch.nan
        assert torch.isnan(solve(b)).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("n", [64, 65])
def test_the_transform_of_a_gaussian_is_known(n):
    """exp(-pi (n - c)^2 / w^2), c = N // 2, and a shift of 2 is a phase of k-space."""
    k = torch.arange(n, dtype=torch.float64) - n // 2
    w = 8.0

    def gaussian(at):
        return torch.exp(-math.pi * (k - at) ** 2 / w**2)

    x = (gaussian(0)[:, None] * gaussian(2)).expand(1, 1, n, n)
    along = w / math.sqrt(n) * torch.exp(-math.pi * (k * w / n) ** 2)
    expected = along[:, None] * along * torch.polar(torch.ones_like(k), -2 * math.pi * k * 2 / n)
    got = Fourier(2)(x)[0, 0]
    assert torch.allclose(got, expected, atol=1e-12)
    assert torch.allclose(Fourier(2).adjoint(got[None, None]).real, x, atol=1e-12)


def test_coils_multiply_and_combine():
    maps = birdcage((5, 6), 4, [3])
    x = draw(2, 1, 5, 6, dtype=torch.complex64)
    y = Coils(maps)(x)
    assert y.shape == (2, 4, 5, 6) and torch.allclose(y[1, 2], maps[0, 2] * x[1, 0])
    assert torch.allclose(Coils(maps).adjoint(y), x, atol=1e-6), "maps of unit sum of squares"


def test_blur_of_an_impulse_is_the_kernel():
    x = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    x[..., 10, 10] = 1
    y = Blur((1.5, 2.0))(x)[0, 0]
    k = torch.arange(-10, 11, dtype=torch.float64)
    expected = torch.exp(-(k**2)[:, None] / 4.5 - k**2 / 8)
    inside = (k.abs() <= 6)[:, None] & (k.abs() <= 8)
    assert torch.allclose(y, torch.where(inside, expected / expected[inside].sum(), 0), atol=1e-12)


def test_edges_of_a_blur():
    ones = torch.ones(1, 1, 9)
    assert torch.allclose(Blur((2.0,), periodic=True)(ones), ones)
    assert Blur((2.0,))(ones)[0, 0, 0] < 0.7, "zero outside"
    x = torch.zeros(1, 1, 9)
    x[..., 0] = 1
    y = Blur((2.0,), periodic=True)(x)[0, 0]
    assert torch.allclose(y[1:], y[1:].flip(0)), "around the corner"


def test_block_means():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert BlockMean((2, 3))(x)[0, 0].tolist() == [[4.0, 7.0], [16.0, 19.0]]
    assert BlockMean((2,))(x)[0, 0, 0].tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize(("big", "low"), [(12, 6), (12, 5), (13, 6), (13, 5)])
def test_a_crop_of_k_space_keeps_low_waves_and_loses_high_ones(big, low):
    at = (torch.arange(big, dtype=torch.float64) - big // 2) / big
    coarse = (torch.arange(low, dtype=torch.float64) - low // 2) / low

    def wave(place, k):
        return torch.cos(2 * math.pi * k * place + 0.3)

    x = (1 + wave(at, 2)).reshape(1, 1, big)
    y = KSpaceCrop((big,), (low,))(x + wave(at, 4))
    assert torch.allclose(y[0, 0], 1 + wave(coarse, 2), atol=1e-12)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Mask(torch.ones(4, 5))(torch.ones(2, 1, 4, 6)), r"\(4, 5\) does not fit .*4, 6\)"),
        (lambda: Mask(torch.ones(3, 1, 4, 4))(torch.ones(1, 1, 4, 4)), "does not fit"),
        (lambda: Mask(torch.ones(1, 1, 1, 4, 4))(torch.ones(1, 1, 4, 4)), "does not fit"),
        (lambda: Mask(torch.ones(4) * 1j), "complex"),
        (lambda: Fourier(3)(torch.ones(1, 1, 4, 4)), "number of its spatial axes"),
        (lambda: Coils(torch.ones(1, 3, 4, 4))(torch.ones(2, 3, 4, 4)), r"expected \(2, 1, 4, 4\)"),
        (lambda: Coils(torch.ones(2, 3, 4, 4))(torch.ones(1, 1, 4, 4)), "do not fit"),
        (lambda: Coils(torch.ones(1, 3, 4, 4)).adjoint(torch.ones(1, 1, 4, 4)), "coil data"),
        (lambda: Matrix(torch.ones(3, 4), (2, 3)), "cannot act"),
        (lambda: Blur((1.0, 1.0, 1.0))(torch.ones(1, 1, 4, 4)), "for each of the last"),
        (lambda: Blur((-1.0,))(torch.ones(1, 1, 4)), "0 or more"),
        (lambda: BlockMean((3, 2))(torch.ones(1, 1, 4, 4)), "crop or pad"),
        (lambda: KSpaceCrop((4,), (5,)), "cannot be cropped"),
        (lambda: KSpaceCrop((4,), (2,))(torch.ones(1, 1, 5)), "must be"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(act, words):
    with pytest.raises(UserError, match=words) as error:
        act()
    assert "\n" not in str(error.value)
