"""Denoisers that read another in other units, other sizes: against exact answers."""

import pytest
import torch

from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.schedule import EDM, VE, VP, Stretched
from radiffuse.diffusion.tiling import Padded
from radiffuse.diffusion.units import Affine
from radiffuse.operators import Coils, Fourier, Mask, RealPart
from radiffuse.testing import GaussianDenoiser, check_denoiser, check_schedule

X_T = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("schedule", [VE(0.01, 40.0), VP(), EDM()], ids=["ve", "vp", "edm"])
@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_affine_reads_the_denoiser_of_the_images_in_other_units(schedule, time):
    """x = 2 m - 1 of mean 0.2 and deviation 0.3 is m of mean 0.6 and deviation 0.15."""
    network = GaussianDenoiser(EDM(0.001, 1000.0), mean=0.2, std=0.3)
    exact = GaussianDenoiser(schedule, mean=0.6, std=0.15)
    t = torch.tensor(time, dtype=torch.float64)
    found = Affine(network, schedule)(X_T, t)
    assert torch.allclose(found, exact(X_T, t), atol=1e-9)


def test_affine_is_a_denoiser_and_stretched_a_schedule():
    schedule = VE(0.01, 10.0)
    check_denoiser(Affine(GaussianDenoiser(EDM(), mean=0.0, std=0.5), schedule), X_T)
    check_schedule(Stretched(VP(), 2.0))
    t = torch.linspace(0.1, 1, 5, dtype=torch.float64)
    assert torch.equal(Stretched(VP(), 3.0).sigma(t), 3 * VP().sigma(t))
    assert torch.equal(Stretched(VP(), 3.0).alpha(t), VP().alpha(t))


class Sized(Denoiser):
    """A pixelwise denoiser that refuses sides which `stride` does not divide, as a U-Net does."""

    def __init__(self, stride):
        super().__init__()
        self.inner = GaussianDenoiser(EDM(), mean=0.2, std=0.3)
        self.schedule, self.stride = self.inner.schedule, stride

    def forward(self, x_t, t):
        assert all(side % self.stride == 0 for side in x_t.shape[2:])
        return self.inner(x_t, t)


@pytest.mark.parametrize("size", [(8, 8), (10, 13), (9, 11, 14)])
def test_padding_leaves_what_a_denoiser_says_of_each_pixel(size):
    x_t, t = torch.randn(2, 1, *size), torch.tensor(0.5)
    found = Padded(Sized(8), 8)(x_t, t)
    assert torch.allclose(found, Sized(1)(x_t, t), atol=1e-6)


def test_padding_continues_an_image_by_reflection():
    seen = []

    class Spy(Sized):
        def forward(self, x_t, t):
            seen.append(x_t)
            return super().forward(x_t, t)

    x_t = torch.arange(12.0).reshape(1, 1, 3, 4)
    Padded(Spy(4), 4)(x_t, torch.tensor(0.5))
    assert torch.equal(seen[0][0, 0, 3], x_t[0, 0, 1])


def test_a_complex_operator_of_a_real_image_has_the_adjoint_of_pairs_of_real_numbers():
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(1, 4, 6, 5, dtype=torch.complex128, generator=generator)
    mask = torch.rand(1, 1, 6, 5, generator=generator) < 0.5
    A = Mask(mask) @ Fourier(2) @ Coils(maps) @ RealPart()
    y = torch.randn(3, 4, 6, 5, dtype=torch.complex128, generator=generator)
    left = (A(X_T).conj() * y).real.sum()
    right = (X_T * A.adjoint(y)).sum()
    assert not A.adjoint(y).is_complex()
    assert torch.allclose(left, right, rtol=1e-10)
