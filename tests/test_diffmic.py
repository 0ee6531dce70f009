"""DiffMIC: the shifted chain of labels, the classifier that guides it, metrics, the command line."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from radiffuse import cli
from radiffuse.applications.classification.diffmic import DiffMIC
from radiffuse.applications.classification.dual_guided import mmd, on_simplex
from radiffuse.applications.classification.evaluate import evaluate_classification
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.data.dataset import Facts
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.kernels import diffuse, posterior
from radiffuse.diffusion.network import Given, Network
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.parametrization import NOISE
from radiffuse.diffusion.sample import DDPM
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UserError
from radiffuse.metrics import classification as metrics
from radiffuse.nn.augment import turned
from radiffuse.nn.dual import DualPrior, Look, crops, salient_windows
from radiffuse.nn.labels import LabelNetwork
from radiffuse.testing import check_recipe


def facts(size=(16, 16), channels=1, classes=3):
    return Facts(
        ("image", "label"), {"image": channels}, {"image": size}, classes, (), 0.5, 0.0, 1.0, 8
    )


def batch_of(size=(16, 16), channels=1, cases=6):
    draw = torch.Generator().manual_seed(1)
    image = torch.rand(cases, channels, *size, generator=draw) * 2 - 1
    return {"image": image, "label": torch.arange(cases) % 3}


def made(**changes):
    recipe = dataclasses.replace(DiffMIC.tiny(), **changes).fitted(facts())
    torch.manual_seed(0)
    return recipe, recipe.objective()


# ------------------------------------------------------------------------------ the shifted chain
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
MU, Y0 = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.0, 1.0, 0.0]).double()


@pytest.mark.parametrize("level", [1, 300, 1000])
def test_labels_drift_to_the_prior_s_mean(level):
    """y_t = m_t + mu has mean sqrt(abar) y_0 + (1 - sqrt(abar)) mu and variance 1 - abar."""
    schedule, t = Discrete.linear(1000), torch.tensor(level / 1000)
    abar = torch.prod(1 - BETAS[:level])
    z = torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0)).double()
    y_t = diffuse(schedule, (Y0 - MU).expand_as(z), t, z) + MU
    assert torch.allclose(y_t.mean(0), abar.sqrt() * Y0 + (1 - abar.sqrt()) * MU, atol=0.02)
    assert torch.allclose(y_t.var(0), (1 - abar).expand(3), rtol=0.02)
    if level == 1000:
        assert torch.allclose(y_t.mean(0), MU, atol=0.02) and float(abar) < 1e-4


def three_terms(y_0, y_t, mu, t):
    """The posterior's mean and variance as the paper writes them, for index t of betas."""
    betas = BETAS
    alpha, abar = 1 - betas, torch.cumprod(1 - betas, 0)
    before = abar[t - 1] if t else torch.tensor(1.0).double()
    g0 = betas[t] * before.sqrt() / (1 - abar[t])
    g1 = (1 - before) * alpha[t].sqrt() / (1 - abar[t])
    g2 = 1 + (abar[t].sqrt() - 1) * (alpha[t].sqrt() + before.sqrt()) / (1 - abar[t])
    assert float(g0 + g1 + g2) == pytest.approx(1, abs=1e-12)
    return g0 * y_0 + g1 * y_t + g2 * mu, (1 - before) / (1 - abar[t]) * betas[t]


@pytest.mark.parametrize("t", [1, 59, 500, 999])
def test_the_ordinary_posterior_shifted_back_has_the_three_terms_of_the_paper(t):
    y_t = torch.tensor([0.3, -0.4, 1.2]).double()
    now, before = torch.tensor([t + 1, t], dtype=torch.float64) / 1000
    mean, variance, _ = posterior(Discrete.linear(1000), y_t - MU, Y0 - MU, now, before)
    want, spread = three_terms(Y0, y_t, MU, t)
    assert torch.allclose(mean + MU, want, atol=1e-9)
    assert float(variance) == pytest.approx(float(spread), rel=1e-6)


def test_the_three_terms_are_bayes_rule_by_brute_force():
    """q(y_s | y_0, mu) q(y_t | y_s, mu), multiplied on a fine grid and normalised."""
    betas = BETAS
    t, y_0, mu, y_t = 400, 1.0, 0.3, -0.2
    before = torch.prod(1 - betas[:t])
    y_s = torch.linspace(-8, 8, 200_001).double()
    first = (y_s - before.sqrt() * y_0 - (1 - before.sqrt()) * mu) ** 2 / (1 - before)
    step = (1 - betas[t]).sqrt()
    second = (y_t - step * y_s - (1 - step) * mu) ** 2 / betas[t]
    weight = torch.exp(-(first + second) / 2 + (first + second).min() / 2)
    weight = weight / weight.sum()
    mean = (weight * y_s).sum()
    want, spread = three_terms(y_0, y_t, mu, t)
    assert float(mean) == pytest.approx(float(want), abs=1e-6)
    assert float((weight * (y_s - mean) ** 2).sum()) == pytest.approx(float(spread), rel=1e-4)


class Linear(nn.Module):
    """A backbone that knows y_0, and reads y_t = x + mu at its input as `LabelNetwork` does."""

    def __init__(self, schedule, y_0):
        super().__init__()
        self.schedule, self.y_0, self.heard = schedule, y_0, []

    def forward(self, x, clock, mean, features=None, image=None):
        y_t = x + mean
        self.heard.append(y_t)
        alpha, sigma = self.schedule(clock.double() / 1000, x)
        return (y_t - alpha * self.y_0 - (1 - alpha) * mean) / sigma


def network(backbone):
    return Network(backbone, backbone.schedule, NOISE, clock=lambda t, a, s: t * 1000)


def test_the_shift_is_at_the_backbone_s_input():
    """E[y_0] is right; reading y_t itself as an ordinary state is wrong by mu (1 / alpha - 1)."""
    schedule, t = Discrete.linear(1000), torch.tensor(0.2).double()
    alpha, sigma = schedule(t, MU)
    y_t = (alpha * Y0 + (1 - alpha) * MU + sigma * torch.tensor([0.5, -1.0, 0.2]))[None]
    backbone = Linear(schedule, Y0)
    estimate = Given(network(backbone), mean=MU[None])(y_t - MU, t) + MU
    assert torch.allclose(estimate[0], Y0, atol=1e-6)
    assert torch.equal(backbone.heard[0], y_t)
    around = NOISE.clean(backbone(y_t - MU, torch.tensor([200.0]), MU[None]), y_t, alpha, sigma)
    assert torch.allclose(around[0] - Y0, MU * (1 / alpha - 1), atol=1e-6)
    assert float((around[0] - Y0).abs().max()) > 0.1


def test_the_label_network_reads_the_state_plus_mu():
    torch.manual_seed(0)
    net = LabelNetwork(2, 1, 3, 100, 16, 8, (1, 1), 2)
    heard = []
    net.layers[0].register_forward_pre_hook(lambda module, given: heard.append(given[0]))
    x, mean = torch.randn(4, 3), torch.rand(4, 3)
    net(x, torch.full((4,), 7.0), mean, image=torch.rand(2, 1, 16, 16))
    assert torch.equal(heard[0], torch.cat([x + mean, mean], dim=1))
    with pytest.raises(ValueError, match="image or its features"):
        net(x, torch.full((4,), 7.0), mean)


def test_row_n_of_the_label_network_is_of_image_n_modulo_b():
    torch.manual_seed(0)
    net = LabelNetwork(2, 1, 3, 100, 16, 8, (1, 1), 2)
    x, mean, image = torch.randn(4, 3), torch.rand(4, 3), torch.rand(2, 1, 16, 16)
    clock = torch.tensor([7.0, 8.0, 9.0, 10.0])
    together = net(x, clock, mean, image=image)
    one = net(x[3:], clock[3:], mean[3:], features=net.encode(image[1:]))
    assert torch.allclose(together[3:], one, atol=1e-5)
    assert not torch.allclose(net(x[3:], clock[2:3], mean[3:], image=image[1:]), one, atol=1e-4)


def test_the_image_multiplies_the_first_layer_alone():
    """The first layer's output times the features of the image, and no other layer's."""
    torch.manual_seed(0)
    net = LabelNetwork(2, 1, 3, 100, 16, 8, (1, 1), 2)
    inputs = []
    for layer in [*net.layers[1:], net.leave]:
        layer.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    x, mean, clock = torch.randn(2, 3), torch.rand(2, 3), torch.full((2,), 7.0)
    ones, features = torch.ones(2, 16), torch.rand(2, 16) + 0.5
    net(x, clock, mean, features=ones)
    net(x, clock, mean, features=features)
    plain, told = inputs[:3], inputs[3:]
    assert torch.allclose(told[0], features * plain[0])
    after = nn.functional.softplus(net.norms[1](net.layers[1](told[0], clock.long())))
    assert torch.allclose(told[1], after)


class Knows(Denoiser):
    """E[m_0] = y_0 - mu whatever it is asked."""

    def __init__(self, schedule, m_0):
        super().__init__()
        self.schedule, self.m_0, self.starts = schedule, m_0, []

    def forward(self, x_t, t):
        self.starts.append((float(t), x_t))
        return self.m_0.expand_as(x_t)


@pytest.mark.parametrize("start", [1.0, 0.06])
def test_the_chain_with_the_exact_denoiser_returns_the_label(start):
    recipe = DiffMIC(channels=1, size=(64, 64), classes=3, steps=20, start=start)
    mean = MU.repeat(500, 1)
    knows = Knows(recipe.schedule(), (Y0 - MU)[None])
    y = recipe.draw(knows, mean, Seeded(range(500)))
    assert torch.allclose(y, Y0.expand_as(y), atol=1e-5)
    time, first = knows.starts[0]
    assert time == start and float(first.var()) == pytest.approx(1, rel=0.1)
    assert float(first.mean()) == pytest.approx(0, abs=0.1)


def test_the_chain_of_the_recipe_draws_the_posteriors_variance():
    """The second of two steps is asked at a state of variance beta~, not beta."""
    recipe = DiffMIC(channels=1, size=(64, 64), classes=3, steps=2)
    mean = MU.float().repeat(4000, 1)
    knows = Knows(recipe.schedule(), (Y0 - MU).float()[None])
    recipe.draw(knows, mean, Seeded(range(4000)))
    (high, first), (low, second) = knows.starts
    centre, variance, beta = posterior(
        recipe.schedule(), first, knows.m_0.expand_as(first), *map(torch.tensor, (high, low))
    )
    found = float((second - centre).var())
    assert found == pytest.approx(float(variance), rel=0.05) and float(beta) > 1.05 * found


def test_the_oracle_s_steps_have_the_law_of_the_three_terms():
    """One step of the sampler from a fixed y_t, with the oracle noise, against the paper's formula."""
    schedule = Discrete.linear(1000)
    oracle = Given(network(Linear(schedule, Y0.float())), mean=MU.float()[None])
    y_t = torch.tensor([0.3, -0.4, 1.2])
    sampler = DDPM(oracle, Seeded(range(4000)))
    now, before = torch.tensor(0.5).double(), torch.tensor(0.499).double()
    x_s, _ = sampler.step((y_t - MU.float()).repeat(4000, 1), now, before, None)
    want, spread = three_terms(Y0, y_t.double(), MU, 499)
    error = float(spread) ** 0.5
    assert torch.allclose(x_s.double().mean(0) + MU, want, atol=4 * error / 4000**0.5)
    assert torch.allclose(x_s.double().var(0), spread.expand(3), rtol=0.1)


# -------------------------------------------------------------------------------------- training
def test_mmd_is_zero_for_equal_sets_and_large_for_shifted_ones():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 64, 3, generator=draw)
    assert float(mmd(a, a)) == 0
    assert 0 < float(mmd(a, b)) < 0.05
    assert float(mmd(a, b + 2)) > 10 * float(mmd(a, b))
    u, v = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 3.0]])
    assert float(mmd(u, v)) == pytest.approx(2 - 2 * np.exp(-5 / 2))


class Hears(nn.Module):
    """Outputs 0, and notes what it is told."""

    def forward(self, x, clock, mean, image):
        self.heard = {"x": x, "clock": clock, "mean": mean, "image": image}
        return torch.zeros_like(x)


def test_all_three_guides_get_the_same_noise_and_time_and_their_own_mean():
    recipe, objective = made(dual=0.5, predicts="noise")
    objective.players["network"] = listening = Hears()
    y_0 = torch.eye(3)[[0, 1, 2, 0]]
    guides = [torch.randn(4, 3).softmax(1) for _ in range(3)]
    torch.manual_seed(5)
    loss = objective.noise_loss(torch.zeros(4, 1, 16, 16), y_0, guides)
    torch.manual_seed(5)
    z = torch.randn(4, 3)
    heard = listening.heard
    assert torch.equal(heard["mean"], torch.cat(guides))
    first, second, third = heard["clock"].chunk(3)
    assert torch.equal(first, second) and torch.equal(first, third)
    alpha, sigma = recipe.schedule()((first / 100).double(), z)
    for x, mu in zip(heard["x"].chunk(3), guides, strict=True):
        assert torch.allclose(x + mu, alpha * y_0 + (1 - alpha) * mu + sigma * z, atol=1e-5)
    nothing = torch.zeros_like(z)
    assert float(loss) == pytest.approx(float(z.square().mean() + 0.5 * 2 * mmd(z, nothing)))


@pytest.mark.parametrize("predicts", ["noise", "edm"])
def test_a_network_that_knows_the_label_has_no_loss(predicts):
    """Neither squared error nor discrepancy, whatever the network outputs."""
    _, objective = made(predicts=predicts)
    y_0 = torch.eye(3)[[0, 1, 2, 0]]
    row, n = objective.network.predicts, objective.network.schedule

    class Oracle(nn.Module):
        def forward(self, x, clock, mean, image):
            alpha, sigma = n((clock / 100).double(), x)
            m_0 = y_0.repeat(3, 1) - mean
            return row.target(m_0, (x - alpha * m_0) / sigma, alpha, sigma)

    objective.players["network"] = Oracle()
    guides = [torch.randn(4, 3).softmax(1) for _ in range(3)]
    assert float(objective.noise_loss(torch.zeros(4, 1, 16, 16), y_0, guides)) < 1e-6


def test_the_fusion_is_judged_by_squares_and_the_branches_by_discrepancy():
    """Perfect under the fusion, noise off by 1 and by 2 under the global and the local guide."""
    _, objective = made(dual=0.5, predicts="noise")

    class Off(nn.Module):
        def forward(self, x, clock, mean, image):
            alpha, sigma = objective.network.schedule((clock / 100).double(), x)
            z = (x - alpha * (y_0.repeat(3, 1) - mean)) / sigma
            return z + torch.tensor([0.0, 1.0, 2.0]).repeat_interleave(4)[:, None]

    objective.players["network"] = Off()
    y_0, guides = torch.eye(3)[[0, 1, 2, 0]], [torch.randn(4, 3).softmax(1) for _ in range(3)]
    torch.manual_seed(5)
    loss = objective.noise_loss(torch.zeros(4, 1, 16, 16), y_0, guides)
    torch.manual_seed(5)
    z = torch.randn(4, 3)
    assert float(loss) == pytest.approx(0.5 * float(mmd(z, z + 1) + mmd(z, z + 2)), rel=1e-4)


def test_the_prior_learns_alone_first_and_is_never_moved_by_the_noise_loss():
    _, objective = made(alone=2)
    turns = []
    for _ in range(3):
        turns.append([])
        for who, loss in objective.losses(batch_of()):
            turns[-1].append(who)
            for player in objective.players.values():
                player.zero_grad()
            loss.backward()
            moved = {
                name
                for name, player in objective.players.items()
                if any(p.grad is not None and bool(p.grad.any()) for p in player.parameters())
            }
            assert moved == {who}
    assert turns == [["prior"], ["prior"], ["network", "prior"]]
    assert int(objective.players["prior"].seen) == 3


class Looks(nn.Module):
    """A classifier that says the same of every image, and keeps what it saw."""

    def __init__(self, fusion, whole, local):
        super().__init__()
        self.said = [torch.tensor(each).requires_grad_() for each in (fusion, whole, local)]
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.images = []

    def forward(self, image):
        self.images.append(image)
        logits = [each.expand(len(image), -1) for each in self.said]
        return Look(*logits, None, None, None)


def looking(**changed):
    recipe, objective = made(alone=0, predicts="noise", **changed)
    objective.players["prior"] = looks = Looks([2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [3.0, 0.0, 3.0])
    objective.players["network"] = hears = Hears()
    return recipe, objective, looks, hears


def test_the_guides_of_training_are_the_probabilities_of_fusion_image_and_patches():
    _, objective, looks, hears = looking()
    list(objective.losses(batch_of()))
    for mean, said in zip(hears.heard["mean"].chunk(3), looks.said, strict=True):
        assert torch.allclose(mean, said.detach().softmax(0).expand_as(mean))


def test_the_classifier_learns_from_the_cross_entropy_of_its_fusion():
    _, objective, looks, _ = looking()
    batch = batch_of()
    losses = dict(objective.losses(batch))
    losses["prior"].backward()
    fusion, whole, local = looks.said
    truth = torch.eye(3)[batch["label"]].mean(0)
    assert torch.allclose(fusion.grad, fusion.detach().softmax(0) - truth, atol=1e-6)
    assert whole.grad is None and local.grad is None


def test_both_networks_see_the_same_turned_view():
    _, objective, looks, hears = looking(turn=30.0, flip=True)
    batch = batch_of()
    torch.manual_seed(3)
    list(objective.losses(batch))
    (seen,) = looks.images
    torch.manual_seed(3)
    assert torch.equal(seen, turned(batch["image"], 30.0, True))
    assert torch.equal(seen, hears.heard["image"]) and not torch.equal(seen, batch["image"])


def test_the_answer_is_led_by_the_fusion():
    """The mean about which the chain begins is that of both branches, not of one."""
    recipe, objective, looks, _ = looking()
    told = []

    def knows(self, objective, image, mean):
        told.append(mean)
        return Knows(self.schedule(), 0 * mean)

    replaced = type("Exact", (DiffMIC,), {"denoiser": knows})(**vars(recipe))
    found = replaced.predict(objective, {**batch_of(), "seed": torch.arange(6)})
    want = looks.said[0].detach().softmax(0)
    assert torch.allclose(told[0], want.expand_as(told[0]))
    assert torch.allclose(found["probability"], want.expand(6, -1), atol=1e-5)
    assert torch.allclose(found["prior_probability"], want.expand(6, -1))


def test_the_paper_s_phases_weights_and_rates_reach_the_objective():
    """The classifier first, the discrepancies at one half, the classifier at a fifth of the rate."""
    recipe = DiffMIC(
        size=(32, 32), channels=1, classes=3, width=8, features=16, crop=16, patches=2,
        prior_blocks=(1, 1), blocks=(1, 1), timesteps=100, alone=1,
    )  # fmt: skip
    torch.manual_seed(0)
    objective = recipe.objective()
    assert objective.rates == {"prior": 0.2}
    objective.players["network"] = Hears()
    batch = batch_of((32, 32))
    turns = [[who for who, _ in objective.losses(batch)] for _ in range(2)]
    assert turns == [["prior"], ["network", "prior"]]
    guides = [torch.full((6, 3), 1 / 3)] * 3
    torch.manual_seed(5)
    loss = objective.noise_loss(batch["image"], torch.eye(3)[batch["label"]], guides)
    torch.manual_seed(5)
    z = torch.randn(6, 3)
    without = z.square().mean()
    assert float(loss - without) == pytest.approx(float(mmd(z, torch.zeros_like(z))), rel=1e-5)
    assert float(loss - without) > 0.05


def test_micro_batches_of_one_step_agree_on_the_stage():
    """Two generators in turn, as the loop runs them, at the step where the stage changes."""
    _, objective = made(alone=1)
    seen = []
    for _ in range(3):
        parts = [objective.losses(batch_of()) for _ in range(2)]
        while (who := [next(part, (None,))[0] for part in parts])[0] is not None:
            assert who[0] == who[1]
            seen.append(who[0])
        assert who == [None, None]
    assert seen == ["prior", *["network", "prior"] * 2]
    assert int(objective.players["prior"].seen) == 3, "steps are counted, not micro-batches"


@pytest.mark.parametrize(
    ("size", "channels"), [((16, 16), 1), ((16, 12), 3), ((12, 12, 12), 1), ((24,), 2)]
)
def test_conformance(size, channels):
    torch.manual_seed(0)
    check_recipe(DiffMIC, facts(size, channels), batch_of(size, channels), steps=6)


# ------------------------------------------------------------------------------- the two branches
def test_saliency_picks_the_bright_patch():
    """Two bright places on one map: the windows lie there, the higher one first, and differ."""
    saliency = torch.zeros(1, 2, 8, 8)
    saliency[0, 0, 1:3, 5:7] = 3.0
    saliency[0, 1, 1:3, 5:7] = 2.0
    saliency[0, 1, 6:8, 0:2] = 1.0  # less than half of the first place, unless that is emptied
    corners = salient_windows(saliency, (64, 64), 16, 3)
    assert corners[0, :2].tolist() == [[8, 40], [48, 0]]
    assert len({tuple(corner) for corner in corners[0].tolist()}) == 3


def test_a_flat_map_gives_distinct_windows_and_no_nan():
    corners = salient_windows(torch.ones(2, 3, 4, 4), (32, 32), 8, 6)
    assert all(len({tuple(c) for c in each.tolist()}) == 6 for each in corners)


@pytest.mark.parametrize("size", [(24,), (20, 24), (12, 16, 20)])
def test_crops_are_the_pixels_at_their_corners(size):
    image = torch.randn(2, 3, *size)
    corners = torch.tensor([[[1] * len(size), [4] * len(size)], [[0] * len(size), [8] * len(size)]])
    cut = crops(image, corners, 4)
    assert cut.shape == (2, 2, 3, *[4] * len(size))
    for row in range(2):
        for k in range(2):
            box = [slice(c, c + 4) for c in corners[row, k].tolist()]
            assert torch.equal(cut[row, k], image[(row, slice(None), *box)])


def test_each_class_counts_alike_where_patches_are_chosen():
    """A map of large values and one of small: each is scaled to [0, 1], the place high in both wins."""
    saliency = torch.zeros(1, 2, 4, 4)
    saliency[0, 0, 0, 0], saliency[0, 0, 3, 3] = 100.0, 60.0
    saliency[0, 1, 3, 3] = 0.1
    assert salient_windows(saliency, (32, 32), 8, 1)[0].tolist() == [[24, 24]]


def test_attention_to_patches_is_gated():
    """a_k ~ exp(w (tanh(V h_k) sigmoid(U h_k))), and the local logits read the mean it weighs."""
    torch.manual_seed(0)
    sizes = {"width": 8, "blocks": (1, 1), "bottleneck": False, "stem": 2, "crop": 8, "patches": 3}
    prior = DualPrior(2, 1, 2, **sizes)
    for layer in (prior.value, prior.gate, prior.weigh):
        nn.init.normal_(layer.weight)
    image = torch.randn(2, 1, 32, 32)
    look = prior(image)
    h = prior.local.pooled(crops(image, look.corners, 8).flatten(0, 1)).unflatten(0, (2, 3))
    score = prior.weigh(torch.tanh(prior.value(h)) * torch.sigmoid(prior.gate(h)))[..., 0]
    weight = score.softmax(1)
    assert torch.allclose(look.attention, weight, atol=1e-6)
    assert float((weight.amax() - weight.amin()).detach()) > 0.05
    assert torch.allclose(look.local, prior.leave((weight[..., None] * h).sum(1)), atol=1e-5)


def test_corners_never_leave_the_image():
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(50, 2, 3, 3, generator=draw)
    corners = salient_windows(maps, (21, 23), 9, 4)
    most = torch.tensor([21 - 9, 23 - 9])
    assert bool((corners >= 0).all()) and bool((corners <= most).all())


def test_fusion_is_the_mean_of_both_branches_and_attention_sums_to_one():
    torch.manual_seed(0)
    prior = DualPrior(2, 3, 4, width=8, blocks=(1, 1), bottleneck=True, stem=2, crop=8, patches=3)
    look = prior(torch.randn(5, 3, 32, 32))
    assert torch.allclose(look.fusion, (look.whole + look.local) / 2)
    assert torch.allclose(look.whole, look.saliency.flatten(2).mean(2), atol=1e-6)
    assert torch.allclose(look.attention.sum(1), torch.ones(5)) and look.attention.shape == (5, 3)
    assert look.saliency.shape == (5, 4, 8, 8)


def test_the_local_branch_sees_the_patches_alone():
    """Pixels outside the patches change the local logits only through where patches lie."""
    torch.manual_seed(0)
    prior = DualPrior(2, 1, 2, width=8, blocks=(1, 1), bottleneck=False, stem=2, crop=8, patches=2)
    image = torch.randn(1, 1, 32, 32)
    look = prior(image)
    other = torch.randn_like(image)
    for corner in look.corners[0].tolist():
        box = (0, slice(None), *(slice(c, c + 8) for c in corner))
        other[box] = image[box]
    prior.whole.forward = lambda x: prior.whole._wrapped(image)
    prior.whole._wrapped = type(prior.whole).forward.__get__(prior.whole)
    assert torch.allclose(prior(other).local, look.local, atol=1e-6)


@pytest.mark.parametrize("likely", [True, False])
def test_weighing_saliency_by_probability_finds_what_a_plain_sum_misses(likely):
    """A bright square is there or not. A softmax makes the two maps opposite: their sum is blind."""
    torch.manual_seed(0)
    sizes = {"width": 8, "blocks": (1, 1), "bottleneck": False, "stem": 2, "crop": 8, "patches": 2}
    prior = DualPrior(2, 1, 2, **sizes, likely=likely)
    optimiser = torch.optim.Adam(prior.parameters(), 5e-3)

    def squares(count):
        image, label = 0.1 * torch.randn(count, 1, 32, 32), torch.arange(count) % 2
        corner = torch.randint(0, 7, (count, 2)) * 4
        for k in range(count):
            r, c = corner[k].tolist()
            image[k, :, r : r + 6, c : c + 6] += 2.0 * label[k]
        return image, label, corner

    for _ in range(40):
        image, label, _ = squares(16)
        optimiser.zero_grad()
        nn.functional.cross_entropy(prior(image).fusion, label).backward()
        optimiser.step()
    image, label, corner = squares(64)
    look = prior(image)
    assert float((look.fusion.argmax(1) == label).float().mean()) > 0.9
    gap = (look.corners - corner[:, None]).abs().amax(2).amin(1)[label == 1]
    found = float((gap < 8).float().mean())
    assert found > 0.8 if likely else found < 0.5


def test_turning_keeps_the_middle_and_mirrors_half():
    torch.manual_seed(0)
    image = torch.zeros(200, 1, 9, 9)
    image[:, :, 4, 8] = 1.0
    assert torch.equal(turned(image, 0.0, False), image)
    mirrored = turned(image, 0.0, True)
    share = float(mirrored[:, 0, 4, 0].mean())
    assert 0.4 < share < 0.6 and float(mirrored[:, 0, 4, 8].mean()) == pytest.approx(1 - share)
    volume = torch.linspace(-1, 1, 5).reshape(1, 1, 5, 1, 1).expand(2, 1, 5, 6, 8)
    assert torch.allclose(turned(volume, 30.0, True), volume, atol=1e-5)  # in the last two axes
    rows = torch.linspace(-1, 1, 20)[:, None] * torch.ones(40)
    slope = turned(rows.expand(50, 1, 20, 40), 30.0, False)
    angle = (slope[:, 0, 10, 19] - slope[:, 0, 9, 19]) / (rows[10, 0] - rows[9, 0])
    assert float(angle.min()) > 0.85 and float(angle.max()) <= 1.001  # cos of up to 30 degrees


# ------------------------------------------------------------------------------------- prediction
def test_a_prediction_is_the_mean_of_what_chains_estimate_and_knows_its_spread(monkeypatch):
    recipe, objective = made(draws=4)
    early = torch.tensor([[0.7, 0.3, 0.0]]).repeat(4, 1)
    drawn = torch.tensor([[1.2, -0.2, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.2, 0.8, 0.0]])

    class Telling(Denoiser):
        schedule = recipe.schedule()

        def forward(self, y, t):
            return y

    def draw(self, denoiser, mean, noise):
        for estimate in (early, drawn):
            denoiser(estimate - mean, torch.tensor(0.5))
        return drawn

    monkeypatch.setattr(DiffMIC, "denoiser", lambda self, objective, image, mean: Telling())
    monkeypatch.setattr(DiffMIC, "draw", draw)
    batch = {"image": batch_of(cases=1)["image"], "seed": torch.tensor([3])}
    found = recipe.predict(objective, batch)
    assert torch.allclose(found["probability"], torch.tensor([[0.65, 0.35, 0.0]]))
    assert found["label"].tolist() == [0]
    assert float(found["spread"]) == pytest.approx(1 - 0.5**2 - 0.5**2), "two draws of each"
    assert torch.allclose(found["prior_probability"].sum(1), torch.ones(1))


def test_the_nearest_probabilities():
    y = torch.tensor([[0.2, 0.5, 0.3], [2.0, 0.5, -1.0], [-3.0, -3.0, -3.0], [0.8, 0.6, -0.4]])
    want = [[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.4, 0.0]]
    assert torch.allclose(on_simplex(y), torch.tensor(want), atol=1e-6)


def test_a_case_does_not_depend_on_its_batch():
    recipe, objective = made()
    batch = {**batch_of(), "seed": torch.arange(6)}
    every = recipe.predict(objective, batch)
    alone = recipe.predict(objective, {key: value[4:5] for key, value in batch.items()})
    for key, value in alone.items():
        assert torch.allclose(every[key][4:5].float(), value.float(), atol=1e-4), key
    again = recipe.predict(objective, {**batch, "seed": torch.arange(6) + 10})
    assert any(not torch.equal(every[key], again[key]) for key in ("probability", "spread"))


def test_the_chain_corrects_a_wrong_prior():
    """With the exact denoiser of each image's label the answer is right whatever mu says."""
    recipe, objective = made(draws=3)
    label = torch.tensor([2, 0, 1, 1, 2, 0])

    def knows(self, objective, image, mean):
        return Knows(self.schedule(), torch.eye(3)[label].repeat(self.draws, 1) - mean)

    replaced = type("Exact", (DiffMIC,), {"denoiser": knows})(**vars(recipe))
    found = replaced.predict(objective, {**batch_of(), "seed": torch.arange(6)})
    assert torch.equal(found["label"], label) and float(found["spread"].max()) < 1e-4


# ---------------------------------------------------------------------------------------- metrics
def test_calibration_error_by_hand():
    """Three answers of confidence 0.9, one of them wrong; one of 0.6, right."""
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    label = torch.tensor([0, 1, 1, 1])
    by_hand = 3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * abs(1 - 0.6)
    assert float(metrics.ece(p, label)) == pytest.approx(by_hand, abs=1e-6)


def test_rejection_by_hand():
    right = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 0, 1]).bool()
    doubt = torch.tensor([1, 2, 9, 3, 10, 8, 4, 5, 7, 6]).double()
    ones = torch.ones(1, 10).double()
    for referred, want in ((0.0, 0.6), (0.2, 6 / 8), (0.4, 1.0), (0.5, 1.0), (0.15, 6 / 8.5)):
        assert float(metrics.rejection(right, doubt, referred, ones)) == pytest.approx(want)
    same = metrics.rejection(right, torch.zeros(10), 0.3, ones)
    assert float(same) == pytest.approx(0.6), "equal doubt refers nobody rather than another"


def test_metrics_are_those_of_the_libraries_where_each_patient_has_one_image():
    draw = torch.Generator().manual_seed(0)
    p = (torch.randn(80, 3, generator=draw) * 1.5).softmax(1).double()
    p = (p * 20).round() / 20  # ties
    p = p / p.sum(1, keepdim=True)
    label = torch.randint(0, 3, (80,), generator=draw)
    patients = [f"p{k}" for k in range(80)]
    found, said = metrics.classification(p, label, patients), p.argmax(1)
    fine = (torch.randn(80, 3, generator=draw) * 1.5).softmax(1)  # none on the border of a bin
    own = float(metrics.ece(fine, label))
    assert own == pytest.approx(float(multiclass_calibration_error(fine, label, 3, 15)), abs=1e-6)
    area = roc_auc_score(label, p, multi_class="ovr", average="macro")
    want = {
        "accuracy": float((said == label).double().mean()),
        "balanced_accuracy": balanced_accuracy_score(label, said),
        "f1": f1_score(label, said, average="macro"),
        "auroc": area,
        "ece": float(metrics.ece(p, label)),
        "brier": float((p - torch.eye(3)[label]).square().sum(1).mean()),
    }
    assert {k: v["mean"] for k, v in found.items()} == pytest.approx(want, abs=1e-5)
    for metric in found.values():
        low, high = metric["ci95"]
        assert metric["n"] == 80 and low < high
        assert low - 0.05 < metric["mean"] < high + 0.05


def test_a_patient_counts_once_however_many_images():
    """Patient a has 9 images, all right; b and c have one, wrong."""
    p = torch.eye(2)[[0] * 9 + [1, 1]]
    label = torch.zeros(11, dtype=torch.int64)
    found = metrics.classification(p, label, ["a"] * 9 + ["b", "c"])
    assert found["accuracy"]["mean"] == pytest.approx(1 / 3) and found["accuracy"]["n"] == 3
    assert found["balanced_accuracy"]["mean"] == pytest.approx(1 / 3)
    assert found["ece"]["mean"] == pytest.approx(2 / 3)
    assert "refused" in found["auroc"], "there is one class only"
    curve = metrics.rejection_curve(label == p.argmax(1), torch.arange(11), ["a"] * 9 + ["b", "c"])
    assert curve[0]["mean"] == pytest.approx(1 / 3)
    assert curve[-1]["mean"] == pytest.approx(1 / 1.5)


# ------------------------------------------------------------------------------- the command line
TINY = ("--preset", "tiny", "--train.steps", "4", "--train.batch", "6")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """36 colour pictures of 16 x 16 in three classes told apart by where they are bright."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 80, (36, 16, 16, 3), dtype=np.uint8)
    label = np.arange(36) % 3
    for k, one in enumerate(label):
        image[k, 5 * one : 5 * one + 5, 4:12] += 120
    path = tmp_path_factory.mktemp("data") / "bands.npz"
    np.savez(
        path,
        image=image,
        label=label,
        patient=np.array([f"p{k // 2}" for k in range(36)]),
        split=np.array(["train"] * 18 + ["val"] * 6 + ["test"] * 12),
    )
    return path


def test_train_predict_evaluate_report(data, tmp_path, capsys):
    run = tmp_path / "run"
    assert cli.main(["train", "diffmic", "--data", str(data), "--out", str(run), *TINY]) == 0
    stored = {k: v for k, v in np.load(data).items() if k not in ("label", "split")}
    np.savez(tmp_path / "new.npz", **stored)  # to predict takes no labels
    words = ["predict", str(run), "--data", str(tmp_path / "new.npz"), "--out", str(tmp_path / "p")]
    assert cli.main(words) == 0
    entries = json.loads((tmp_path / "p" / "predictions.json").read_text())["predictions"]
    assert len(entries) == 36 and not entries[0]["files"]
    values = entries[0]["values"]
    assert set(values) == {"probability", "label", "prior_probability", "spread"}
    assert sum(values["probability"]) == pytest.approx(1, abs=1e-4) and values["label"] in (0, 1, 2)
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--set", "draws=6"]) == 0
    told = capsys.readouterr().out
    assert "balanced_accuracy" in told and "prior" in told and "accuracy_20_referred" in told
    record = json.loads((run / "metrics.json").read_text())
    assert record["task"] == "classification" and record["settings"]["draws"] == 6
    assert set(record["baselines"]) == {"prior", "resnet"}
    assert record["baseline"] == record["baselines"]["resnet"]
    assert len(record["rejection"]["method"]["curve"]) == len(metrics.REFERRED)
    assert record["method"]["accuracy"]["n"] == 6, "of six patients with two images each"
    assert cli.main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Classification" in page and "Accuracy against cases referred" in page
    assert "saliency of the guiding classifier" in page


def changed(data, folder, **columns):
    stored = {k: v for k, v in {**np.load(data), **columns}.items() if v is not None}
    np.savez(folder / "changed.npz", **stored)
    return folder / "changed.npz"


def test_a_class_absent_from_training_is_one_clear_line(data, tmp_path, refused):
    label = np.load(data)["label"].copy()
    label[:18] %= 2
    other = changed(data, tmp_path, label=label)
    said = refused("train", "diffmic", "--data", other, "--out", tmp_path / "r", *TINY)
    assert "class 2 of 0 to 2 has no training case" in said


def test_data_without_labels_are_one_clear_line(data, tmp_path, refused):
    other = changed(data, tmp_path, label=None)
    said = refused("train", "diffmic", "--data", other, "--out", tmp_path / "r", *TINY)
    assert "reads the key 'label'" in said and "--map label=COLUMN" in said


def test_one_class_is_one_clear_line(data, tmp_path, refused):
    other = changed(data, tmp_path, label=np.zeros(36, dtype=np.int64))
    said = refused("train", "diffmic", "--data", other, "--out", tmp_path / "r", *TINY)
    assert "one class only" in said


def test_images_smaller_than_a_patch_are_one_clear_line(data, tmp_path, refused):
    words = ["train", "diffmic", "--data", data, "--out", tmp_path / "r", *TINY]
    assert "smaller than a patch (64)" in refused(*words, "--crop", "64")
    assert "room for 9 patches of 8" in refused(*words, "--crop", "8", "--patches", "10")


def test_labels_the_model_does_not_know(data, tmp_path, refused):
    run = tmp_path / "run"
    assert cli.main(["train", "diffmic", "--data", str(data), "--out", str(run), *TINY]) == 0
    label = np.load(data)["label"].copy()
    label[-1] = 3
    other = changed(data, tmp_path, label=label)
    assert "label 3, but the model knows" in refused("evaluate", run, "--data", other)
    small = changed(data, tmp_path, image=np.load(data)["image"][:, :8, :8])
    said = refused("predict", run, "--data", small, "--out", tmp_path / "p")
    assert "images are 3 x 8 x 8, and the model was trained on 3 x 16 x 16" in said


def test_labels_out_of_range_in_a_batch_are_refused():
    _, objective = made()
    with pytest.raises(UserError, match="labels run from 0 to 2"):
        next(objective.losses({**batch_of(), "label": torch.tensor([0, 1, 2, 3, 0, 1])}))
    with pytest.raises(UserError, match="no key 'label'"):
        next(objective.losses({"image": batch_of()["image"]}))


def test_evaluation_without_labels_is_refused(data):
    from radiffuse.data.dataset import open_cases

    recipe, objective = made()
    cases = open_cases(data)
    bare = dataclasses.replace(cases, columns={"image": cases.columns["image"]})
    with pytest.raises(UserError, match="no label to compare with"):
        evaluate_classification(recipe, objective, bare, bare, Asked())
