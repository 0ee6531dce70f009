"""The Gaussian baseline against the density and the moments it claims."""

import math

import pytest
import torch

from radiffuse.applications.generation.baselines import (
    Gaussian,
    Mixture,
    dequantised,
    fit_gaussian,
    fit_generation,
)
from radiffuse.diffusion.noise import Seeded
from radiffuse.errors import UserError


def low_rank(n, seed=0, rank=3, d=20, floor=0.05, scale=0.5):
    """Images `(n, 1, d)` of `rank` patterns and white noise."""
    patterns = torch.linalg.qr(torch.randn(d, rank, generator=torch.Generator().manual_seed(9)))[0]
    generator = torch.Generator().manual_seed(seed)
    strength = scale * torch.randn(n, rank, generator=generator)
    noise = floor * torch.randn(n, d, generator=generator)
    return (strength @ patterns.mT + noise)[:, None]


def test_density_is_that_of_the_full_covariance():
    model = fit_gaussian(low_rank(200), components=3)
    covariance = (
        (model.axes.double() * (model.variances - model.floor)) @ model.axes.double().mT
    ) + model.floor * torch.eye(20).double()
    full = torch.distributions.MultivariateNormal(model.mean.double(), covariance)
    x = low_rank(5, seed=1)
    assert torch.allclose(model.log_density(x), full.log_prob(x[:, 0].double()), atol=1e-3)


def test_fit_has_the_variance_of_the_data_in_all_and_along_each_axis():
    x = low_rank(300)
    model = fit_gaussian(x, components=3)
    rest = (x[:, 0] - x[:, 0].mean(dim=0)).double()
    exact = torch.linalg.eigvalsh(rest.mT @ rest / 300).flip(0)
    assert torch.allclose(model.variances, exact[:3], rtol=1e-4)
    assert model.floor == pytest.approx(float(exact[3:].mean()), rel=1e-4)


def test_fewer_components_are_the_model_fitted_with_fewer():
    x = low_rank(300)
    cut, fitted = fit_gaussian(x, components=8).truncated(2), fit_gaussian(x, components=2)
    assert cut.floor == pytest.approx(fitted.floor, rel=1e-4)
    assert torch.allclose(cut.log_density(x[:9]), fitted.log_density(x[:9]), atol=1e-2)


def test_samples_have_the_moments_of_the_model():
    model = fit_gaussian(low_rank(300), components=3)
    drawn = model.sample(Seeded([0]), 1)
    assert drawn.shape == (1, 20)
    many = torch.cat([model.sample(Seeded([seed]), 1) for seed in range(3000)]).double()
    variance = (many - many.mean(dim=0)).square().sum(dim=1).mean()
    exact = float(model.variances.sum()) + 17 * model.floor
    assert float(variance) == pytest.approx(exact, rel=0.05)
    along = (many @ model.axes.double()).var(dim=0)
    assert torch.allclose(along, model.variances, rtol=0.12)


def test_held_out_likelihood_finds_the_number_of_patterns():
    mixture = fit_generation(low_rank(2000, rank=4))
    assert mixture.components == (4,)


def test_a_class_has_its_own_gaussian_and_bayes_finds_it_again():
    x = torch.cat([low_rank(100) + 0.5, low_rank(300, seed=1) - 0.5])
    labels = torch.tensor([2] * 100 + [5] * 300)
    mixture = fit_generation(x, labels)
    assert mixture.labels == (2, 5)
    assert mixture.shares.tolist() == [0.25, 0.75]
    drawn = mixture.sample(range(200))
    low = (drawn.mean(dim=(1, 2)) < 0).double().mean()
    assert float(low) == pytest.approx(0.75, abs=0.1)
    assert (mixture.sample([1, 2], labels=[2, 5]).mean(dim=(1, 2)) > 0).tolist() == [True, False]


def test_mixture_density_is_the_weighted_sum():
    unit = Gaussian(torch.zeros(4), torch.eye(4)[:, :1], torch.ones(1).double(), 1.0)
    moved = Gaussian(torch.ones(4), torch.eye(4)[:, :1], torch.ones(1).double(), 1.0)
    mixture = Mixture((unit, moved), (0, 1), torch.tensor([0.25, 0.75]).double(), (1, 4))
    at_zero = (2 * math.pi) ** -2 * (0.25 + 0.75 * math.exp(-2))
    assert float(mixture.log_density(torch.zeros(1, 1, 4))) == pytest.approx(math.log(at_zero))


def test_image_k_is_the_same_alone_and_in_any_batch():
    mixture = fit_generation(low_rank(60))
    together = mixture.sample([3, 4, 5])
    assert torch.equal(together[1:2], mixture.sample([4]))
    assert together.abs().max() <= 1


def test_a_flat_density_needs_eight_bits_and_a_sharp_one_fewer():
    # One grey value uniform over [-1, 1] has variance 1/3; its Gaussian pays for the wrong shape:
    # (1/2 log(2 pi e / 3) + log 128) / log 2 bits.
    levels = torch.arange(256) / 127.5 - 1
    x = levels.repeat(40)[:, None, None].expand(-1, 1, 2).contiguous()
    flat = Gaussian(torch.zeros(2), torch.eye(2)[:, :1], torch.tensor([1 / 3]).double(), 1 / 3)
    mixture = Mixture((flat,), (0,), torch.ones(1).double(), (1, 2))
    exact = (0.5 * math.log(2 * math.pi * math.e / 3) + math.log(128)) / math.log(2)
    bits = mixture.bits_per_dimension(x, seeds=range(len(x)))
    assert float(bits.mean()) == pytest.approx(exact, abs=0.01)
    wide = dequantised(torch.tensor([[[-1.0, 1.0]]]), [0])
    assert wide.abs().max() <= 1 and wide.abs().min() > 1 - 2 / 256


def test_bits_have_the_convention_of_the_likelihood_of_a_diffusion():
    """The same Gaussian read as a diffusion model costs the same bits."""
    from radiffuse.diffusion.likelihood import bits_per_dimension
    from radiffuse.diffusion.schedule import VP
    from radiffuse.testing import GaussianDenoiser

    model = Gaussian(torch.zeros(2), torch.eye(2)[:, :1], torch.tensor([0.25]).double(), 0.25)
    mixture = Mixture((model,), (0,), torch.ones(1).double(), (1, 2))
    x = torch.tensor([[[-1.0, 51 / 127.5 - 1]], [[0.2, 1.0]]])
    denoiser = GaussianDenoiser(VP(), 0.0, 0.5)
    ours = mixture.bits_per_dimension(x, seeds=[0, 1])
    theirs = bits_per_dimension(denoiser, x, seeds=[0, 1], rtol=1e-6, atol=1e-6)
    assert torch.allclose(ours, theirs.double(), atol=2e-3)


def test_images_of_one_patient_are_never_on_both_sides_of_the_choice():
    # 8 patients with 50 equal images each: kept together, no pattern helps on the one set aside.
    person = low_rank(8, rank=19, floor=0.0, scale=1.0)
    x = person.repeat_interleave(50, dim=0) + 0.01 * low_rank(400, seed=3)
    names = [str(i // 50) for i in range(400)]
    apart, together = fit_generation(x), fit_generation(x, patients=names)
    assert apart.components[0] >= 4
    assert together.components[0] < apart.components[0]


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="4 training images, there are 3"):
        fit_generation(low_rank(3))
