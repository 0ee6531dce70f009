"""Losses: the weights agree with each other, and the optimum is where theory puts it."""

import pytest
import torch
from torch import nn

from radiffuse.diffusion.losses import (
    discrete_times,
    karras,
    likelihood,
    log_normal,
    min_snr,
    output,
    p2,
    simple,
    uniform_times,
)
from radiffuse.diffusion.network import Network, unit_variance, unscaled
from radiffuse.diffusion.parametrization import CLEAN, NOISE, SCALED_SCORE, SCORE, VELOCITY, edm
from radiffuse.diffusion.schedule import EDM, VE, VP, Discrete
from radiffuse.training.objective import Denoising, Hybrid, Reader

T = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
ALL = [NOISE, CLEAN, VELOCITY, SCORE, SCALED_SCORE, edm(0.5)]


def noise_error_weight(weight, predicts, schedule=VP()):  # noqa: B008
    """The weight on the squared noise error that `weight` means for a parametrisation."""
    alpha, sigma = schedule.alpha(T), schedule.sigma(T)
    x_t, z = torch.full_like(T, 0.7), torch.full_like(T, 0.2)
    first = predicts.target((x_t - sigma * z) / alpha, z, alpha, sigma)
    second = predicts.target((x_t - sigma * (z + 1)) / alpha, z + 1, alpha, sigma)
    return weight(schedule, T, predicts) * (second - first) ** 2


@pytest.mark.parametrize("predicts", ALL, ids=lambda p: p.name)
def test_a_weight_means_the_same_for_every_prediction(predicts):
    snr = (VP().alpha(T) / VP().sigma(T)) ** 2
    s = 0.5
    g2 = VP().diffusion(T) ** 2
    wants = [
        (simple, torch.ones_like(T)),
        (likelihood, g2 / VP().sigma(T) ** 2),
        (p2(1.0, 1.0), 1 / (1 + snr)),
        (min_snr(5.0), snr.clamp(max=5) / snr),
        (karras(s), (snr * s**2 + 1) / (s**2 * snr)),
    ]
    for weight, want in wants:
        assert torch.allclose(noise_error_weight(weight, predicts), want, rtol=1e-9)


def test_karras_weight_is_one_for_karras_output_and_the_paper_s_for_clean():
    t, sigma = T, EDM().sigma(T)
    assert torch.allclose(karras(0.5)(EDM(), t, edm(0.5)), torch.ones_like(t))
    want = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    assert torch.allclose(karras(0.5)(EDM(), t, CLEAN), want)


def test_velocity_loss_survives_zero_terminal_snr():
    schedule = Discrete.linear().zero_terminal()
    one = torch.ones(1).double()
    for weight in (output, min_snr(5.0), simple):
        assert torch.isfinite(weight(schedule, one, VELOCITY)).all()


class Exact(nn.Module):
    """The optimal scaled score of N(0, v) data: -sigma x / (v + sigma^2)."""

    def __init__(self, v):
        super().__init__()
        self.v = v

    def forward(self, x, clock):
        sigma = torch.exp(4 * clock).reshape(-1, 1)
        return -sigma * x / (self.v + sigma**2)


def test_ncsn_loss_at_its_optimum():
    """sigma^2-weighted score matching of N(0, v I): the minimum is v / (v + sigma^2) a dimension."""
    schedule, v = VE(0.1, 2.0), 0.3
    for level in (0.0, 0.5, 1.0):
        network = Network(Exact(v), schedule, SCALED_SCORE)
        objective = Denoising(network, lambda n, at=level: torch.full((n,), at).double())
        torch.manual_seed(0)
        batch = {"image": v**0.5 * torch.randn(20_000, 8)}
        ((_, loss),) = objective.losses(batch)
        sigma2 = float(schedule.sigma(torch.tensor(level))) ** 2
        assert float(loss.detach()) == pytest.approx(v / (v + sigma2), rel=0.02)


def test_laws_of_t():
    torch.manual_seed(0)
    t = uniform_times(0.1)(10_000)
    assert float(t.min()) >= 0.1
    assert float(t.mean()) == pytest.approx(0.55, abs=0.001)
    steps = discrete_times(Discrete.cosine(10))(10_000) * 10
    assert torch.equal(steps.round().unique(), torch.arange(1.0, 11).double())
    schedule = EDM()
    log = torch.log(schedule.sigma(log_normal(schedule)(4000)))
    assert float(log.mean()) == pytest.approx(-1.2, abs=0.01)
    assert float(log.std()) == pytest.approx(1.2, abs=0.02)


class Recorder(nn.Module):
    """Remembers its conditions."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes
        self.seen = {}

    def forward(self, x, clock, **condition):
        self.seen = condition
        return 0 * x


def test_labels_are_dropped_at_the_stated_rate():
    torch.manual_seed(0)
    recorder = Recorder(4)
    objective = Denoising(Network(recorder, VP(), NOISE), uniform_times(), drop=0.25)
    list(objective.losses({"image": torch.zeros(8000, 1, 1), "label": torch.ones(8000).long()}))
    label = recorder.seen["label"]
    assert set(label.tolist()) == {1, 4}
    assert float((label == 4).double().mean()) == pytest.approx(0.25, abs=0.02)


def test_hybrid_loss_trains_the_variance_and_not_the_mean_by_the_bound():
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.tensor(0.5))
            self.v = nn.Parameter(torch.tensor(0.0))

        def forward(self, x, clock):
            return torch.cat([self.mean * x, self.v + 0 * x], dim=1)

    schedule = Discrete.linear(100)
    network = Network(Two(), schedule, NOISE, unscaled)
    batch = {"image": torch.randn(64, 1, 4).clamp(-1, 1)}

    def gradients(kind):
        torch.manual_seed(1)
        network.zero_grad()
        ((_, loss),) = kind(network, discrete_times(schedule)).losses(batch)
        loss.backward()
        return network.backbone.mean.grad.clone(), network.backbone.v.grad

    class MeanOnly(Hybrid):
        vlb = 0.0

    hybrid_mean, v = gradients(Hybrid)
    plain_mean, none = gradients(MeanOnly)
    assert torch.allclose(hybrid_mean, plain_mean)
    assert float(v.abs()) > 0
    assert float(none.abs()) == 0


def test_classifier_objective_learns_a_separable_problem():
    torch.manual_seed(0)

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x, clock):
            return self.linear(x)

    network = Network(nn.Identity(), VP(), NOISE, unit_variance(1.0))
    objective = Reader(
        "classifier",
        Head(),
        network,
        lambda n: torch.full((n,), 0.05).double(),
        lambda read, batch: nn.functional.cross_entropy(read, batch["label"]),
    )
    label = torch.randint(0, 2, (256,))
    batch = {"image": torch.randn(256, 2) * 0.1 + (2.0 * label - 1)[:, None], "label": label}
    optimiser = torch.optim.Adam(objective.players["classifier"].parameters(), 0.1)
    for _ in range(30):
        ((_, loss),) = objective.losses(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.2
