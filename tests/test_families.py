"""Families beside diffusion, each on a density that is known."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from radiffuse.applications.generation.ebm import EBM, Contrast, Walk
from radiffuse.applications.generation.flow import Flow
from radiffuse.applications.generation.gan import GAN
from radiffuse.applications.generation.vae import VAE, Bound, evidence, importance, log_normal
from radiffuse.diffusion.noise import Seeded
from radiffuse.nn.adaptive import Adaptive
from radiffuse.nn.energy import Energy
from radiffuse.nn.hierarchy import Hierarchy
from radiffuse.nn.tarflow import TarFlow


def awake(network, seed=0, std=0.3):
    """Weights that are not those of the beginning."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=std)
    return network.eval()


# ---------------------------------------------------------------------------------------------- flow
@pytest.fixture(scope="module")
def flow():
    return awake(TarFlow(2, 1, (4, 4), patch=2, width=8, blocks=3, layers=1))


def test_the_flow_is_undone_by_its_inverse(flow):
    x = torch.rand(3, 1, 4, 4) * 2 - 1
    z, _ = flow(x)
    assert not torch.allclose(z.flatten(1).sort().values, x.flatten(1).sort().values, atol=0.1)
    *_, back = flow.states(z)
    assert torch.allclose(back, x, atol=1e-4)


def test_the_flows_density_is_the_change_of_variables(flow):
    """Against the determinant of the Jacobian by autodiff."""
    x = torch.rand(1, 1, 4, 4) * 2 - 1
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v)[0].flatten(), x).reshape(16, 16)
    z = flow(x)[0].flatten()
    prior = -0.5 * z.square().sum() - 8 * math.log(2 * math.pi)
    exact = prior + torch.linalg.slogdet(jacobian).logabsdet
    assert float(flow.log_density(x)[0].detach()) == pytest.approx(float(exact.detach()), abs=1e-3)


def test_the_flows_density_integrates_to_one():
    flow = awake(TarFlow(1, 1, (2,), patch=1, width=8, blocks=2, layers=1), std=0.2)
    line = torch.linspace(-9, 9, 241)
    grid = torch.cartesian_prod(line, line)[:, None]
    mass = flow.log_density(grid).exp().sum() * float(line[1] - line[0]) ** 2
    assert float(mass.detach()) == pytest.approx(1, abs=5e-3)


def test_a_token_of_the_flow_is_told_those_before_it_alone(flow):
    tokens = torch.randn(1, 4, 4)
    other = tokens.clone()
    other[:, 2] += 1
    block = flow.blocks[0]
    before, after = block(tokens)[0], block(other)[0]
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 3], after[:, 3], atol=1e-4)


def test_draws_of_the_flow_are_denoised_by_the_score_of_its_density():
    """Of N(0, 1) images the posterior mean of x + 0.5 e is (1 - 0.25) of it: the untrained flow is N(0, I)."""
    recipe = Flow(channels=1, size=(4, 4), width=8, blocks=2, layers=1, noise=0.5)
    objective, seeds = recipe.objective(), {"seed": torch.arange(2)}
    *_, noisy, clean = recipe.trajectory(objective, seeds)
    assert torch.allclose(clean, 0.75 * noisy, atol=1e-5)
    grainy = dataclasses.replace(recipe, denoised=False)
    *_, last = grainy.trajectory(objective, seeds)
    assert torch.equal(last, noisy)


# ----------------------------------------------------------------------------------------------- vae
class Linear(nn.Module):
    """x = w z + s e with z of N(0, 1), and the posterior N(a x, b^2) of the bound: exact at a = w / (w^2 + s^2)."""

    def __init__(self, w=0.8, s=0.5, gain=None, spread=None):
        super().__init__()
        self.w, self.s = w, s
        self.gain = w / (w**2 + s**2) if gain is None else gain
        self.spread = s / math.hypot(w, s) if spread is None else spread

    def forward(self, x, draw=torch.randn_like):
        mean = self.gain * x
        e = draw(x)
        z = mean + self.spread * e
        divergence = 0.5 * (mean**2 + self.spread**2 - 1) - math.log(self.spread)
        ratio = -0.5 * z**2 + 0.5 * e**2 + math.log(self.spread)
        scale = torch.full_like(x, math.log(self.s))
        return self.w * z, scale, divergence.flatten(1), ratio.flatten(1)

    def exact(self, x):
        return log_normal(
            x, torch.zeros_like(x), torch.full_like(x, math.log(math.hypot(self.w, self.s)))
        )


def draws(count):
    return torch.randn(count, 1, 1)


def test_the_bound_of_a_linear_vae_touches_the_likelihood_at_its_optimum():
    torch.manual_seed(0)
    model, x = Linear(), draws(40_000)
    assert float(evidence(model, x, torch.randn_like).mean()) == pytest.approx(
        float(model.exact(x).mean()), abs=0.01
    )
    weighed = importance(model, x[:200], torch.randn_like, 3)
    assert torch.allclose(weighed, model.exact(x[:200]).double(), atol=1e-4)


@pytest.mark.parametrize("gain, spread", [(0.3, None), (None, 0.9), (1.5, 0.3)])
def test_the_bound_never_passes_the_likelihood_and_importance_weights_tighten_it(gain, spread):
    torch.manual_seed(0)
    model, x = Linear(gain=gain, spread=spread), draws(40_000)
    bound = float(evidence(model, x, torch.randn_like).mean())
    weighed = float(importance(model, x, torch.randn_like, 8).mean())
    exact = float(model.exact(x).mean())
    assert bound < weighed < exact + 0.005
    assert bound < exact - 0.02


def test_the_hierarchys_divergences_are_the_means_of_its_ratios():
    """KL(q || p) = -E_q[log p - log q], level by level, of the network itself."""
    network = awake(Hierarchy(1, 1, (4,), (8, 8), blocks=1, latent=1, patch=1), std=0.2)
    x = torch.rand(1, 1, 4).expand(4000, 1, 4)
    torch.manual_seed(1)
    with torch.no_grad():
        _, _, divergences, ratios = network(x)
    assert divergences.shape == (4000, 2) and float(divergences.mean()) > 0.01
    assert torch.allclose(divergences.mean(0), -ratios.mean(0), atol=0.05)


def test_divergences_are_warmed_up_and_free_bits_kept():
    network = awake(Hierarchy(1, 1, (4,), (8, 8), blocks=1, latent=1, patch=1), std=0.2)
    batch = {"image": torch.rand(16, 1, 4)}

    def loss(warmup, free):
        torch.manual_seed(0)
        network.train()
        ((_, value),) = Bound(network, warmup, free).losses(batch)
        return float(value.detach())

    full, half, free = loss(0, 0.0), loss(2, 0.0), loss(0, 100.0)
    assert half < full < free
    assert free - full == pytest.approx(
        (200 - 4 * 2 * (full - half)) / 4, rel=1e-3
    )  # two groups of 100 nats in place of their divergences


# ----------------------------------------------------------------------------------------------- ebm
def test_langevin_steps_draw_from_the_energys_law():
    """A Gaussian: E = (x - 0.3)^2 / (2 0.4^2), steps of noise^2 = 2 rate."""
    walk = Walk(rate=0.005, noise=0.1, bounded=False)
    torch.manual_seed(0)
    x = torch.randn(4000, 1, 1)
    for _ in range(200):
        x = walk(lambda v: ((v - 0.3) ** 2 / (2 * 0.4**2)).flatten(1).sum(1), x, torch.randn_like)
    assert float(x.mean()) == pytest.approx(0.3, abs=0.03)
    assert float(x.std()) == pytest.approx(0.4, abs=0.03)


def taught(energy, walk, draw, *, steps, updates, rate, batch, restart=0.0):
    """An energy after some updates of the contrast, at a rate that falls to 0."""
    torch.manual_seed(0)
    contrast = Contrast(energy, walk, steps, restart, magnitude=0.0, blur=0.0)
    optimiser = torch.optim.Adam(energy.parameters(), rate, betas=(0.0, 0.999))
    for step in range(updates):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / updates)
        ((_, loss),) = contrast.losses({"image": draw(batch)})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return energy


class Parabola(Energy):
    """E = (x - m)^2 / 2v, and the kept ends of chains."""

    def __init__(self, kept):
        super().__init__(1, 1, (1,), (1,), blocks=1, patch=1, kept=kept)
        self.m, self.log_v = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return ((x - self.m).square() / (2 * self.log_v.exp())).flatten(1).sum(1)


def parabola_learned(walk, steps, mean, variance):
    """m and v at which chains of so many steps end with mean and variance of the data.

    On a parabola a chain contracts by a = 1 - rate / v a step. From uniform noise, of variance 1/3, it is after K steps
    of mean m (1 - a^K) and variance a^2K / 3 + noise^2 (1 - a^2K) / (1 - a^2).
    """

    def ended(v):
        a = 1 - walk.rate / v
        far = a ** (2 * steps)
        return a, far / 3 + walk.noise**2 * (1 - far) / (1 - a**2)

    low, high = walk.rate * 1.01, 10.0
    for _ in range(60):
        v = (low + high) / 2
        low, high = (v, high) if ended(v)[1] < variance else (low, v)
    return mean / (1 - ended(v)[0] ** steps), v


@pytest.mark.parametrize(
    "noise, restart, off",
    [(0.2, 0.0, 0.93), (0.1, 0.0, 3.94), (0.2, 1.0, 0.78)],
    ids=["kept chains", "kept chains, four times too cold", "chains of six steps from noise"],
)
def test_the_contrast_is_at_rest_where_ends_of_chains_have_the_moments_of_the_data(
    noise, restart, off
):
    """Chains that are kept learn the density, its logarithm over their temperature noise^2 / (2 rate); short ones from
    noise another one. The law of each is known: `off` is its variance over that of the data."""
    walk = Walk(rate=0.02, noise=noise, bounded=False)
    energy = taught(
        *(Parabola(2000), walk, lambda n: 0.3 + 0.4 * torch.randn(n, 1, 1)),
        **{"steps": 6, "updates": 250, "rate": 0.05, "batch": 2000, "restart": restart},
    )
    steps = 6 if restart else 10_000
    m, v = parabola_learned(walk, steps, 0.3, 0.16)
    assert v == pytest.approx(off * 0.16, rel=0.02)
    assert float(energy.m.detach()) == pytest.approx(m, abs=0.02)
    assert float(energy.log_v.detach().exp()) == pytest.approx(v, rel=0.05)


def mixture(x):
    """log p of 0.3 N(-0.7, 0.3^2) + 0.7 N(0.7, 0.3^2) but for a constant."""
    away = -0.5 * ((x[..., None] - torch.tensor([-0.7, 0.7])) / 0.3) ** 2
    return torch.logsumexp(away + torch.tensor([0.3, 0.7]).log(), -1)


def test_the_energys_score_is_the_exact_one_of_a_mixture():
    """-dE/dx of a network trained by kept chains, where the data lie; its two wells hold what they should."""

    def draw(n):
        side = 2 * (torch.rand(n, 1, 1) < 0.7) - 1
        return 0.7 * side + 0.3 * torch.randn(n, 1, 1)

    energy = taught(
        *(Energy(1, 1, (1,), (32,), blocks=1, patch=1, kept=512), Walk(0.01, 0.02**0.5, 0, False)),
        *(draw,),
        **{"steps": 2, "updates": 400, "rate": 2e-2, "batch": 512},
    )
    x = torch.linspace(-2, 2, 201).requires_grad_()
    (slope,) = torch.autograd.grad(-energy(x[:, None, None]).sum(), x)
    (exact,) = torch.autograd.grad(mixture(x).sum(), x)
    weight = mixture(x.detach()).exp().sqrt()
    off = float(((slope - exact) * weight).norm() / (exact * weight).norm())
    assert off < 0.3, f"off by {off:.0%}"
    learned = (-energy(x[:, None, None])).detach().softmax(0)
    assert float(learned[x < 0].sum()) == pytest.approx(0.3, abs=0.1)


def test_chains_begin_at_the_kept_ends_of_earlier_ones():
    energy = Energy(1, 1, (4,), (8,), blocks=1, patch=1, kept=8)
    like = torch.zeros(8, 1, 4)
    start, places = energy.begun(like, restart=0.0)
    assert sorted(places.tolist()) == list(range(8)) and start.abs().max() > 0.5
    energy.keep(torch.full_like(like, 0.25), places)
    again, _ = energy.begun(like, restart=0.0)
    assert torch.equal(again, torch.full_like(like, 0.25))
    fresh, _ = energy.begun(like, restart=1.0)
    assert not torch.equal(fresh, again)
    recipe = EBM(channels=1, size=(4,), width=8, multiples=(1,), blocks=1, kept=8, steps=1)
    objective = recipe.objective()
    objective.players["energy"].load_state_dict(energy.state_dict())
    first = next(iter(recipe.states(objective, Seeded([0, 1]), 2)))
    assert torch.equal(first, torch.full((2, 1, 4), 0.25))


# ----------------------------------------------------------------------------------------------- gan
@pytest.fixture
def game():
    recipe = dataclasses.replace(GAN.tiny(), channels=1, size=(8, 8), augment=0.0, penalty=3.0)
    torch.manual_seed(0)
    made = recipe.objective()
    for player in made.players.values():
        awake(player, std=0.2)
    return made


def test_the_critics_loss_is_of_pairs_with_both_penalties_by_hand(game):
    real, fake = torch.rand(2, 4, 1, 8, 8).unbind(0)
    critic = game.players["critic"]

    def steep(images):
        total = 0.0
        for image in images:
            at = image[None].clone().requires_grad_()
            critic(at).sum().backward()
            total += float(at.grad.square().sum()) / len(images)
        return total

    margin = critic(real) - critic(fake)
    by_hand = float(nn.functional.softplus(-margin).mean().detach()) + 1.5 * (
        steep(real) + steep(fake)
    )
    assert float(game.told_apart(real, fake).detach()) == pytest.approx(by_hand, rel=1e-4)


def test_the_generators_loss_is_that_of_the_pairs_with_roles_changed(game):
    """A critic of the mean value: made images far brighter than real ones have won, far darker ones lost."""
    game.players["critic"] = Mean()
    won, lost = (dict(game.losses({"image": at * torch.ones(4, 1, 8, 8)})) for at in (-50.0, 50.0))
    assert float(won["generator"].detach()) < 1 < 20 < float(lost["generator"].detach())


class Mean(nn.Module):
    def forward(self, x):
        return x.flatten(1).mean(1)


def test_changes_of_what_the_critic_sees_pass_gradients_and_rise_with_what_it_tells_apart():
    adaptive = Adaptive(0.6, pace=100)
    x = torch.rand(64, 1, 8, 8, requires_grad=True)
    assert adaptive(x) is x
    for _ in range(8):
        adaptive.told(torch.ones(20))
    assert float(adaptive.share) == pytest.approx(0.8)
    torch.manual_seed(0)
    changed = adaptive(x)
    (gradient,) = torch.autograd.grad(changed.sum(), x)
    assert (
        float((changed - x).detach().abs().flatten(1).max(1).values.gt(1e-3).float().mean()) > 0.5
    )
    assert torch.isfinite(gradient).all() and float(gradient.abs().sum()) > 0
    adaptive.told(torch.tensor([1.0, -1.0] * 20))
    assert float(adaptive.share) == pytest.approx(0.4)


def test_changes_do_not_leak():
    """Untouched images stay the likeliest at p = 0.8, so the law of the images is told from that of changed ones."""
    adaptive = Adaptive(0.6)
    adaptive.share.fill_(0.8)
    torch.manual_seed(0)
    lean = torch.zeros(4000, 1, 8)
    lean[..., 0] = 1.0
    seen = adaptive(lean).flatten(1)
    straight = (seen[:, 0] > seen[:, -1]).float().mean()
    assert float(straight) == pytest.approx(0.6, abs=0.04)  # mirrored with p / 2


# ----------------------------------------------------------------------------------- as other methods
@pytest.mark.parametrize("kind", [GAN, VAE, Flow, EBM])
def test_networks_of_the_small_presets_are_of_comparable_size(kind):
    recipe = dataclasses.replace(kind.small(), channels=1, size=(32, 32))
    players = recipe.objective().players.values()
    count = sum(p.numel() for player in players for p in player.parameters())
    assert 2.5e6 < count < 8e6


def test_a_step_in_micro_batches_is_one_step_of_the_warm_up():
    bound = dataclasses.replace(VAE.tiny(), channels=1, size=(16, 16)).objective()
    torch.manual_seed(0)
    for step in range(1, 4):
        parts = [bound.losses({"image": torch.zeros(2, 1, 16, 16)}) for _ in range(4)]
        for part in parts:
            next(part)
        for part in parts:
            assert next(part, None) is None
        assert int(bound.players["network"].seen) == step
