"""Encode, guide, decode: exact mirrors, exact guidance, and the networks that lead."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from radiffuse import papers
from radiffuse.applications.anomaly.counterfactual import Normalised, ladder, walk
from radiffuse.applications.anomaly.swiss_army import lesion_size
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.denoiser import Denoiser, noise_of
from radiffuse.diffusion.guidance import Clipped, Guided, Steered, log_class, log_mask, log_value
from radiffuse.diffusion.kernels import diffuse
from radiffuse.diffusion.network import Network
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UserError
from radiffuse.metrics.fidelity import psnr
from radiffuse.nn.blocks import Attention
from radiffuse.testing import Counted, GaussianDenoiser, check_recipe
from radiffuse.training.objective import Reader

LINEAR = Discrete.linear()
METHODS = ("diffusion-anomaly", "diff-scm", "swiss-army")
BRAINS = "brains:count=36,size=16,lesions=0.5,label=lesion"


@pytest.fixture(scope="module")
def cases():
    return open_cases(BRAINS, mapping={"image": "t2", "mask": "lesion"})


@pytest.fixture
def x():
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.4


# ---------------------------------------------------------------------------- the way up and down
@pytest.mark.parametrize("steps", [100, 200])
def test_without_guidance_the_image_comes_back(x, steps):
    """To the solver's error, which halves with the step (order 1); noising instead loses it."""
    denoiser = GaussianDenoiser(LINEAR, 0.5, 0.2)
    times = ladder(LINEAR, 0.5, steps)
    back = walk(denoiser, walk(denoiser, x, times), times.flip(0))
    finer = ladder(LINEAR, 0.5, 2 * steps)
    better = walk(denoiser, walk(denoiser, x, finer), finer.flip(0))
    assert psnr(back, x, 2).min() > 35
    assert float((better - x).norm() / (back - x).norm()) == pytest.approx(0.5, abs=0.08)
    torch.manual_seed(0)
    noised = walk(denoiser, diffuse(LINEAR, x, times[-1], torch.randn_like(x)), times.flip(0))
    assert (noised - x).abs().mean() > 5 * (back - x).abs().mean()


def test_the_two_walks_are_mirrors():
    """Every time is asked once on each walk but the last one of that walk; no noise is added."""
    times = ladder(LINEAR, 0.5, 500)
    assert len(times) == 500 and float(times[0]) == 0.001 and float(times[-1]) == 0.5
    assert torch.equal(ladder(LINEAR, 0.75, 75) * 1000, (ladder(LINEAR, 0.75, 75) * 1000).round())
    asked = []

    class Heard(GaussianDenoiser):
        def forward(self, x_t, t):
            asked.append(float(t))
            return super().forward(x_t, t)

    denoiser = Heard(LINEAR)
    short = ladder(LINEAR, 0.5, 5)
    first = walk(denoiser, walk(denoiser, torch.ones(1, 1, 2), short), short.flip(0))
    assert asked == [*short[:-1].tolist(), *short.flip(0)[:-1].tolist()]
    assert torch.equal(
        first, walk(denoiser, walk(denoiser, torch.ones(1, 1, 2), short), short.flip(0))
    )


def test_encoding_reaches_the_gaussian(x):
    """Of Gaussian data the deep latent is the standardised image: a flow keeps ranks and scores."""
    denoiser = GaussianDenoiser(LINEAR, 0.4, 0.3)
    times = ladder(LINEAR, 0.999, 999)
    latent = walk(denoiser, x.double(), times)
    assert torch.allclose(latent, (x.double() - 0.4) / 0.3, atol=0.02)


# -------------------------------------------------------------------------------------- guidance
def two_classes(x_t, t):
    """Exact logits of two Gaussian classes, means 0 and 1 in every voxel, deviation 0.2."""
    alpha, sigma = LINEAR(t, x_t)
    variance = (alpha**2 * 0.04 + sigma**2).expand_as(x_t).flatten(1)
    gaps = [(x_t - alpha * mean).flatten(1).square() / variance for mean in (0.0, 1.0)]
    return torch.stack([-0.5 * gap.sum(1) for gap in gaps], 1)


class TwoClasses(Denoiser):
    """The exact denoiser of the two classes together."""

    def __init__(self):
        super().__init__()
        self.schedule = LINEAR
        self.parts = [GaussianDenoiser(LINEAR, mean, 0.2) for mean in (0.0, 1.0)]

    def forward(self, x_t, t):
        shares = two_classes(x_t, t).softmax(1)
        shape = (-1, *[1] * (x_t.ndim - 1))
        return sum(shares[:, k].reshape(shape) * part(x_t, t) for k, part in enumerate(self.parts))


def test_the_exact_classifier_turns_the_mixture_into_its_class():
    """Bayes: at factor 1, E[x_0 | x_t] + sigma^2/alpha grad log p(y | x_t) = E[x_0 | x_t, y]."""
    x_t = torch.rand(5, 1, 3, dtype=torch.float64)
    label = torch.tensor([0, 1, 0, 1, 1])
    for t in (0.05, 0.3, 0.7):
        time = torch.tensor(t)
        led = Steered(TwoClasses(), log_class(two_classes, label), 1.0)(x_t, time)
        both = torch.stack([GaussianDenoiser(LINEAR, m, 0.2)(x_t, time) for m in (0.0, 1.0)])
        exact = both[label, torch.arange(5)]
        assert torch.allclose(led, exact, atol=1e-8)


def test_guidance_moves_the_noise_by_its_gradient():
    """eps' = eps - s sqrt(1 - abar) grad log p (Wolleb et al. 2022)."""
    x_t, time = torch.rand(3, 1, 4, dtype=torch.float64), torch.tensor(0.4)
    weights = torch.rand(4, dtype=torch.float64)
    plain = GaussianDenoiser(LINEAR)
    led = Steered(plain, lambda x, t: (x[:, 0] * weights).sum(1), 7.0)
    shift = noise_of(led, x_t, time) - noise_of(plain, x_t, time)
    assert torch.allclose(shift, -7.0 * LINEAR.sigma(time) * weights.expand_as(shift), atol=1e-10)


def test_guided_decoding_leads_to_the_class_and_null_guidance_does_not():
    """A case of class 1 becomes class 0, more with more guidance; with no label it stays."""
    denoiser = TwoClasses()
    torch.manual_seed(0)
    x = 1 + 0.2 * torch.randn(6, 1, 3, dtype=torch.float64)
    times = ladder(LINEAR, 0.6, 60)
    latent = walk(denoiser, x, times)
    label = torch.zeros(6, dtype=torch.int64)

    def mean(weight):
        led = Steered(denoiser, log_class(two_classes, label), weight) if weight else denoiser
        return float(walk(led, latent, times.flip(0)).mean())

    assert abs(mean(0.0) - 1) < 0.1
    assert mean(1.0) < 0.35 and mean(3.0) < mean(1.0)


def test_classifier_free_guidance_is_monotone():
    healthy, null = GaussianDenoiser(LINEAR, 0.0, 0.2), GaussianDenoiser(LINEAR, 0.5, 0.4)
    x = torch.full((1, 1, 4), 0.8, dtype=torch.float64)
    times = ladder(LINEAR, 0.75, 75)
    latent = walk(null, x, times)
    results = [
        float(walk(Guided(healthy, null, w), latent, times.flip(0)).mean()) for w in (0, 1, 2, 3)
    ]
    assert abs(results[0] - 0.8) < 0.02
    assert results[0] > results[1] > results[2] > results[3]


class Flat(nn.Module):
    """A small smooth reader: weights times the image, as logits, a value or a mask."""

    def __init__(self, out, everywhere=False):
        super().__init__()
        torch.manual_seed(3)
        self.everywhere = everywhere
        self.layer = nn.Linear(1 if everywhere else 16, out)

    def forward(self, x, clock):
        if self.everywhere:
            return self.layer(x.movedim(1, -1)).movedim(-1, 1)
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("kind", ["class", "value", "mask"])
def test_one_guided_step_lowers_the_loss_on_the_estimate(kind):
    """The sign of every guide (Swiss Army Knife): the task's loss at x_0 falls."""
    network = Network(nn.Identity(), LINEAR, None)

    def times(count):
        return torch.full((count,), 0.5)

    x_t, t = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)
    if kind == "class":
        read = Reader("r", Flat(3), network, times, F.cross_entropy)
        label = torch.tensor([0, 1, 2, 0])
        target = log_class(read, label)

        def loss(x):
            return F.cross_entropy(read(x, t), label, reduction="none")
    elif kind == "value":
        read = Reader("r", Flat(1), network, times, F.mse_loss)
        value = torch.tensor([1.0, -1.0, 0.5, 2.0])
        target = log_value(read, value)

        def loss(x):
            return (read(x, t)[:, 0] - value) ** 2
    else:
        read = Reader("r", Flat(2, everywhere=True), network, times, F.cross_entropy)
        mask = (x_t > 0.3).long().roll(1, 2)
        target = log_mask(read, mask)

        def loss(x):
            return F.cross_entropy(read(x, t), mask[:, 0], reduction="none").flatten(1).sum(1)

    plain = GaussianDenoiser(LINEAR)
    led = Steered(plain, target, 0.02)
    assert (loss(led(x_t, t)) < loss(plain(x_t, t))).all()


def test_log_mask_is_the_sum_over_voxels():
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.randint(3, (2, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    found = log_mask(lambda x, t: logits, mask)(logits, torch.tensor(0.1))
    exact = torch.log_softmax(logits, 1).gather(1, mask).flatten(1).sum(1)
    assert torch.allclose(found, exact, atol=1e-5)


# ------------------------------------------------------------------------- dynamic normalisation
def test_dynamic_normalisation_scales_and_never_enlarges():
    class Says(Denoiser):
        schedule = LINEAR

        def forward(self, x_t, t):
            return x_t

    bulk = torch.linspace(-1, 1, 1000).reshape(1, 1, 1000)
    rare = bulk.clone()
    rare[0, 0, 100:105] = 5.0
    t = torch.tensor(0.5)
    out = Normalised(Says(), 0.99)(rare, t)
    others = torch.ones(1000, dtype=torch.bool)
    others[100:105] = False
    assert torch.allclose(out[0, 0, others], bulk[0, 0, others], atol=0.02)
    assert out.abs().max() <= 1
    assert torch.allclose(Normalised(Says(), 1.0)(2 * bulk, t), bulk, atol=1e-6), "halved, not cut"
    assert torch.equal(Normalised(Says(), 0.99)(0.5 * bulk, t), 0.5 * bulk), "never enlarged"
    two = torch.cat([bulk, 2 * bulk], 1)
    each = Normalised(Says(), 1.0)(two, t)
    assert torch.allclose(each[:, :1], each[:, 1:], atol=1e-6), "each channel by itself"


# ----------------------------------------------------------------------------------- the recipes
@pytest.mark.parametrize("method", METHODS)
def test_conformance_3d(method):
    volumes = open_cases(
        "brains3d:count=4,size=9,lesions=0.5,label=lesion",
        mapping={"image": "t2", "mask": "lesion"},
    )
    tiny = papers.by_id(method).load()
    check_recipe(tiny, volumes.facts(), volumes.batch(range(3)), steps=4)


def trained(method, cases, steps=60):
    """A tiny model after a few seconds, and the images it has seen."""
    recipe = dataclasses.replace(papers.by_id(method).load().tiny(), classes=2).fitted(
        cases.facts()
    )
    torch.manual_seed(0)
    objective = recipe.objective()
    batch = cases.batch(range(6))
    optimisers = {
        name: torch.optim.Adam(player.parameters(), 4e-3)
        for name, player in objective.players.items()
    }
    for _ in range(steps):
        for name, loss in objective.losses(batch):
            optimisers[name].zero_grad()
            loss.backward()
            optimisers[name].step()
    for player in objective.players.values():
        player.eval()
    return recipe, objective, batch


@pytest.mark.parametrize("method", ["swiss-army", "diff-scm"])
def test_a_trained_model_gives_the_image_back_unless_guided(method, cases):
    recipe, objective, batch = trained(method, cases)
    before = {
        name: value.clone() for name, value in objective.players["network"].state_dict().items()
    }
    plain = dataclasses.replace(recipe, guidance=0.0, steps=100)
    back = plain.predict(objective, batch)["healthy"]
    assert psnr(back, batch["image"], 2).min() > 35
    weight = {"diff-scm": 3.0}.get(method, 300.0)
    led = dataclasses.replace(recipe, guidance=weight, steps=10).predict(objective, batch)
    assert (led["healthy"] - batch["image"]).abs().max() > 5 * (back - batch["image"]).abs().mean()
    after = objective.players["network"].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_label_reaches_the_attention_by_itself(cases):
    """With the added embedding at zero, the estimate still depends on the label."""
    recipe = papers.by_id("diff-scm").load().tiny().fitted(cases.facts())
    torch.manual_seed(0)
    objective = recipe.objective()
    backbone = objective.players["network"]
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.1)
    for parameter in [*backbone.label.parameters(), *backbone.mix.parameters()]:
        nn.init.normal_(parameter)
    nn.init.zeros_(backbone.unet.conditioning.label.weight)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([0.4, 0.4])
    one, other, null = (
        objective.network.given(x, t, label=torch.full((2,), label)) for label in (0, 1, 2)
    )
    assert (one - other).abs().max() > 1e-4
    assert torch.equal(null, objective.network.given(x, t)), "no label is the null label"


def test_no_label_is_a_zero_that_no_training_moves(cases):
    """The embedding of "no label" is 0 (padding) before and after a step; the tokens are e e^T."""
    recipe = papers.by_id("diff-scm").load().tiny().fitted(cases.facts())
    objective = recipe.objective()
    backbone = objective.players["network"]
    heard = []
    backbone.unet.register_forward_hook(
        lambda module, given, told, out: heard.append(told["context"]), with_kwargs=True
    )
    torch.manual_seed(0)
    ((_, loss),) = objective.losses(cases.batch(range(12)))
    loss.backward()
    with torch.no_grad():
        backbone.label.weight -= 0.01 * backbone.label.weight.grad
    assert (backbone.label.weight[2] == 0).all() and (backbone.label.weight[:2] != 0).all()
    x, t = torch.zeros(1, 1, 16, 16), torch.tensor([0.4])
    objective.network.given(x, t, label=torch.tensor([1]))
    e = backbone.mix(backbone.label(torch.tensor([1])))
    assert torch.equal(heard[-1], e[:, :, None] * e[:, None, :]) and heard[-1].shape == (1, 16, 16)


def test_the_label_is_added_to_the_time_as_well(cases):
    """With no token heard by any attention, the estimate still depends on the label."""
    recipe = papers.by_id("diff-scm").load().tiny().fitted(cases.facts())
    torch.manual_seed(0)
    objective = recipe.objective()
    backbone = objective.players["network"]
    for name, parameter in backbone.named_parameters():
        nn.init.normal_(parameter, std=0.0 if ".told." in name else 0.1)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([0.4, 0.4])
    one, other = (objective.network.given(x, t, label=torch.full((2,), label)) for label in (0, 1))
    assert (one - other).abs().max() > 1e-4


def test_tokens_are_further_keys_and_values():
    """Voxels attend to themselves and to the tokens under one softmax (GLIDE)."""
    torch.manual_seed(0)
    attention = Attention(1, 8, context=3)
    nn.init.normal_(attention.out.weight)
    x, context = torch.randn(2, 8, 5), torch.randn(2, 4, 3)
    q, k, v = attention.qkv(attention.norm(x)).movedim(1, 2).chunk(3, 2)
    told_k, told_v = attention.told(context).chunk(2, 2)
    keys, values = torch.cat([k, told_k], 1), torch.cat([v, told_v], 1)
    mixed = torch.softmax(q @ keys.mT / 8**0.5, 2) @ values
    assert torch.allclose(attention(x, context), x + attention.out(mixed.movedim(1, 2)), atol=1e-5)


def test_what_is_told_the_label_learns_from_both_classes(cases):
    """Sick cases are not left out, and a mask decides what a case is, whatever its label says."""
    batch = cases.batch(range(len(cases)))
    sick = batch["mask"].flatten(1).any(1)
    assert 0 < int(sick.sum()) < len(sick)
    for method in METHODS:
        recipe = papers.by_id(method).load().tiny().fitted(cases.facts())
        assert recipe.suitable(batch).all()
    scm = dataclasses.replace(papers.by_id("diff-scm").load().tiny(), label_drop=0.0)
    objective = scm.fitted(cases.facts()).objective()
    told = objective.condition({**batch, "label": 0 * batch["label"]})["label"]
    assert torch.equal(told > 0, sick)


def test_otsu_splits_the_map_of_each_image():
    """By default: the mask of an image is what stands out of its own map, however faint."""
    recipe = papers.by_id("diffusion-anomaly").load()(channels=1, size=(8, 8), classes=2)
    image = torch.zeros(2, 1, 8, 8)
    image[:, :, 2:5, 2:5] = torch.tensor([0.9, 0.1])[:, None, None, None]
    known = type("Known", (type(recipe),), {"counterpart": lambda self, o, b: 0 * b["image"]})
    found = known(**vars(recipe)).predict(
        SimpleNamespace(players={"network": nn.Identity()}), {"image": image}
    )
    assert found["mask"].flatten(1).sum(1).tolist() == [9, 9]
    assert bool(found["mask"][:, :, 2:5, 2:5].all())


class Fallible(nn.Module):
    """A network told a label, which errs: estimates beyond [-1, 1], a few of them far beyond."""

    schedule = LINEAR

    def __init__(self):
        super().__init__()
        self.told = []

    def bound(self, **condition):
        return condition

    def given(self, x_t, t, label):
        self.told.append((float(t), label.tolist()))
        wave = 1.4 * torch.sin(2 * x_t + torch.arange(x_t.shape[-1]) / 3 + label[:, None, None])
        return torch.where(wave > 1.35, 5.0, wave)


def scaled(x_0, quantile):
    """Dynamic normalisation, then the clamp, as the authors' code has them."""
    top = torch.quantile(x_0.abs().flatten(2), quantile, dim=2).clamp_min(1)[..., None]
    return (torch.clamp(x_0, -top, top) / top).clamp(-1, 1)


def test_diff_scm_walks_as_its_paper_says():
    """Abduction without a label, then action and prediction, against the algorithm written out in the noise."""
    recipe = papers.by_id("diff-scm").load()(channels=2, size=(40,), classes=2, data_std=0.5)
    recipe = dataclasses.replace(recipe, depth=0.75, steps=15, healthy=0)
    network = Fallible()
    objective = SimpleNamespace(network=network, players={"network": network})
    image = torch.rand(3, 2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = 2 * image - 1
    made = recipe.counterpart(objective, {"image": image})
    healthy, none = torch.zeros(3, dtype=torch.int64), torch.full((3,), 2)
    heard = list(network.told)
    times = ladder(LINEAR, 0.75, 15)
    abar = LINEAR.alpha(times) ** 2

    def step(x, here, there, eps):
        x_0 = scaled((x - (1 - here).sqrt() * eps) / here.sqrt(), recipe.quantile)
        eps = (x / here.sqrt() - x_0) / (1 / here - 1).sqrt()
        return there.sqrt() * x_0 + (1 - there).sqrt() * eps

    def noise(x, t, here, label):
        return (x - here.sqrt() * network.given(x, t, label)) / (1 - here).sqrt()

    x = image
    for i in range(14):
        x = step(x, abar[i], abar[i + 1], noise(x, times[i], abar[i], none))
    for i in range(14, 0, -1):
        blind = noise(x, times[i], abar[i], none)
        eps = blind + 3.0 * (noise(x, times[i], abar[i], healthy) - blind)
        x = step(x, abar[i], abar[i - 1], eps)
    assert torch.allclose(made, x, atol=1e-8)
    assert {tuple(label) for _, label in heard[:14]} == {(2, 2, 2)}, "no label on the way up"
    assert sorted({tuple(label) for _, label in heard[14:]}) == [(0, 0, 0), (2, 2, 2)]


def test_maps_of_several_channels():
    """Diff-SCM takes their mean, the methods of Wolleb et al. their sum."""
    image, healthy = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 0.0, -0.5], [0.5, 0.0, 0.5]]])
    for method, share in (("diff-scm", 0.5), ("diffusion-anomaly", 1.0), ("swiss-army", 1.0)):
        found = papers.by_id(method).load()().residual(image, healthy)
        assert torch.equal(found, share * torch.tensor([[[1.5, 0.0, 1.0]]])), method


def test_labels_are_dropped_in_diff_scm_at_its_rate(cases):
    recipe = (
        papers.by_id("diff-scm")
        .load()()
        .fitted(dataclasses.replace(cases.facts(), size={"image": (64, 64)}))
    )
    assert recipe.label_drop == 0.35 and (recipe.depth, recipe.steps) == (0.75, 75)
    tiny = papers.by_id("diff-scm").load().tiny().fitted(cases.facts())
    objective = tiny.objective()
    torch.manual_seed(0)
    batch = {"image": torch.zeros(4000, 1, 1), "label": torch.zeros(4000, dtype=torch.int64)}
    dropped = (objective.condition(batch)["label"] == 2).double().mean()
    assert float(dropped) == pytest.approx(0.35, abs=0.03)


def test_the_diffusion_of_the_swiss_army_knife_is_told_nothing(cases):
    recipe = papers.by_id("swiss-army").load().tiny().fitted(cases.facts())
    objective = recipe.objective()
    assert set(objective.players) == {"network", "classifier", "regression", "segmentation"}
    assert objective.players["network"].classes == 0
    names = [name for name, _ in objective.losses(cases.batch(range(4)))]
    assert names == ["network", "classifier", "regression", "segmentation"]


@pytest.mark.parametrize("guide", ["class", "regression", "segmentation"])
def test_one_diffusion_serves_every_guide(guide, cases):
    recipe = papers.by_id("swiss-army").load().tiny().fitted(cases.facts())
    torch.manual_seed(0)
    objective = recipe.objective()
    for player in objective.players.values():
        for parameter in player.parameters():
            nn.init.normal_(parameter, std=0.05)
    asked = {"image": cases.batch(range(2))["image"]}
    targets = {
        "class": torch.tensor([1, 1]),
        "regression": torch.tensor([0.5, 0.5]),
        "segmentation": torch.ones(2, 1, 16, 16, dtype=torch.int64),
    }
    led = dataclasses.replace(recipe, guide=guide)
    healthy = led.predict(objective, asked)["healthy"]
    other = led.predict(objective, {**asked, "target": targets[guide]})["healthy"]
    assert not torch.allclose(healthy, other, atol=1e-4), "the target must matter"


def test_the_size_of_a_lesion_is_that_of_a_square_or_cube():
    mask = torch.zeros(1, 1, 10, 10, dtype=torch.int64)
    mask[..., :5, :5] = 1
    assert float(lesion_size({"mask": mask})) == pytest.approx(0.5)
    cube = torch.zeros(1, 1, 8, 8, 8, dtype=torch.int64)
    cube[..., :2, :2, :2] = 1
    assert float(lesion_size({"mask": cube})) == pytest.approx(0.25)
    assert float(lesion_size({"value": torch.tensor([3]), "mask": mask})) == 3


def test_presets_are_the_papers():
    wolleb = papers.by_id("diffusion-anomaly").load()()
    assert (wolleb.depth, wolleb.steps, wolleb.guidance) == (0.618, 618, 100.0)
    assert (wolleb.timesteps, wolleb.betas, wolleb.threshold) == (1000, "linear", "otsu")
    assert len(ladder(wolleb.schedule(), wolleb.depth, wolleb.steps)) == 618
    assert papers.by_id("diff-scm").load()().guidance == 3.0


# --------------------------------------------------------------------------------------- refusals
def test_a_guide_without_its_data_is_refused(cases):
    facts = dataclasses.replace(cases.facts(), mask_classes={}, keys=("image", "label"))
    with pytest.raises(UserError, match="--guide segmentation needs the key mask"):
        dataclasses.replace(papers.by_id("swiss-army").load().tiny(), guide="segmentation").fitted(
            facts
        )


@pytest.mark.parametrize("method", ["diffusion-anomaly", "swiss-army"])
def test_nothing_guides_where_it_was_not_trained(method, cases):
    recipe = dataclasses.replace(papers.by_id(method).load().tiny(), read=0.5, depth=0.4)
    recipe = recipe.fitted(cases.facts())
    objective = recipe.objective()
    torch.manual_seed(0)
    for reader in objective.readers.values():
        t = reader.times(4000)
        assert t.min() > 0 and 0.49 < t.max() <= 0.5
    assert objective.denoising.times(4000).max() > 0.99, "the diffusion is trained on all of it"
    deeper = dataclasses.replace(recipe, depth=0.6)
    with pytest.raises(UserError, match=r"depth 0\.6 lies beyond read 0\.5"):
        deeper.predict(objective, cases.batch([0]))


def test_one_class_alone_teaches_nothing(cases):
    facts = dataclasses.replace(cases.facts(), mask_classes={}, classes=1)
    with pytest.raises(UserError, match="healthy and other cases"):
        papers.by_id("diffusion-anomaly").load().tiny().fitted(facts)


def test_masks_of_another_size_are_refused(cases):
    recipe = papers.by_id("swiss-army").load().tiny().fitted(cases.facts())
    batch = cases.batch(range(2))
    batch["mask"] = batch["mask"][..., :8]
    with pytest.raises(UserError, match="masks are 16 x 8 and images 16 x 16"):
        list(recipe.objective().losses(batch))


def test_clipped_after_normalised_counts_one_call():
    counted = Counted(GaussianDenoiser(LINEAR))
    Clipped(Normalised(counted))(torch.zeros(1, 1, 4), torch.tensor(0.5))
    assert counted.calls == 1


def test_diffusion_anomaly_is_the_swiss_army_knife_led_by_the_class(cases):
    """The same fields, weights and image: the same counterpart, bit for bit."""
    facts = dataclasses.replace(cases.facts(), mask_classes={}, classes=2)
    wolleb = papers.by_id("diffusion-anomaly").load().tiny().fitted(facts)
    wolleb = dataclasses.replace(wolleb, guidance=3.0)
    shared = {field.name for field in dataclasses.fields(wolleb)} - {"classifier_width"}
    knife = papers.by_id("swiss-army").load()(
        **{name: getattr(wolleb, name) for name in shared}, head_width=wolleb.classifier_width
    )
    batch = {"image": cases.batch(range(3))["image"], "seed": torch.arange(3)}
    made = []
    for recipe in (wolleb, knife):
        torch.manual_seed(0)
        objective = recipe.objective()
        for player in objective.players.values():
            for parameter in player.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
        made.append(recipe.predict(objective, batch))
    assert set(objective.players) == {"network", "classifier"}
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])
    blind = dataclasses.replace(knife, guidance=0.0).predict(objective, batch)
    assert not torch.equal(made[0]["healthy"], blind["healthy"]), "the class leads"
