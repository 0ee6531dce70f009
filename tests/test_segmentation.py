"""Segmentation ensembles: draws of the label map, their fusion, and what is measured of them."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.losses import soft_dice_loss
from radiffuse.applications.segmentation.evaluate import answers_of, draw
from radiffuse.applications.segmentation.fusion import staple, vote
from radiffuse.applications.segmentation.overlaps import measure
from radiffuse.applications.segmentation.segmentation_ensembles import SegmentationEnsembles
from radiffuse.applications.segmentation.segmenter import Segmenter
from radiffuse.applications.supervised import direct_unet
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.kernels import posterior
from radiffuse.diffusion.label_maps import distribution, encode, likeliest, probabilities
from radiffuse.errors import UserError
from radiffuse.metrics.segmentation import (
    doubt_of,
    errors_in_doubtful_tenth,
    generalised_energy,
    voxel_ece,
)
from radiffuse.metrics.surface import hausdorff, surface_dice
from radiffuse.testing import check_recipe
from radiffuse.training.objective import Hybrid
from training_standins import steps_apart

SIDE = 16


def discs(count, seed=0, side=SIDE):
    """Noisy images of a ring around a disc, and their labels: 1 the ring, 2 the disc."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images, masks = [], []
    for _ in range(count):
        cy, cx = draw.uniform(5, side - 5, 2)
        far = np.hypot(y - cy, x - cx)
        mask = np.where(far < 2.5, 2, np.where(far < 4.5, 1, 0))
        images.append(60 * mask + 60 + draw.normal(0, 8, mask.shape))
        masks.append(mask)
    return np.stack(images).clip(0, 255).astype(np.uint8), np.stack(masks).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "discs.npz"
    t1, mask = discs(28)
    np.savez(
        path,
        t1=t1,
        flair=255 - t1,
        mask=mask,
        patient=np.array([f"p{k // 2}" for k in range(28)]),
        split=np.array(["train"] * 18 + ["val"] * 4 + ["test"] * 6),
    )
    return path


def command(*words):
    assert cli.main([str(word) for word in words]) == 0


def opened(path, **more):
    return open_cases(path, mapping={"image": "t1", "mask": "mask", **more})


# ------------------------------------------------------------------------------ label maps as x_0
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("absent", [0.0, -1.0])
def test_a_label_map_goes_there_and_back(axes, absent):
    mask = torch.randint(0, 4, (2, 1, *[6] * axes), generator=torch.Generator().manual_seed(0))
    x = encode(mask, 3, absent)
    assert x.shape == (2, 3, *[6] * axes) and set(x.unique().tolist()) == {absent, 1.0}
    assert torch.equal(likeliest(probabilities(x, absent)), mask)
    assert torch.allclose(distribution(probabilities(x, absent)).sum(1), torch.ones(()))


def test_the_border_lies_halfway_between_the_two_values():
    """0.5 for masks of 0 and 1 (not 0), 0 for masks of -1 and 1."""
    x = torch.tensor([-0.1, 0.1, 0.4, 0.6]).reshape(1, 1, 4)
    assert likeliest(probabilities(x, 0.0)).flatten().tolist() == [0, 0, 0, 1]
    assert likeliest(probabilities(x, -1.0)).flatten().tolist() == [0, 1, 1, 1]


def test_the_likeliest_label_need_not_have_the_majority():
    foreground = torch.tensor([[0.45, 0.30], [0.2, 0.1]])[..., None]
    assert likeliest(foreground).flatten().tolist() == [1, 0]


# ------------------------------------------------------------------------------------- the method
class TwoModes(Denoiser):
    """Exact E[x_0 | x_t, image] where the mask is `image > 0.2` or `image > 0.6`, equally likely."""

    def __init__(self, like, absent, scale):
        super().__init__()
        self.schedule, self.predicts = like.schedule, like.predicts
        self.absent, self.scale = absent, scale
        self.told = []

    def forward(self, x_t, t):
        raise AssertionError("asked without the image")

    def bound(self, **condition):
        return condition

    def given(self, x_t, t, image):
        self.told.append(image)
        alpha, sigma = (v.double() for v in self.schedule(t, x_t))
        masks = [(image > level).long() for level in (0.2, 0.6)]
        modes = [self.scale * encode(mask, 1, self.absent).double() for mask in masks]
        logs = [-((x_t - alpha * m) ** 2 / (2 * sigma**2)).flatten(1).sum(1) for m in modes]
        weight = torch.softmax(torch.stack(logs, 1), 1)
        flat = weight[:, :1] * modes[0].flatten(1) + weight[:, 1:] * modes[1].flatten(1)
        return flat.reshape(x_t.shape).to(x_t)

    def with_variance(self, x_t, t, image):
        return self.given(x_t, t, image), torch.full_like(x_t, 0.5)


def two_modes(recipe, count):
    """An image of three grey levels, `count` times, and an objective that knows its two masks."""
    image = torch.full((1, 1, 8, 8), -1.0)
    image[..., 1:7, 1:7], image[..., 3:5, 3:5] = 0.4, 0.8
    exact = SimpleNamespace(
        network=TwoModes(recipe.network(), recipe.absent, recipe.scale), players={}
    )
    return exact, image.expand(count, -1, -1, -1)


def fitted(recipe, side=8):
    return dataclasses.replace(
        recipe, channels=1, condition_channels=1, size=(side, side), data_std=1.0, width=8,
        multiples=(1,), attention=(), blocks=1,
    )  # fmt: skip


def two_hundred(preset):
    """Draws of the two masks by a preset's chain, and the image."""
    kind = SegmentationEnsembles
    recipe = fitted(kind.small() if preset == "small" else kind(timesteps=100, steps=100))
    exact, image = two_modes(recipe, 200)
    return recipe.predict(exact, {"image": image, "seed": torch.arange(200)}), image


@pytest.mark.parametrize("preset", ["paper", "small"])
def test_the_ensemble_is_the_mean_of_draws_of_both_modes(preset):
    made, image = two_hundred(preset)
    ring, inner, outer = image[0] == 0.4, image[0] == 0.8, image[0] == -1
    masks = made["mask"].float()
    wide = masks[:, ring].mean(1)
    assert bool(((wide == 0) | (wide == 1)).all()), "a draw is one mode, not a mixture"
    assert float(wide.mean()) == pytest.approx(0.5, abs=0.1)
    mean, variance = made["probability"].mean(0), made["probability"].var(0, correction=0)
    assert float(mean[ring].mean()) == pytest.approx(0.5, abs=0.1)
    assert float(variance[ring].mean()) == pytest.approx(0.25, abs=0.02)
    assert bool((mean[inner] > 0.98).all()) and bool((mean[outer] < 0.02).all())
    assert float(variance[inner | outer].max()) < 1e-3
    references = torch.stack([(image[:1] > level).long() for level in (0.2, 0.6)])
    law = generalised_energy(made["mask"][:, None], references, 1)
    alone = generalised_energy(made["mask"][:1, None], references, 1)
    assert float(law) < 0.02 < 0.3 < float(alone)


def test_what_chains_expect_is_nearer_to_the_probability_than_their_ends():
    """Of two masks, equally likely: the same mean as that of the draws, and less variance."""
    made, image = two_hundred("small")
    ring = image[0] == 0.4
    ends, expected = (made[key][:, ring].mean(1) for key in ("probability", "expected"))
    assert float(expected.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(expected.std()) < 0.8 * float(ends.std())
    sure = made["expected"][:, image[0] != 0.4]
    assert float(sure.std(0).max()) < 0.01


def test_a_smaller_x_0_is_the_same_mask():
    mask = torch.randint(0, 2, (2, 1, 8, 8))
    batch = {"image": torch.rand(2, 1, 8, 8), "mask": mask}
    for scale in (1.0, 0.1):
        recipe = dataclasses.replace(fitted(SegmentationEnsembles.small()), scale=scale)
        x_0 = recipe.clean(batch)
        assert float(x_0.abs().max()) == pytest.approx(scale)
        assert torch.equal(recipe.answer(x_0)["mask"], mask)


def test_one_seed_makes_one_mask_and_the_image_stays_clean():
    recipe = fitted(SegmentationEnsembles.small())
    exact, image = two_modes(recipe, 6)
    made = recipe.predict(exact, {"image": image, "seed": torch.full((6,), 3)})
    assert float(made["probability"].var(0, correction=0).max()) == 0
    assert len(exact.network.told) >= recipe.steps
    assert all(torch.equal(told, image) for told in exact.network.told)


def test_only_the_mask_is_noised_and_only_it_is_answered(data):
    cases = opened(data, flair="flair")
    recipe = dataclasses.replace(SegmentationEnsembles.tiny(), also=("flair",))
    recipe = recipe.fitted(cases.facts())
    assert (recipe.channels, recipe.condition_channels) == (2, 2)
    batch = cases.batch(range(6))
    objective = recipe.objective()
    seen = []
    network = objective.players["network"]
    network.register_forward_hook(
        lambda module, given, told, out: seen.append((given[0].shape, told["image"], out.shape)),
        with_kwargs=True,
    )
    next(iter(objective.losses(batch)))
    recipe.predict(objective, {**batch, "seed": torch.arange(6)})
    clean = torch.cat([batch["image"], batch["flair"]], 1)
    assert len(seen) > 2
    assert all(torch.equal(told, clean) for _, told, _ in seen)
    assert {(x[1], out[1]) for x, _, out in seen} == {(2, 3)}, "two codes in, logits of three out"


def test_the_papers_chain_learns_its_variance_from_the_image_too(data):
    """epsilon and the bound, weighted 1 at T = 1000; the variance of a step depends on the image."""
    paper = SegmentationEnsembles()
    assert (paper.timesteps, paper.betas, paper.predicts, paper.absent) == (
        1000,
        "linear",
        "noise",
        0,
    )
    assert (paper.width, paper.multiples, paper.samples, paper.steps) == (
        128,
        (1, 1, 2, 2, 4, 4),
        5,
        1000,
    )
    assert pytest.approx(1.0) == paper.timesteps * Hybrid.vlb
    cases = opened(data)
    recipe = dataclasses.replace(
        paper, width=8, multiples=(1, 2), attention=(), timesteps=25, steps=25
    ).fitted(cases.facts())
    objective = recipe.objective()
    assert isinstance(objective, Hybrid)
    torch.manual_seed(0)
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = {**cases.batch(range(4)), "seed": torch.arange(4)}
    ((_, loss),) = objective.losses(batch)
    loss.backward()
    last = list(objective.players["network"].parameters())[-1].grad
    assert len(last) == 4 and bool((last != 0).all()), "two channels of noise, two of variance"
    x_t, t = torch.zeros(4, 2, SIDE, SIDE), torch.tensor(0.5)
    w = recipe.denoiser(objective, batch).with_variance(x_t, t)[1]
    assert float((w - w.roll(1, 0)).abs().max().detach()) > 1e-3
    assert recipe.predict(objective, batch)["mask"].shape == (4, 1, SIDE, SIDE)


class Sure(TwoModes):
    """The mask `image > 0.6`, overstated by half; `w` places the variance."""

    def __init__(self, like, w):
        super().__init__(like, 0.0, 1.0)
        self.w, self.heard = w, []

    def given(self, x_t, t, image):
        self.heard.append((float(t), x_t))
        return 1.5 * (image > 0.6).to(x_t)

    def with_variance(self, x_t, t, image):
        return self.given(x_t, t, image), torch.full_like(x_t, self.w)


@pytest.mark.parametrize("w", [0.0, 0.3, 1.0])
def test_the_papers_chain_draws_with_the_variance_its_network_learned(w):
    """exp(w log beta + (1 - w) log beta~) at each step; no variance of its own."""
    recipe = fitted(SegmentationEnsembles(timesteps=100, steps=2))
    network = Sure(recipe.network(), w)
    image = torch.zeros(64, 1, 8, 8)
    objective = SimpleNamespace(network=network, players={})
    recipe.predict(objective, {"image": image, "seed": torch.arange(64)})
    (high, x_high), (low, x_low) = network.heard
    _, variance, beta = posterior(
        recipe.schedule(), x_high, 0 * x_high, *map(torch.tensor, (high, low))
    )
    mean = posterior(recipe.schedule(), x_high, 0 * x_high, *map(torch.tensor, (high, low)))[0]
    want = beta.double() ** w * variance.double() ** (1 - w)
    assert (high, low) == (1.0, 0.5)
    assert float((x_low - mean).var()) == pytest.approx(float(want), rel=0.05)


def test_the_bound_moves_the_variance_alone(data):
    """The gradient of the noise's channels is that of the squared error, whatever the variance says."""
    cases = opened(data)
    recipe = dataclasses.replace(
        SegmentationEnsembles(), width=8, multiples=(1, 2), attention=(), timesteps=25
    ).fitted(cases.facts())
    objective, batch = recipe.objective(), cases.batch(range(4))
    objective.times = lambda count: torch.tensor([0.2, 0.4, 0.6, 0.8])
    output = torch.zeros(4, 4, SIDE, SIDE, requires_grad=True)

    class Says(torch.nn.Module):
        def forward(self, x, clock, image):
            return output

    objective.players["network"] = Says()
    torch.manual_seed(0)
    ((_, loss),) = objective.losses(batch)
    loss.backward()
    torch.manual_seed(0)
    z = torch.randn(4, 2, SIDE, SIDE)
    assert torch.allclose(output.grad[:, :2], -2 * z / z.numel(), atol=1e-7)
    assert float(output.grad[:, 2:].abs().min()) > 0


def test_an_overstated_mask_is_clipped_before_it_is_used():
    recipe = fitted(SegmentationEnsembles(timesteps=100, steps=2))
    network = Sure(recipe.network(), 0.0)
    image = torch.full((2, 1, 8, 8), 0.8)
    objective = SimpleNamespace(network=network, players={})
    estimate = recipe.denoiser(objective, {"image": image})(
        torch.zeros(2, 1, 8, 8), torch.tensor(0.5)
    )
    assert torch.equal(estimate, torch.ones_like(estimate))
    both = recipe.denoiser(objective, {"image": image}).with_variance(estimate, torch.tensor(0.5))
    assert torch.equal(both[0], torch.ones_like(estimate))


def test_conformance_of_two_and_three_axes(data):
    cases = opened(data)
    check_recipe(SegmentationEnsembles, cases.facts(), cases.batch(range(8)))
    volumes = open_cases("brains3d:count=4,size=15", mapping={"image": "t1", "mask": "tissue"})
    check_recipe(SegmentationEnsembles, volumes.facts(), volumes.batch(range(2)))
    assert SegmentationEnsembles.tiny().fitted(volumes.facts()).channels == 3


def test_a_trained_network_segments_the_image_it_is_told():
    images, masks = (torch.from_numpy(each)[:, None] for each in discs(64))
    image, mask = images.float() / 127.5 - 1, masks.long()
    recipe = dataclasses.replace(
        SegmentationEnsembles.tiny(), channels=2, condition_channels=1, size=(SIDE, SIDE),
        data_std=1.0,
    )  # fmt: skip
    torch.manual_seed(0)
    objective = recipe.objective()
    adam = torch.optim.Adam(objective.players["network"].parameters(), 4e-3)
    for step in range(120):
        rows = torch.randperm(48, generator=torch.Generator().manual_seed(step))[:16]
        torch.manual_seed(step)
        ((_, loss),) = objective.losses({"image": image[rows], "mask": mask[rows]})
        adam.zero_grad()
        loss.backward()
        adam.step()

    def found(told):
        with torch.no_grad():
            return recipe.predict(objective, {"image": told, "seed": torch.arange(16)})["mask"]

    def agreement(one, other):
        return float(2 * ((one > 0) & (other > 0)).sum() / ((one > 0).sum() + (other > 0).sum()))

    right, shuffled = found(image[48:]), found(image[48:].roll(1, 0))
    assert agreement(right, mask[48:]) > 0.85
    chance = agreement(mask[48:].roll(1, 0), mask[48:])
    assert agreement(shuffled, mask[48:]) < chance + 0.1 < 0.75
    assert agreement(shuffled, mask[48:].roll(1, 0)) > 0.85


@pytest.mark.parametrize("absent", [0.0, -1.0])
@pytest.mark.parametrize("t", [0.05, 0.4, 0.95])
def test_an_ignorant_network_gives_the_posterior_of_every_voxel_by_itself(t, absent):
    """Where the network says nothing, E[x_0] is Bayes' for labels that are equally likely."""
    recipe = dataclasses.replace(
        fitted(SegmentationEnsembles.small()), channels=2, absent=absent, scale=0.3, guess=0
    )
    network = recipe.network()
    network.backbone.forward = lambda x, clock, **told: torch.zeros(len(x), 3, *x.shape[2:])
    x_t = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    codes = 0.3 * torch.tensor([[absent, absent], [1, absent], [absent, 1]]).double()
    alpha, sigma = network.schedule(torch.tensor(t), x_t)
    far = x_t[:, None] - (alpha * codes[None, :, :, None, None])
    p = torch.softmax(-far.square().sum(2) / (2 * sigma**2), 1)
    expected = torch.einsum("blhw,lc->bchw", p, codes)
    assert torch.allclose(network.given(x_t, torch.tensor(t)), expected, atol=1e-6)


def test_logits_are_learned_by_cross_entropy():
    recipe = dataclasses.replace(fitted(SegmentationEnsembles.small()), channels=2, guess=0)
    network = recipe.network()
    draw = torch.Generator().manual_seed(0)
    out, x_t = (torch.randn(3, n, 8, 8, generator=draw) for n in (3, 2))
    mask, t = torch.randint(0, 3, (3, 1, 8, 8), generator=draw), torch.tensor([0.5, 0.8, 0.95])
    x_0 = recipe.clean({"image": torch.zeros(3, 1, 8, 8), "mask": mask})
    network.backbone.forward = lambda x, clock, **told: out
    p = distribution(probabilities(network.given(x_t, t) / recipe.scale, recipe.absent))
    right = -p.gather(1, mask).log().mean()
    assert float(network.cross_entropy(out, x_0, x_t, t)) == pytest.approx(float(right), rel=1e-4)


def guessing(data):
    recipe = dataclasses.replace(SegmentationEnsembles.tiny(), guess=8)
    return recipe.fitted(opened(data).facts())


def test_a_denoiser_with_a_guess_begins_as_its_guess(data):
    """At the highest noise an untrained network says what the guess says, at the lowest what x_t says."""
    recipe = guessing(data)
    objective = recipe.objective()
    batch = opened(data).batch(range(3))
    guess = objective.players["guess"]
    torch.nn.init.normal_(last_weight(guess))
    expected = guess(batch["image"]).detach().softmax(1)[:, 1:]
    assert float(expected.std()) > 0.01
    denoiser = recipe.denoiser(objective, batch)
    x_0 = recipe.clean(batch).float()
    noisy = denoiser(torch.randn_like(x_0), torch.tensor(1.0))
    assert torch.allclose(probabilities(noisy, recipe.absent), expected, atol=1e-2)
    schedule, late = denoiser.schedule, torch.tensor(0.01)
    alpha, _ = schedule(late, x_0)
    assert torch.allclose(denoiser(alpha * x_0, late), x_0, atol=1e-2)


def last_weight(network):
    """The weights of the layer that makes the output, which starts at zero."""
    zero = [p for p in network.parameters() if p.ndim > 2 and not bool(p.any())]
    return zero[-1]


def test_the_guess_learns_from_its_own_loss_and_the_network_from_its_own(data):
    recipe = guessing(data)
    objective = recipe.objective()
    assert set(objective.players) == {"network", "guess"}
    batch = opened(data).split("train").batch(range(8))
    losses = steps_apart(objective, batch, 40)
    assert losses[-1]["guess"] < 0.5 * losses[0]["guess"]


def test_a_guess_of_labels_needs_labels(data):
    recipe = dataclasses.replace(SegmentationEnsembles(), guess=8)
    with pytest.raises(UserError, match="--guess guesses labels"):
        recipe.fitted(opened(data).facts())


def test_labels_have_no_variance_to_learn(data):
    recipe = dataclasses.replace(SegmentationEnsembles.tiny(), learned_variance=True)
    with pytest.raises(UserError, match="no variance to learn"):
        recipe.fitted(opened(data).facts())


def test_noise_levels_follow_the_scale_of_x_0():
    """Half of the training lies above sigma / (alpha scale) = e^law_mean, whatever the scale."""
    for scale in (1.0, 0.1):
        recipe = dataclasses.replace(fitted(SegmentationEnsembles.small()), scale=scale)
        schedule = recipe.network().schedule
        t = recipe.times(schedule)(4000)
        noise = -schedule.log_ratio(t) - math.log(scale)
        assert float((noise > recipe.law_mean).double().mean()) == pytest.approx(0.5, abs=0.01)


# --------------------------------------------------------------------- windows of larger images
class Pixelwise(torch.nn.Module):
    """Logits of a voxel from itself and its image alone."""

    def __init__(self, labels):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(labels + 1, labels + 1))

    def forward(self, x, clock, image):
        told = torch.cat([x, image], 1)
        return torch.einsum("ij,bj...->bi...", self.weight, told)


@pytest.mark.parametrize(("size", "window"), [((40, 28), 16), ((12, 10, 20), 8), ((10, 12), 16)])
def test_windows_of_any_image_give_what_the_whole_would(size, window):
    """A network that sees one voxel at a time: nothing but the tiling could make a difference."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(
        SegmentationEnsembles.tiny(), channels=2, condition_channels=1, data_std=1.0,
        multiples=(1,), patch=1, size=(window,) * len(size), window=window,
    )  # fmt: skip
    objective = recipe.objective()
    objective.network.backbone = Pixelwise(2)
    batch = {"image": torch.randn(2, 1, *size), "seed": torch.arange(2)}
    made = recipe.predict(objective, batch)
    assert made["mask"].shape == (2, 1, *size)
    if min(size) >= window:
        whole = dataclasses.replace(recipe, window=0).predict(objective, batch)
        assert torch.allclose(made["probability"], whole["probability"], atol=1e-4)


def test_windows_are_learned_with_their_masks():
    recipe = dataclasses.replace(
        SegmentationEnsembles.tiny(), channels=1, condition_channels=1, data_std=1.0,
        size=(8, 8), window=8, crops=3,
    )  # fmt: skip
    objective = recipe.objective()
    image = torch.randn(2, 1, 30, 20)
    batch = {"image": image, "mask": (image > 0).long(), "label": torch.arange(2)}
    seen = []
    objective.players["network"].register_forward_hook(
        lambda module, given, told, out: seen.append((given[0].shape, told["image"])),
        with_kwargs=True,
    )
    torch.manual_seed(0)
    next(iter(objective.losses(batch)))
    assert seen[0][0] == (6, 1, 8, 8)
    torch.manual_seed(0)
    cut = recipe.cut(batch)
    assert torch.equal(cut["image"], seen[0][1])
    assert torch.equal(cut["mask"], (cut["image"] > 0).long()) and set(cut) == {"image", "mask"}


def test_training_on_windows_by_the_command_line(tmp_path):
    """Images of 40 x 28 learned in windows of 16; predicted and measured whole, of other sizes too."""
    image, mask = discs(12, side=40)
    np.savez(tmp_path / "large.npz", image=image[:, :, :28], mask=mask[:, :, :28],
             patient=np.arange(12), split=np.array(["train"] * 8 + ["test"] * 4))  # fmt: skip
    np.savez(tmp_path / "small.npz", image=image[:, :10, :20])
    run, out = tmp_path / "run", tmp_path / "out"
    command("train", "segmentation-ensembles", "--data", tmp_path / "large.npz", "--preset", "tiny",
            "--window", 16, "--crops", 2, "--train.steps", 3, "--train.batch", 2, "--out", run)  # fmt: skip
    command("predict", run, "--data", tmp_path / "small.npz", "--out", out)
    entry = json.loads((out / "predictions.json").read_text())["predictions"][0]
    assert read_image(out / entry["files"]["mask"]).size == (10, 20)
    command("evaluate", run, "--samples", 2)
    record = json.loads((run / "metrics.json").read_text())
    assert record["method"]["dice"]["n"] == 4 and "mean" in record["baseline"]["dice"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"window": 40}, "stride 16"),
        ({"window": -16}, "--window must be at least 0"),
        ({"window": 16, "crops": 0}, "--crops must be at least 1"),
        ({"window": 16, "overlap": 1.0}, "--overlap must be at least 0 and less than 1"),
    ],
)
def test_windows_that_cannot_be_are_refused(data, fields, said):
    with pytest.raises(UserError, match=said):
        dataclasses.replace(SegmentationEnsembles.small(), **fields).fitted(opened(data).facts())


# ---------------------------------------------------------------------------------------- fusion
def test_votes_are_counted():
    draws = torch.tensor([[0, 1, 2, 2], [1, 1, 2, 0], [1, 0, 0, 0]])[:, None, None]
    assert vote(draws).flatten().tolist() == [1, 1, 2, 0]
    empty = torch.zeros(3, 2, 1, 4, 4, dtype=torch.int64)
    assert torch.equal(vote(empty), empty[0]) and torch.equal(staple(empty), empty[0])


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("axes", [2, 3])
def test_staple_trusts_those_who_agree_over_a_majority_that_guesses(labels, axes):
    draw = torch.Generator().manual_seed(0)
    truth = torch.zeros(2, 1, *[12] * axes, dtype=torch.int64)
    truth[:, :, 2:6], truth[:, :, 8:10] = 1, labels
    good = [truth, truth]
    bad = [
        torch.where(
            torch.rand(truth.shape, generator=draw) < 0.45,
            torch.randint(0, labels + 1, truth.shape, generator=draw),
            truth,
        )
        for _ in range(3)
    ]
    draws = torch.stack(good + bad)
    wrong = float((vote(draws) != truth).double().mean())
    assert float((staple(draws) != truth).double().mean()) < 0.5 * wrong


# --------------------------------------------------------------------------------------- metrics
def test_generalised_energy_by_hand():
    a = torch.tensor([1, 1, 0, 0]).reshape(1, 1, 4)
    b = torch.tensor([0, 1, 1, 0]).reshape(1, 1, 4)  # IoU(a, b) = 1/3
    draws = torch.stack([a, b])
    assert float(generalised_energy(draws, a[None], 1)) == pytest.approx(2 / 3 - 1 / 3)
    assert float(generalised_energy(draws, draws, 1)) == pytest.approx(0)
    assert float(generalised_energy(a[None], b[None], 1)) == pytest.approx(4 / 3)
    assert float(generalised_energy(a[None], b[None], 2)) == pytest.approx(2 / 3)  # 2 is in neither
    assert float(generalised_energy(0 * a[None], 0 * a[None], 1)) == 0


def test_calibration_error_by_hand():
    p = torch.full((1, 1, 10), 0.8)
    truth = torch.tensor([1] * 8 + [0] * 2).reshape(1, 1, 10)
    assert voxel_ece(p, truth) == pytest.approx(0, abs=1e-6)
    assert voxel_ece(p, 1 - truth) == pytest.approx(0.6)
    mixed = torch.tensor([0.9] * 5 + [0.05] * 5).reshape(1, 1, 10)  # sure of 0.9 and of 0.95
    truth = torch.tensor([1, 1, 1, 0, 0] + [0] * 5).reshape(1, 1, 10)
    assert voxel_ece(mixed, truth) == pytest.approx(0.5 * 0.3 + 0.5 * 0.05)


def test_doubt_and_where_errors_lie():
    p = torch.tensor([0.5, 1.0, 0.0]).reshape(1, 1, 3)
    assert doubt_of(p).flatten().tolist() == [0.5, 0, 0]
    doubt = torch.arange(20.0)
    wrong = torch.zeros(20, dtype=torch.bool)
    wrong[[19, 18, 3]] = True
    assert errors_in_doubtful_tenth(doubt, wrong) == pytest.approx(2 / 3)
    assert math.isnan(errors_in_doubtful_tenth(doubt, torch.zeros(20)))


@pytest.mark.parametrize("axes", [2, 3])
def test_border_distances_in_the_unit_of_the_spacing(axes):
    box = torch.zeros(*[12] * axes, dtype=torch.bool)
    box[2:5, 2:5] = True
    shifted, further = box.roll(1, 0), box.roll(3, 1)
    mm = (2.0, 0.5, 1.0)[:axes]
    one = (1.0,) * axes
    assert hausdorff(box, box, mm) == 0 and surface_dice(box, box, mm, 0.0) == 1
    assert hausdorff(box, shifted, mm, 1.0) == 2.0 and hausdorff(box, shifted, one, 1.0) == 1.0
    assert hausdorff(box, further, mm, 1.0) == 1.5 and hausdorff(box, further, one, 1.0) == 3.0
    assert surface_dice(box, shifted, mm, 2.0) == 1 and surface_dice(box, shifted, mm, 1.9) < 1
    around = torch.zeros_like(box)
    around[:7, :7] = True
    if axes == 2:
        assert surface_dice(box, around, one, 1.0) == 0, "the inside of a structure is no border"
    nothing = torch.zeros_like(box)
    assert hausdorff(box, nothing, one) == pytest.approx(12 * axes**0.5)
    assert surface_dice(box, nothing, one, 1.0) == 0
    assert math.isnan(hausdorff(nothing, nothing, one))
    assert math.isnan(surface_dice(nothing, nothing, one, 1.0))


def test_hd95_leaves_out_a_few_far_voxels():
    line = torch.zeros(1, 100, dtype=torch.bool)
    line[0, :40] = True
    spot = line.clone()
    spot[0, 90] = True  # one of 41 voxels, 51 away
    assert hausdorff(line, spot, (1.0, 1.0)) == 0
    assert hausdorff(line, spot, (1.0, 1.0), 1.0) == 51


def test_dice_loss_of_the_baseline_by_hand():
    truth = torch.tensor([1.0, 1, 0, 0]).reshape(1, 1, 4)
    assert float(soft_dice_loss(truth, truth)) == 0
    assert float(soft_dice_loss(1 - truth, truth)) == pytest.approx(1 - 1 / 5)
    assert float(soft_dice_loss(0 * truth, 0 * truth)) == 0


def test_the_baseline_learns():
    images, masks = (torch.from_numpy(each)[:, None] for each in discs(16))
    batch = {"image": images.float() / 127.5 - 1, "mask": masks.long()}
    torch.manual_seed(0)
    unet = Segmenter(direct_unet(2, 1, 3, (SIDE, SIDE), 16, (1, 2), squash=False), ("image",), 2)
    adam = torch.optim.Adam(unet.players["network"].parameters(), 3e-3)
    for _ in range(40):
        ((_, loss),) = unet.losses(batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
    p = unet.predict(batch)
    assert float((likeliest(p) == batch["mask"]).double().mean()) > 0.95
    assert bool((distribution(p).sum(1) - 1).abs().max() < 1e-5)


def test_an_ensemble_is_the_mean_of_its_draws_and_their_variance_its_doubt(data):
    """Three draws of a voxel, 1, 1 and 0.1: the mean 0.7 is above one half, the variance 0.18."""
    held_out = opened(data).held_out()
    said = iter((1.0, 0.1, 1.0))

    class Says:
        given = ("image",)

        def predict(self, objective, batch):
            p = torch.full((len(batch["image"]), 1, SIDE, SIDE), next(said))
            return {"mask": (p > 0.5).long(), "probability": p, "expected": p}

    objective = SimpleNamespace(players={"network": torch.nn.Linear(1, 1)})
    drawn = draw(Says(), objective, held_out, Asked(batch=6), 3)
    found = answers_of(drawn, 1)["mean_of_draws"]
    assert torch.allclose(drawn.mean, torch.tensor(0.7)) and bool((found.mask == 1).all())
    assert torch.allclose(found.doubt, torch.tensor(0.18))
    assert torch.equal(found.foreground, drawn.mean)


def test_every_use_of_the_draws_is_measured(data):
    cases = opened(data)
    held_out = cases.held_out()
    truth = held_out.batch(range(6))["mask"]

    class Perfect:
        given = ("image",)

        def predict(self, objective, batch):
            foreground = encode(self.truth, 2, 0.0)
            return {"mask": self.truth, "probability": foreground, "expected": foreground}

    perfect = Perfect()
    perfect.truth = truth
    objective = SimpleNamespace(players={"network": torch.nn.Linear(1, 1)})
    drawn = draw(perfect, objective, held_out, Asked(batch=6), 3)
    answers = answers_of(drawn, 2)
    assert set(answers) == {"method", "mean_of_draws", "vote", "staple", "single_draw"}
    for name, answer in answers.items():
        metrics = measure(answer, truth, held_out.patients, 2, [(1.0, 1.0)] * 6)
        for key in ("dice", "dice_1", "dice_2", "surface_dice"):
            assert metrics[key]["mean"] == 1, (name, key)
        assert metrics["hd95"]["mean"] == metrics["generalised_energy"]["mean"] == 0
        assert metrics["dice"]["n"] == 3, "patients, not slices"
        if name != "staple":
            assert metrics["ece"]["mean"] == pytest.approx(0, abs=1e-6)
            assert "no voxel is wrong" in metrics["errors_in_doubtful_tenth"]["refused"]


# ---------------------------------------------------------------------------- by the command line
def test_train_predict_evaluate_report(data, tmp_path):
    run, out = tmp_path / "run", tmp_path / "predicted"
    command("train", "segmentation-ensembles", "--data", data, "--map", "image=t1", "flair=flair",
            "mask=mask", "--also", "flair", "--preset", "tiny", "--train.steps", 3,
            "--train.batch", 4, "--out", run)  # fmt: skip
    words = ("--samples", 3, "--map", "image=t1", "flair=flair")
    command("predict", run, "--out", tmp_path / "result", *words)
    (entry, *others) = json.loads((tmp_path / "result" / "predictions.json").read_text())[
        "predictions"
    ]
    assert set(entry["files"]) == {"mask-mean", "expected-mean", "expected-std"}, (
        "one result a case"
    )
    assert entry["case"] not in {other["case"] for other in others} and len(entry["seeds"]) == 3
    command("predict", run, "--out", out, *words, "--keep", "draws")
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    files = {name for entry in entries for name in entry["files"]}
    assert files == {"mask", "probability", "probability-mean", "probability-std", "expected",
                     "expected-mean", "expected-std", "mask-vote", "mask-staple", "mask-mean"}  # fmt: skip
    check_fused(out, [entry for entry in entries if entry["case"] == entries[0]["case"]])
    command("evaluate", run, "--samples", 2, "--batch", 6)
    record = json.loads((run / "metrics.json").read_text())
    assert record["task"] == "segmentation" and record["settings"]["samples"] == 2
    others = {"mean_of_draws", "vote", "staple", "single_draw"}
    assert set(record["baselines"]) == {"unet", "unet_ensemble", *others}
    assert record["baseline"] == record["baselines"][record["settings"]["baseline"]]
    assert record["settings"]["baseline"] in ("unet", "unet_ensemble")
    for name in ("dice", "dice_2", "hd95", "surface_dice", "generalised_energy", "ece",
                 "uncertainty_error_correlation", "errors_in_doubtful_tenth"):  # fmt: skip
        assert "mean" in record["method"][name], name
    check_trained(run, record["settings"]["unet_ensemble"])
    assert (run / "pictures" / "segmentation.png").is_file()
    command("report", run)
    assert "another" in (run / "report.html").read_text()


def check_trained(run, ensemble):
    """The U-Net is trained as long as the method, and so are the members of the ensemble together."""
    logs = {path.parent.name: path.read_text() for path in run.glob("*/log.jsonl")}
    last = {name: json.loads(text.splitlines()[-1]) for name, text in logs.items()}
    assert set(last) == {"baseline-unet", *(f"baseline-unet-member-{k}" for k in range(3))}
    unet = last.pop("baseline-unet")
    assert (unet["step"], unet["images"]) == (3, 12)
    assert sum(each["step"] for each in last.values()) == 3
    assert sum(each["images"] for each in last.values()) == 12
    assert ensemble["members"] == 3 and ensemble["temperature"] != 1
    assert ensemble["fitted_to"] == "validation split" and ensemble["patients"] > 0


def check_fused(out, entries):
    """What is fused is made of the draws written beside it, and stored as labels."""
    draws = [read_image(out / e["files"]["mask"]).data for e in entries if "mask" in e["files"]]
    several = torch.stack(draws).long()[:, None]
    files = {name: out / file for e in entries for name, file in e["files"].items()}
    assert len(draws) == 3
    assert torch.equal(read_image(files["mask-vote"]).data.long(), vote(several)[0])
    mean = read_image(files["expected-mean"]).data.float()
    assert torch.equal(read_image(files["mask-mean"]).data.long(), likeliest(mean[None])[0])


def test_brains_in_three_axes_keep_their_geometry(tmp_path):
    run, out = tmp_path / "run", tmp_path / "predicted"
    command("train", "segmentation-ensembles", "--data", "brains3d:count=6,size=16", "--map",
            "image=t1", "mask=tissue", "--preset", "tiny", "--train.steps", 1, "--train.batch", 2,
            "--out", run)  # fmt: skip
    command("predict", run, "--out", out, "--samples", 2)
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    cases = open_cases("brains3d:count=6,size=16", mapping={"image": "t1", "mask": "tissue"})
    like = cases.image(cases.ids.index(entries[0]["case"]), "mask")
    for entry in entries:
        for name, file in entry["files"].items():
            image = read_image(out / file)
            assert torch.allclose(image.affine, like.affine) and image.size == like.size
            if name.startswith("mask"):
                assert set(image.data.unique().tolist()) <= {0, 1, 2, 3}
    command("evaluate", run, "--split", "train", "--samples", 2)
    settings = json.loads((run / "metrics.json").read_text())["settings"]
    assert settings["unit"] == "mm" and settings["labels"] == 3


def test_colour_images_and_one_label(tmp_path):
    grey, mask = discs(12)
    path = tmp_path / "colour.npz"
    np.savez(
        path, image=np.stack([grey, grey // 2, 255 - grey], 1), mask=(mask > 0) * np.uint8(255)
    )
    run, out = tmp_path / "run", tmp_path / "predicted"
    command("train", "segmentation-ensembles", "--data", path, "--preset", "tiny",
            "--train.steps", 1, "--train.batch", 4, "--out", run)  # fmt: skip
    command("predict", run, "--out", out, "--split", "val")
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    made = read_image(out / entries[0]["files"]["mask"])
    assert made.data.shape == (1, SIDE, SIDE) and set(made.data.unique().tolist()) <= {0, 1}


# ------------------------------------------------------------------------------------- bad input
def saved(path, image, mask):
    n = len(image)
    np.savez(path, image=image, mask=mask, split=np.array([*(["train"] * (n - 2)), "val", "test"]))
    return path


def test_masks_that_do_not_fit_are_one_clear_line(tmp_path, refused):
    image, mask = discs(8)
    train = ("train", "segmentation-ensembles", "--preset", "tiny", "--train.steps", "2",
             "--train.batch", "4")  # fmt: skip
    odd = saved(tmp_path / "size.npz", image, mask[:, ::2, ::2])
    said = refused(*train, "--data", odd, "--out", tmp_path / "a")
    assert "16 x 16" in said and "8 x 8" in said and "--size" in said
    empty = saved(tmp_path / "empty.npz", image, 0 * mask)
    assert "no label to learn" in refused(*train, "--data", empty, "--out", tmp_path / "b")
    grey = saved(tmp_path / "grey.npz", image, image)
    assert "without gaps" in refused(*train, "--data", grey, "--out", tmp_path / "c")
    small = saved(tmp_path / "small.npz", image[:, :3, :3], 0 * mask[:, :3, :3] + 1)
    assert "stride" in refused(*train, "--data", small, "--out", tmp_path / "d")
    good = saved(tmp_path / "good.npz", image, mask)
    command(*train, "--data", good, "--out", tmp_path / "run")
    mask[-1, 0, 0] = 5
    odd = saved(tmp_path / "labels.npz", image, mask)
    said = refused("evaluate", tmp_path / "run", "--data", odd)
    assert "holds label 5" in said and "knows 0 (background) to 2" in said
    said = refused(*train, "--data", good, "--also", "flair", "--out", tmp_path / "e")
    assert "no image flair" in said
    crop = saved(tmp_path / "crop.npz", image[:, :3, :15], mask[:, :3, :15])
    assert "stride" in refused("predict", tmp_path / "run", "--data", crop, "--out", tmp_path / "p")
    odd = saved(tmp_path / "odd.npz", image[:, :15, :15], mask[:, :15, :15])
    command("predict", tmp_path / "run", "--data", odd, "--out", tmp_path / "o")


def test_a_label_unknown_in_training_too_is_refused(tmp_path, refused, monkeypatch):
    """A rare label that the look at the data missed."""
    from radiffuse.data import cases

    monkeypatch.setattr(cases, "labels_of", lambda *_: 2)
    path = saved(tmp_path / "rare.npz", *discs(8))
    said = refused("train", "segmentation-ensembles", "--preset", "tiny", "--data", path,
                   "--train.batch", "4", "--train.steps", "2", "--out", tmp_path / "r")  # fmt: skip
    assert "holds label 2, and the model knows 0 (background) to 1" in said
