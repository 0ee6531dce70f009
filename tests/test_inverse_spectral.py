"""The singular value decompositions that DDRM stands on, and DDRM itself."""

import pytest
import torch

from radiffuse.diffusion.sample import grids, prior
from radiffuse.diffusion.schedule import EDM, VP
from radiffuse.errors import UserError
from radiffuse.inverse import DDRM, Measurement
from radiffuse.operators import BlockMean, Coils, Fourier, Identity, Mask, Matrix
from radiffuse.operators.spectral import spectral
from radiffuse.testing import GaussianDenoiser


def cases():
    g = torch.Generator().manual_seed(0)
    real = torch.randn(2, 1, 4, 6, generator=g, dtype=torch.float64)
    image = torch.complex(real, real.flip(-1))
    volume = torch.randn(2, 1, 4, 4, 6, generator=g, dtype=torch.float64)
    mask = (torch.rand(4, 6, generator=g) > 0.5).double() * 0.7
    wide = torch.randn(3, 24, generator=g, dtype=torch.float64)
    tall = torch.randn(30, 24, generator=g, dtype=torch.float64)
    dense = torch.complex(wide, wide.flip(0))
    return {
        "identity": (Identity(), real),
        "inpainting": (Mask(mask), real),
        "single-coil MRI": (Mask(mask) @ Fourier(2), image),
        "Fourier": (Fourier(2), image),
        "blocks": (BlockMean((2, 3)), real),
        "blocks of a volume": (BlockMean((2, 1, 3)), volume),
        "blocks of a complex image": (BlockMean((2, 2)), image),
        "wide matrix": (Matrix(wide, (1, 4, 6)), real),
        "tall matrix": (Matrix(tall, (1, 4, 6)), real),
        "complex matrix": (Matrix(dense, (1, 4, 6)), image),
    }


@pytest.mark.parametrize("name", cases())
def test_the_decomposition_is_orthonormal_and_is_the_operator_s(name):
    A, x = cases()[name]
    parts = spectral(A, x)
    c = parts.coefficients(x)
    assert torch.allclose(parts.image(c), x, atol=1e-10), "V V^H = 1"
    assert torch.allclose(c.abs().square().sum(), x.abs().square().sum()), "V is unitary"
    assert torch.allclose(parts.measured(A(x)), parts.values * c, atol=1e-10), "U^H A x = S V^H x"


@pytest.mark.parametrize(
    "A", [Mask(torch.ones(4, 6)) @ Fourier(2) @ Coils(torch.ones(1, 2, 4, 6)), Fourier(2)]
)
def test_an_operator_without_a_decomposition_is_refused_in_one_line(A):
    with pytest.raises(UserError, match="DDRM cannot take the operator") as error:
        spectral(A, torch.zeros(1, 1, 4, 6))
    assert "\n" not in str(error.value)


def ddrm(count=4000, std=0.2, schedule=None, **options):
    """White prior N(0, 0.5^2) on 4 unknowns: two seen through gains 1 and 0.2, two unseen."""
    schedule = schedule or EDM()
    mask = torch.tensor([1.0, 0.2, 0.0, 0.0], dtype=torch.float64)
    y = mask * torch.tensor([0.8, -0.3, 0.0, 0.0], dtype=torch.float64)
    measurement = Measurement(y.expand(count, 4), Mask(mask), std)
    torch.manual_seed(0)
    sampler = DDRM(GaussianDenoiser(schedule, 0.0, 0.5), measurement, **options)
    x = prior(schedule, torch.zeros(count, 4, dtype=torch.float64))
    return sampler(x, grids.uniform(100))


@pytest.mark.parametrize("schedule", [EDM(), VP()], ids=["edm", "vp"])
def test_what_is_not_measured_stays_with_the_prior(schedule):
    """At eta = 0 (DDIM's step); above, DDRM forgets so much of the path that it narrows."""
    narrow = ddrm(schedule=schedule)[:, 2:]
    assert float(narrow.std()) < 0.45
    x = ddrm(schedule=schedule, eta=0.0)[:, 2:]
    assert torch.allclose(x.mean(0), torch.zeros(2).double(), atol=0.03)
    assert torch.allclose(x.std(0), torch.full((2,), 0.5).double(), atol=0.03)


def test_what_is_measured_without_noise_is_returned():
    x = ddrm(std=0.0)
    assert torch.allclose(x[:, 0], torch.tensor(0.8).double(), atol=0.012)
    assert torch.allclose(x[:, 1], torch.tensor(-0.3).double(), atol=0.012)


def test_one_step_follows_the_three_cases_of_the_paper():
    """By hand at sigma 0.5: gain 1 has noise 0.2 < 0.5 (well), gain 0.2 has 1 > 0.5 (poorly)."""
    schedule, eta = EDM(), 0.6
    t = schedule.time(-torch.log(torch.tensor(0.9).double()))
    s = schedule.time(-torch.log(torch.tensor(0.5).double()))
    mask = torch.tensor([1.0, 0.2, 0.0], dtype=torch.float64)
    y = torch.tensor([[0.8, -0.06, 0.0]], dtype=torch.float64)
    ones = DDRM(
        GaussianDenoiser(schedule, 0.0, 0.5), Measurement(y, Mask(mask), 0.2), torch.ones_like, eta
    )
    x = torch.tensor([[0.3, 0.4, -0.7]], dtype=torch.float64)
    parts, over, std, _ = ones.init(x, t)
    out, _ = ones.step(x, t, s, (parts, over, std, False))
    x_0 = x * 0.25 / (0.25 + 0.81)
    well = 0.8 + (0.25 - 0.04) ** 0.5
    poorly = x_0[0, 1] + 0.8 * 0.5 * (-0.3 - x_0[0, 1]) / 1.0 + 0.6 * 0.5
    unseen = x_0[0, 2] + 0.8 * 0.5 * (-0.7 - x_0[0, 2]) / 0.9 + 0.6 * 0.5
    expected = torch.stack([torch.tensor(well).double(), poorly, unseen])
    assert torch.allclose(out[0], expected, atol=1e-9)


def test_the_start_is_moved_to_the_measurement():
    schedule, std = EDM(), 0.2
    y = torch.full((1, 2), 0.8, dtype=torch.float64)
    mask = Mask(torch.tensor([1.0, 0.0]).double())
    sampler = DDRM(GaussianDenoiser(schedule, 0.0, 0.5), Measurement(y, mask, std))
    t = schedule.time(-torch.log(torch.tensor(0.4).double()))
    x = torch.tensor([[0.4, 0.4]], dtype=torch.float64)
    started = sampler._started(x, t, *sampler.init(x, t)[:3])
    assert torch.allclose(started[0, 0], torch.tensor(0.8 + (1 - 0.25) ** 0.5 * 0.4).double())
    assert torch.allclose(started[0, 1], x[0, 1])
