"""Samplers against exact laws: their order, their statistics, their randomness."""

import math
from itertools import pairwise

import pytest
import torch

from radiffuse.diffusion.guidance import Guided, Steered
from radiffuse.diffusion.kernels import posterior
from radiffuse.diffusion.noise import Seeded, derive, gaussian
from radiffuse.diffusion.sample import (
    DDIM,
    DDPM,
    DPMSolver,
    DPMSolverSDE,
    EulerMaruyama,
    FlowODE,
    Heun,
    Langevin,
    ReverseDiffusion,
    Then,
    UniPC,
    annealed,
    grids,
    prior,
    signal_to_noise,
)
from radiffuse.diffusion.schedule import EDM, VE, VP, Cosine, Discrete, Rectified, SigmaPower, SubVP
from radiffuse.testing import (
    Counted,
    GaussianDenoiser,
    MixtureDenoiser,
    check_sampler,
    measured_order,
    propagate,
)

SAMPLERS = {
    "ddim": DDIM,
    "ddim eta 1": lambda d, n: DDIM(d, n, eta=1.0),
    "ddpm": DDPM,
    "ddpm large": lambda d, n: DDPM(d, n, w=1.0),
    "euler-maruyama": EulerMaruyama,
    "reverse-diffusion": ReverseDiffusion,
    "heun": Heun,
    "dpm-solver": DPMSolver,
    "dpm-solver-sde": DPMSolverSDE,
    "dpm-solver eta 0.7": lambda d, n: DPMSolver(d, n, eta=0.7),
    "unipc": UniPC,
    "unipc 3": lambda d, n: UniPC(d, n, order=3),
}
GRIDS = {
    "vp": (VP(), lambda n: grids.uniform(n, 0.9, 0.05)),
    "edm": (EDM(0.02, 80), lambda n: grids.uniform(n, 0.8, 0.1)),
    "cosine": (Cosine(), lambda n: grids.uniform(n, 0.9, 0.1)),
}


@pytest.mark.parametrize("schedule", GRIDS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_order_is_what_the_sampler_claims(name, schedule):
    check_sampler(SAMPLERS[name], *GRIDS[schedule])


def test_the_order_test_can_fail():
    """A first-order step that claims order 2 is found out."""

    class Boastful(DDIM):
        order = 2

    with pytest.raises(AssertionError, match="claims order 2"):
        check_sampler(Boastful, *GRIDS["vp"])


def test_fifty_step_ddpm_where_peers_fail():
    """N(0.5, 0.2^2), linear betas, 50 of 1000 steps: a peer gives mean 0.09, std 0.86."""
    schedule = Discrete.linear()
    mean, std = propagate(DDPM, GaussianDenoiser(schedule), grids.strided(schedule, 50))
    assert mean == pytest.approx(0.5, abs=0.005)
    assert std == pytest.approx(0.2, abs=0.05)
    mean, std = propagate(DDPM, GaussianDenoiser(schedule), grids.strided(schedule, 1000))
    assert std == pytest.approx(0.2, abs=0.005)


def test_respacing_to_all_steps_is_the_chain_itself():
    times = grids.strided(Discrete.linear(), 1000)
    assert torch.allclose(times, torch.arange(1000, -1, -1).double() / 1000)
    some = 1000 * grids.strided(Discrete.linear(), 37)
    assert len(some) == 38 and torch.allclose(some, some.round()), "times of the chain alone"
    with pytest.raises(ValueError, match="1001"):
        grids.strided(Discrete.linear(), 1001)


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [("heun", 18, 0.015), ("dpm-solver", 20, 0.015), ("unipc", 10, 0.035)],
)
def test_few_steps_reach_the_data(name, steps, tolerance):
    schedule = EDM()
    mean, std = propagate(SAMPLERS[name], GaussianDenoiser(schedule), grids.uniform(steps))
    assert mean == pytest.approx(0.5, abs=tolerance)
    assert std == pytest.approx(0.2, abs=tolerance)


def test_stochastic_heun_keeps_the_law():
    def churned(d, n):
        return Heun(d, n, churn=0.2, window=(0.05, 50))

    mean, std = propagate(churned, GaussianDenoiser(EDM()), grids.uniform(60))
    assert (mean, std) == (pytest.approx(0.5, abs=0.005), pytest.approx(0.2, abs=0.01))


@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
def test_noise_put_back_by_a_solver_keeps_the_law(eta):
    """Each share of the ancestral noise has the same law, N(0.5, 0.2^2), where the denoiser is exact."""
    mean, std = propagate(
        lambda d, n: DPMSolver(d, n, eta=eta), GaussianDenoiser(EDM()), grids.uniform(60)
    )
    assert (mean, std) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.2, abs=0.015))


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
def test_a_solver_puts_back_its_share_of_the_ancestral_noise(eta):
    schedule = VP()
    x, t, s = torch.ones(20_000, 1).double(), torch.tensor(0.6).double(), torch.tensor(0.4).double()
    sampler = DPMSolver(GaussianDenoiser(schedule), torch.randn_like, eta=eta)
    out, _ = sampler.step(x, t, s, sampler.init(x, t))
    _, variance, _ = posterior(schedule, x[:1], sampler.denoiser(x[:1], t), t, s)
    assert float(out.std()) == pytest.approx(eta * float(variance) ** 0.5, rel=0.03, abs=1e-12)


def test_a_flow_without_signal_at_its_start():
    """Rectified flow begins at alpha = 0, where noise prediction and log-SNR do not exist."""
    for name in ("ddim", "heun", "dpm-solver", "unipc"):
        denoiser = GaussianDenoiser(Rectified())
        mean, std = propagate(SAMPLERS[name], denoiser, grids.uniform(100))
        assert (mean, std) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.2, abs=0.02)), name


def test_network_calls_per_step():
    for name, calls in {"ddim": 10, "dpm-solver": 10, "unipc": 10, "heun": 19}.items():
        counted = Counted(GaussianDenoiser(VP()))
        SAMPLERS[name](counted, torch.randn_like)(torch.randn(2, 3), grids.uniform(10))
        assert counted.calls == calls, name
    counted = Counted(GaussianDenoiser(EDM()))
    Heun(counted)(torch.randn(2, 3), grids.uniform(17))
    assert counted.calls == 35, "the paper's 18 levels"


def test_adaptive_ode_maps_quantiles_exactly():
    """The flow of Gaussian data is known: x_t - alpha m keeps its number of standard deviations."""
    schedule, m, s = VP(), 0.5, 0.2
    start, stop = torch.tensor(1.0).double(), torch.tensor(1e-3).double()
    x = torch.tensor([[-2.0], [0.1], [1.5]]).double()

    def std(t):
        return torch.sqrt((schedule.alpha(t) * s) ** 2 + schedule.sigma(t) ** 2)

    want = schedule.alpha(stop) * m + (x - schedule.alpha(start) * m) * std(stop) / std(start)
    sampler = FlowODE(GaussianDenoiser(schedule, m, s), rtol=1e-8, atol=1e-8)
    got, _ = sampler.step(x, start, stop, None)
    assert torch.allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "rel"), [(VP(), 1e-4), (Rectified(), 1e-4), (Discrete.linear(), 2e-3)]
)
def test_adaptive_ode_goes_down_to_no_noise(schedule, rel):
    """On Gaussian data the flow maps deviations: x_1 one deviation out ends one deviation out."""
    m, s, last = 0.3, 0.4, torch.zeros(()).double()
    alpha, sigma = (float(f(last + 1)) for f in (schedule.alpha, schedule.sigma))
    start = torch.tensor([[alpha * m + math.hypot(alpha * s, sigma)]]).double()
    sampler = FlowODE(GaussianDenoiser(schedule, m, s), rtol=1e-5, atol=1e-6)
    assert float(schedule.sigma(last)) == 0
    for times in (grids.uniform(1), grids.quadratic(50)):
        assert float(sampler(start, times)) == pytest.approx(m + s, rel=rel)


def test_adaptive_ode_steps_each_case_alone():
    x = torch.tensor([[-40.0], [0.1], [3.0]]).double()
    sampler = FlowODE(GaussianDenoiser(VP()), rtol=1e-4, atol=1e-4)
    times = torch.tensor([1.0, 1e-3])
    assert torch.equal(sampler(x, times)[1:2], sampler(x[1:2], times))


def test_inversion_and_back_gives_the_image_with_error_of_order_one():
    """DDIM encode + decode on an exact denoiser: the error halves when the steps double."""
    denoiser = GaussianDenoiser(Discrete.linear(), 0.3, 0.4)
    x = torch.tensor([[-0.4], [0.2], [1.1]]).double()
    errors = []
    for steps in (50, 100, 200):
        times = grids.uniform(steps, 1.0, 0.01)
        sampler = DDIM(denoiser)
        code = sampler.encode(x, grids.ascending(times))
        back = code
        for t, s in pairwise(times):
            back, _ = sampler.step(back, t, s, None)
        errors.append(float((back - x).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.25)


def test_langevin_at_one_level_has_the_discrete_stationary_law():
    """x + e s(x) + sqrt(2e) z on N(0, v): stationary variance 2 e / (1 - (1 - e/v)^2)."""
    schedule, v = VE(0.1, 1.0), 0.1**2 + 0.3**2
    denoiser = GaussianDenoiser(schedule, 0.0, 0.3)
    step = 0.02

    def make(d, n):
        return Langevin(d, n, annealed(step), count=400, denoise=False)

    times = torch.zeros(2)
    _, std = propagate(make, denoiser, times, start=(0.0, 1.0))
    u = step / v
    assert std**2 == pytest.approx(2 * step / (1 - (1 - u) ** 2), rel=1e-6)


def test_annealed_langevin_finds_the_weights_of_a_mixture():
    """0.8 N(-5, 1) + 0.2 N(5, 1): annealing gives 0.2 on the right; one level alone does not."""
    schedule = VE(0.1, 20.0)
    denoiser = MixtureDenoiser(
        schedule,
        torch.tensor([0.8, 0.2]).double(),
        torch.tensor([[-5.0], [5.0]]).double(),
        torch.ones(2).double(),
    )
    torch.manual_seed(0)
    x = 20 * torch.randn(2000, 1).double()
    sampler = Langevin(denoiser, gaussian, annealed(2e-3), count=5)
    right = (sampler(x, grids.ladder(60)) > 0).double().mean()
    assert float(right) == pytest.approx(0.2, abs=0.04)
    one = Langevin(denoiser, gaussian, annealed(2e-3), count=305)
    stuck = (one(0.05 * x, torch.zeros(2)) > 0).double().mean()
    assert float(stuck) > 0.3


def test_the_last_denoising_removes_the_last_noise():
    """Data at one point: Tweedie's step takes the spread from about sigma_L to zero."""
    schedule = VE(0.01, 1.0)
    denoiser = GaussianDenoiser(schedule, 0.0, 1e-6)
    stds = []
    for final in (False, True):

        def make(d, n, final=final):
            return Langevin(d, n, annealed(2e-5), count=20, denoise=final)

        stds.append(propagate(make, denoiser, grids.ladder(10))[1])
    assert stds[0] > 0.005
    assert stds[1] < stds[0] / 10


def test_a_corrector_improves_a_coarse_predictor():
    schedule = VP()
    denoiser = GaussianDenoiser(schedule)
    times = grids.uniform(20, 1.0, 1e-3)
    noise = Seeded(derive(5, k) for k in range(400))
    x = noise(torch.zeros(400, 32).double())

    def error(sampler):
        return abs(float(sampler(x, times).std()) - 0.2)

    alone = error(EulerMaruyama(denoiser, noise))
    corrector = Langevin(denoiser, noise, signal_to_noise(0.16), count=2)
    both = error(Then(EulerMaruyama(denoiser, noise), corrector))
    assert both < alone


def test_guidance_of_gaussians_is_exact():
    """Classifier guidance by log p(y | x_t), known for Gaussian data, gives the conditional law."""
    schedule, prior_std, likelihood_std, y = VP(), 0.5, 0.25, 0.4
    joint = 1 / (1 / prior_std**2 + 1 / likelihood_std**2)
    mean = joint * y / likelihood_std**2

    def log_probability(x, t):
        alpha, sigma = schedule(t, x)
        variance = (alpha * prior_std) ** 2 + sigma**2
        x_0 = alpha * prior_std**2 / variance * x
        spread = prior_std**2 - (alpha * prior_std**2) ** 2 / variance + likelihood_std**2
        return (-((y - x_0) ** 2) / (2 * spread)).flatten(1).sum(1)

    steered = Steered(GaussianDenoiser(schedule, 0.0, prior_std), log_probability)
    exact = GaussianDenoiser(schedule, mean, math.sqrt(joint))
    x, t = torch.randn(5, 1).double(), torch.tensor(0.4)
    assert torch.allclose(steered(x, t), exact(x, t), atol=1e-10)


def test_classifier_free_guidance_extrapolates():
    a, b = GaussianDenoiser(VP(), 0.5, 0.2), GaussianDenoiser(VP(), 0.1, 0.2)
    x, t = torch.randn(5, 1), torch.tensor(0.4)
    want = b(x, t) + 2.5 * (a(x, t) - b(x, t))
    assert torch.allclose(Guided(a, b, 2.5)(x, t), want, atol=1e-6)
    assert torch.equal(Guided(a, b, 1.0)(x, t), a(x, t))


def test_the_prior_has_the_spread_of_the_last_level():
    x = prior(VE(0.01, 50), torch.zeros(20_000, 1), Seeded(range(20_000)))
    assert float(x.std()) == pytest.approx(50, rel=0.02)


def test_grids_run_from_start_to_stop():
    for grid in (
        grids.uniform(7),
        grids.quadratic(7),
        grids.karras(VP(), 7),
        grids.log_ratio(VP(), 7),
        grids.strided(Discrete.linear(), 7),
    ):
        assert len(grid) == 8
        assert (grid.diff() < 0).all()
        assert float(grid[0]) == 1
    levels = torch.exp(-VP().log_ratio(grids.karras(VP(), 9)))
    assert torch.allclose((levels ** (1 / 7)).diff().diff(), torch.zeros(8).double(), atol=1e-9)
    assert torch.allclose(
        VP().log_ratio(grids.log_ratio(VP(), 9)).diff().diff(), torch.zeros(8).double(), atol=1e-8
    )


def test_measured_orders_are_sharp():
    """Second order is not third: the measure tells them apart."""
    schedule, grid = GRIDS["vp"]
    assert measured_order(DDIM, schedule, grid) == pytest.approx(1, abs=0.2)
    assert measured_order(Heun, schedule, grid) == pytest.approx(2, abs=0.3)


WITHOUT_NOISE_AT_0 = {
    "ve": VE(),
    "vp": VP(),
    "sub-vp": SubVP(),
    "sigma-power": SigmaPower(),
    "linear": Discrete.linear(),
}
CORRECTED = {
    "then": lambda d, n: Then(EulerMaruyama(d, n), Langevin(d, n)),
    "large": lambda d, n: Then(EulerMaruyama(d, n), Langevin(d, n, signal_to_noise(0.5), 3)),
    "heun with churn": lambda d, n: Heun(d, n, churn=0.3),
}


@pytest.mark.parametrize("schedule", WITHOUT_NOISE_AT_0)
@pytest.mark.parametrize("name", [*SAMPLERS, *CORRECTED])
def test_a_chain_to_no_noise_leaves_none(name, schedule):
    """Data at one point: whatever deviation the result has is noise of the last step."""
    denoiser = GaussianDenoiser(WITHOUT_NOISE_AT_0[schedule], 0.3, 1e-6)
    sampler = {**SAMPLERS, **CORRECTED}[name](denoiser, Seeded(range(20)))
    like = torch.zeros(20, 50).double()
    x = sampler(prior(denoiser.schedule, like, sampler.noise), grids.uniform(30))
    assert float(x.std()) < 1e-4
    assert float(x.mean()) == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize("schedule", WITHOUT_NOISE_AT_0)
def test_euler_maruyama_to_no_noise_keeps_the_spread_of_the_data(schedule):
    denoiser = GaussianDenoiser(WITHOUT_NOISE_AT_0[schedule], 0.5, 0.2)
    mean, std = propagate(EulerMaruyama, denoiser, grids.uniform(500))
    assert mean == pytest.approx(0.5, abs=0.02)
    assert std == pytest.approx(0.2, rel=0.1)


def test_a_corrector_tells_the_variance_that_it_added():
    """Three steps of size e add 6 e, each case its own."""
    denoiser = GaussianDenoiser(VE(0.1, 1.0), 0.0, 0.3)
    x, t = torch.randn(2, 5).double(), torch.tensor(0.5)
    _, added = Langevin(denoiser, gaussian, lambda *_: torch.tensor(0.02), 3).step(x, t, t, None)
    assert float(added) == pytest.approx(0.12)
    _, added = Langevin(denoiser).step(x, t, t, None)
    assert added.shape == (2, 1) and float(added[0]) != float(added[1])
