"""Schedules: the constants of the papers, and all that is derived from alpha and sigma."""

import math

import pytest
import torch

from radiffuse.diffusion.schedule import EDM, VE, VP, Cosine, Discrete, Rectified, SigmaPower, SubVP
from radiffuse.testing import check_schedule

SCHEDULES = {
    "vp": VP(),
    "sub-vp": SubVP(),
    "ve": VE(0.01, 50),
    "sigma-power": SigmaPower(25.0),
    "edm": EDM(),
    "cosine": Cosine(),
    "rectified": Rectified(),
}
DISCRETE = {
    "linear": Discrete.linear(),
    "scaled-linear": Discrete.scaled_linear(),
    "cosine": Discrete.cosine(),
    "sigmoid": Discrete.sigmoid(),
    "zero-terminal": Discrete.linear().zero_terminal(),
}
ONE = torch.tensor(1.0, dtype=torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_conformance(name):
    check_schedule(SCHEDULES[name])


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_is_monotone_and_invertible(name):
    schedule = DISCRETE[name]
    t = torch.linspace(0.001, 0.999, 2001, dtype=torch.float64)
    ratio = schedule.log_ratio(t)
    assert (ratio.diff() < 0).all()
    assert torch.allclose(schedule.log_ratio(schedule.time(ratio)), ratio, atol=1e-9)


def test_linear_betas_end_where_ho_says():
    product = float(Discrete.linear().alpha(ONE) ** 2)
    assert product == pytest.approx(4.0358e-5, rel=1e-4)


def test_cosine_check_values_of_improved_ddpm():
    schedule = Discrete.cosine(4000)
    assert float(schedule.betas[0]) == pytest.approx(9.866e-6, rel=1e-3)
    assert float(schedule.alpha(torch.tensor(0.5)) ** 2) == pytest.approx(0.49384, abs=1e-5)
    assert float(Cosine().alpha(torch.tensor(0.5).double()) ** 2) == pytest.approx(
        0.49384, abs=1e-5
    )


def test_discrete_hits_its_own_products():
    betas = torch.linspace(1e-3, 0.3, 50, dtype=torch.float64)
    schedule = Discrete(betas)
    times = torch.arange(51, dtype=torch.float64) / 50
    products = torch.cat([torch.ones(1).double(), torch.cumprod(1 - betas, 0)])
    assert torch.allclose(schedule.alpha(times) ** 2, products, atol=1e-14)
    assert torch.allclose(schedule.sigma(times) ** 2, 1 - products, atol=1e-14)


def test_zero_terminal_snr_ends_without_signal_and_keeps_the_first_step():
    before, after = Discrete.linear(), Discrete.linear().zero_terminal()
    assert float(after.alpha(ONE)) == 0
    assert float(after.sigma(ONE)) == 1
    assert float(after.betas[0]) == pytest.approx(float(before.betas[0]), rel=1e-9)


def test_vp_and_sub_vp_end_values():
    assert float(VP().alpha(ONE) ** 2) == pytest.approx(4.3186e-5, rel=1e-4)
    assert float(SubVP().sigma(ONE)) == pytest.approx(0.99996, abs=1e-5)
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    assert (SubVP().sigma(t) ** 2 < VP().sigma(t) ** 2).all()


def test_vp_drift_and_diffusion_in_closed_form():
    t = torch.linspace(0.01, 1, 9, dtype=torch.float64)
    beta = 0.1 + 19.9 * t
    assert torch.allclose(VP().drift(t), -beta / 2, atol=1e-12)
    assert torch.allclose(VP().diffusion(t) ** 2, beta, atol=1e-10)
    integral = 0.1 * t + 19.9 * t**2 / 2
    want = beta * (1 - torch.exp(-2 * integral))
    assert torch.allclose(SubVP().diffusion(t) ** 2, want, atol=1e-10)


def test_ve_diffusion_in_closed_form():
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    sigma = VE(0.01, 50).sigma(t)
    assert torch.allclose(VE(0.01, 50).diffusion(t), sigma * math.sqrt(2 * math.log(5000)))
    assert torch.allclose(SigmaPower(25.0).diffusion(t[1:]), 25.0 ** t[1:])


def test_edm_uniform_grid_is_the_ladder_of_the_paper():
    ladder = EDM().sigma(torch.linspace(1, 0, 18, dtype=torch.float64))
    for index, value in {0: 80, 1: 57.586, 5: 12.910, 9: 1.923, 12: 0.296, 17: 0.002}.items():
        assert float(ladder[index]) == pytest.approx(value, rel=2e-3)


def test_ncsn_ladder_ratio():
    ladder = VE(0.01, 50).sigma(torch.linspace(1, 0, 232, dtype=torch.float64))
    assert float(ladder[0] / ladder[1]) == pytest.approx(1.03756, abs=1e-5)


def test_bad_betas_are_refused():
    with pytest.raises(ValueError, match="betas"):
        Discrete(torch.tensor([0.1, -0.1]))
    with pytest.raises(ValueError, match="last"):
        Discrete(torch.tensor([0.1, 1.0, 0.1]))
