"""DARL: what its losses read and reach, one generator in two modes, one pass to segment, and what stands beside it."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from radiffuse import cli
from radiffuse.applications.segmentation.darl import DARL
from radiffuse.applications.segmentation.vessels.baselines import FILTERS, OfAnyLabel
from radiffuse.applications.segmentation.vessels.field import (
    evened,
    found_field,
    within,
    without_vessels,
)
from radiffuse.data.dataset import open_cases
from radiffuse.data.embedded.trees import Trees
from radiffuse.diffusion.kernels import diffuse
from radiffuse.errors import UserError
from radiffuse.metrics.vessels import best_threshold, centreline_dice, found, ranked
from radiffuse.nn.critic import Remembering
from radiffuse.nn.switched import SwitchedGenerator

BLIND = {"even": 0, "window": 0}
"""Whole images as they are: what a step learns from can be told in a test."""


@pytest.fixture(scope="module")
def cases():
    return open_cases("vessels:count=6,size=16")


@pytest.fixture(scope="module")
def recipe(cases):
    return dataclasses.replace(DARL.tiny(), **BLIND).fitted(cases.facts())


@pytest.fixture
def objective(recipe):
    """Networks whose weights are not those of the beginning, which say nothing of noise."""
    objective = recipe.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return objective


@pytest.fixture
def triple(cases):
    batch = cases.batch(range(3))
    return batch["image"], batch["background"], Trees().draw(3, (16, 16), 1)


def told(objective, triple):
    objective.triples = lambda _: triple
    return objective


def gradients(loss, module):
    found = torch.autograd.grad(
        loss, list(module.parameters()), retain_graph=True, allow_unused=True
    )
    return dict(zip((name for name, _ in module.named_parameters()), found, strict=True))


# ------------------------------------------------------------------------------- the generator
@pytest.fixture
def generator():
    generator = SwitchedGenerator(2, 2, 1, 2, width=4, hidden=4)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return generator.eval()


def test_a_map_paints_and_its_absence_segments_by_the_same_convolutions(generator):
    x, one = torch.randn(1, 2, 16, 16), torch.zeros(1, 2, 16, 16)
    one[:, 0] = 1
    other = one.clone()
    other[:, :, 4:8, 4:8] = other[:, :, 4:8, 4:8].flip(1)
    plain = generator(x)
    assert not torch.allclose(generator(x, one), generator(x, other), atol=1e-4)
    assert not torch.allclose(generator(x, one), plain, atol=1e-4)
    for layer in generator.blocks[0].norms:
        torch.nn.init.normal_(layer.gamma.weight)
    assert torch.equal(generator(x), plain)
    generator.down[0].weight.data.mul_(-1)
    assert not torch.allclose(generator(x), plain, atol=1e-4)


def test_without_a_map_scale_and_shift_learn_and_what_reads_maps_does_not(generator):
    x, m = torch.randn(1, 2, 16, 16), torch.rand(1, 2, 16, 16)
    reading = ("shared", "gamma", "beta")
    for given in (None, m):
        reached = gradients(generator(x, given).square().sum(), generator)
        for name, gradient in reached.items():
            part = name.rpartition("norm")[2]
            if "norm" in name:
                assert (gradient is not None) == (
                    any(r in part for r in reading) == (given is not None)
                ), name
            else:
                assert gradient is not None, name


# ---------------------------------------------------------------------------------- the losses
def test_the_losses_are_those_of_the_paper_by_hand(objective, triple):
    """L = |eps - z_b|^2 + 5 |S_c - F| + 0.2 (LS + LS) for the makers, half least squares for the critics."""
    shown, empty, drawn = triple
    told(objective, triple)
    for player in objective.players.values():
        player.eval()
    torch.manual_seed(3)
    (_, makers), (_, critics) = objective.losses({})
    torch.manual_seed(3)
    z, t_a, t_b = torch.randn(shown.shape), objective.light(3), objective.times(3)
    schedule, judge_s, judge_a = (
        objective.network.schedule,
        objective.players["judge_masks"],
        objective.players["judge_images"],
    )

    def latent(x, t):
        return objective.network.raw(x, t)

    def made(x, t, *m):
        return objective.players["generator"](torch.cat([x, latent(x, t)], 1), *m)

    x_a, x_b = diffuse(schedule, shown, t_a, z), diffuse(schedule, empty, t_b, z)
    s = made(x_a, t_a)
    painted = made(x_b, t_b, torch.cat([1 - drawn, drawn], 1))
    back = made(diffuse(schedule, painted, t_a, z), t_a)
    wanted = (z - latent(x_b, t_b)).square().mean() + 5 * (back - (2 * drawn - 1)).abs().mean()
    wanted += 0.2 * ((judge_s(s) - 1).square().mean() + (judge_a(painted) - 1).square().mean())
    assert float(makers.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    halves = [(judge_s(2 * drawn - 1) - 1), judge_s(s), (judge_a(shown) - 1), judge_a(painted)]
    apart = sum(half.square().mean() for half in halves) / 2
    assert float(critics.detach()) == pytest.approx(float(apart.detach()), rel=1e-5)


def test_noise_is_learned_on_pictures_without_vessels_alone(objective, triple):
    """With nothing from critics and cycle the loss does not know what A shows."""
    objective.cycle = objective.adversarial = 0.0
    shown, empty, drawn = triple

    def loss(a, b):
        torch.manual_seed(1)
        return float(next(told(objective, (a, b, drawn)).losses({}))[1].detach())

    assert loss(shown, empty) == loss(-shown, empty) != loss(shown, -empty)


def test_what_the_network_takes_for_noise_is_the_cue(objective, triple):
    """The segmentation's gradient reaches the network of noise; with --no-latent it does not."""
    t = torch.tensor(0.01)
    for latent in (True, False):
        objective.latent = latent
        s = objective.segmented(triple[0], t).sum()
        if latent:
            assert any(
                float(g.abs().max()) > 0
                for g in gradients(s, objective.players["network"]).values()
                if g is not None
            )
        else:
            assert all(
                g is None or not g.any()
                for g in gradients(s, objective.players["network"]).values()
            )


def test_pictures_with_vessels_are_seen_under_light_noise_alone(objective):
    """Steps 1 to `light` of the chain; the others under all of it."""
    light, every = objective.light(400) * 2000, objective.times(400) * 2000
    assert float(light.min()) >= 1 and 58 <= float(light.max()) <= 60 < 1900 < float(every.max())
    assert DARL().light == 200 and float(DARL().schedule().betas[199]) == pytest.approx(
        9.96e-4, rel=1e-2
    )


def test_no_label_of_the_data_is_read_in_training(cases, recipe, objective):
    batch = cases.batch(range(3))

    def played(data):
        torch.manual_seed(2)
        objective.players["judge_masks"].count.zero_()
        objective.players["judge_images"].count.zero_()
        for player in objective.players.values():
            player.eval()
        return [float(loss.detach()) for _, loss in objective.losses(data)]

    without = {key: value for key, value in batch.items() if key != "mask"}
    wrong = {**batch, "mask": 1 - batch["mask"]}
    assert played(without) == played(batch) == played(wrong)


def test_critics_remember_fifty_images_and_show_one_in_two_of_them():
    critic = Remembering(2, 1, 4, 1, (8, 8), kept=50)
    first = torch.full((50, 1, 8, 8), 1.0)
    assert torch.equal(critic.remembered(first), first) and int(critic.count) == 50
    shown = critic.remembered(torch.full((200, 1, 8, 8), 2.0))
    old = float((shown == 1).flatten(1).all(1).float().mean())
    assert 0.1 < old < 0.3  # 50 of them, less those that are never drawn
    assert {"pool", "count"} <= set(critic.state_dict())


# -------------------------------------------------------------------------- what is learned from
def test_trees_are_drawn_by_their_seed_thinner_at_every_fork_and_binary():
    trees = Trees()
    masks = trees.draw(8, (64, 64), 3)
    assert torch.equal(masks, trees.draw(8, (64, 64), 3))
    assert not torch.equal(masks, trees.draw(8, (64, 64), 4))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert 0.03 < float(masks.mean()) < 0.25
    wide = float((1 - F.max_pool2d(1 - masks, 3, 1, 1)).mean())  # what a box of 3 fits into
    assert 0 < wide < 0.35 * float(masks.mean())
    volume = trees.draw(2, (20, 20, 20), 1)
    assert volume.shape == (2, 1, 20, 20, 20) and 0 < float(volume.mean()) < 0.2


def test_no_vessel_is_left_in_backgrounds_made_without_a_label(cases, recipe):
    """Closing and filling: what was dark and thin is as bright as what is around it."""
    batch = open_cases("vessels:count=8,size=64").batch(range(8))
    made, mask = without_vessels(batch["image"], 9, dark=True), batch["mask"] > 0

    def contrast(x):
        return float(x[~mask].mean() - x[mask].mean())

    assert contrast(batch["image"]) > 0.3 and abs(contrast(made)) < 0.25 * contrast(batch["image"])
    bright = without_vessels(-batch["image"], 9, dark=False)
    assert torch.allclose(bright, -made, atol=1e-5)
    without = {"image": batch["image"][:, :, :16, :16]}
    torch.manual_seed(1)
    shown, empty, _ = recipe.triples()(without)
    assert float(empty.sub(shown).abs().max()) > 0 and float(empty.mean()) > float(shown.mean())


def test_a_balanced_cycle_counts_vessels_as_much_as_the_rest():
    """No vessel at all is the best constant answer of an even mean, and the worst of a balanced one."""
    drawn = torch.zeros(1, 1, 10, 10)
    drawn[..., 0] = 1.0
    even, balanced = (
        dataclasses.replace(
            DARL.tiny(), channels=1, size=(16, 16), channel=0, balanced=on
        ).objective()
        for on in (False, True)
    )
    empty, half = -torch.ones_like(drawn), torch.zeros_like(drawn)
    assert float(even.apart(empty, drawn)) == pytest.approx(0.2)
    assert float(even.apart(half, drawn)) == pytest.approx(1.0)
    for answer in (empty, half, -empty):
        assert float(balanced.apart(answer, drawn)) == pytest.approx(1.0)
    assert float(balanced.apart(2 * drawn - 1, drawn)) == 0
    assert float(balanced.apart(empty, 0 * drawn)) == 0
    small, paper = DARL.small(), DARL()
    assert small.balanced and not paper.balanced
    # what the empty mask costs beside what the critics say: as in the paper, where a tenth are vessels
    cost = small.cycle / small.adversarial, 0.2 * paper.cycle / paper.adversarial
    assert 0.3 < cost[0] / cost[1] < 3


def test_grey_values_are_evened_in_the_field_of_view_alone():
    rows = torch.linspace(0, 1, 64)[:, None]
    x = rows / 4 + (0.1 + 0.3 * rows) * torch.randn(1, 1, 64, 64)
    inside = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    inside[..., :16] = False
    y = evened(x.where(inside, -100.0), inside, 16)
    assert not y[..., :16].any()
    means, deviations = (f(y[..., 16:].reshape(4, -1), 1) for f in (torch.mean, torch.std))
    assert float(means.abs().max()) < 0.1
    typical = (torch.tensor([0.125, 0.375, 0.625, 0.875]) * 0.3 + 0.1).clamp_min(0.25) * 3
    wanted = (torch.tensor([0.125, 0.375, 0.625, 0.875]) * 0.3 + 0.1) / typical
    assert float((deviations - wanted).abs().max()) < 0.08, "flat places stay flat"


def test_the_shadow_of_the_rim_is_no_vessel():
    inside = torch.zeros(1, 1, 30, 40, dtype=torch.bool)
    inside[..., 10:, 5:] = True
    wanted = torch.zeros_like(inside)
    wanted[..., 14:, 9:] = True
    assert torch.equal(within(inside), wanted), "the picture's own border is no rim"
    assert bool(within(torch.ones_like(inside)).all())
    narrow = torch.zeros_like(inside)
    narrow[..., 12:20, :] = True
    assert torch.equal(within(torch.cat([inside, narrow])), torch.cat([wanted, narrow]))


def test_the_field_of_view_is_the_bright_disc_of_a_fundus():
    row, column = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    disc = (row - 20) ** 2 + (column - 20) ** 2 < 15**2
    x = torch.where(disc, 0.2, -0.99)[None, None].clone()
    x[..., 18:21, 10:30] = -0.95  # a vessel as dark as the rim
    assert torch.equal(found_field(x)[0, 0], disc)
    assert bool(found_field(torch.rand(2, 1, 9, 9)).all())


# ---------------------------------------------------------------------------------- prediction
def test_one_pass_of_each_network_over_each_sub_image_at_the_first_step(cases):
    """Four polyphase images of a picture of odd sides, each segmented once, interleaved without loss."""
    recipe = dataclasses.replace(DARL.tiny(), **BLIND, phases=2)
    odd = open_cases("vessels:count=2,size=25")
    recipe = recipe.fitted(odd.facts())
    objective, seen = recipe.objective(), []

    def guess(x_t, t):
        seen.append((len(x_t), float(t) * 2000))
        return x_t

    objective.guess = guess
    objective._made = lambda x, told, m: x.clamp(-1, 1)
    image = odd.batch([0])["image"]
    made = recipe.predict(objective, {"image": image})
    assert [(n, round(t)) for n, t in seen] == [(4, 1)]
    assert torch.equal(made["probability"], (image + 1) / 2)
    assert torch.equal(made["mask"], (image > 0).long())


def test_windows_answer_images_of_any_size(cases):
    recipe = DARL.tiny().fitted(cases.facts())
    objective = recipe.objective()
    objective._made = lambda x, told, m: x
    image = open_cases("vessels:count=1,size=37").batch([0])["image"]
    made = recipe.predict(objective, {"image": image})["probability"]
    seen, _ = recipe.triples().seen({"image": image})
    assert torch.allclose(made, (seen + 1) / 2, atol=1e-5)


# ------------------------------------------------------------------------------------- numbers
def test_metrics_count_inside_the_field_of_view_alone():
    truth = torch.zeros(8, 8, dtype=torch.bool)
    truth[2, :6] = True
    inside = torch.ones_like(truth)
    inside[:, 4:] = False
    mask = torch.zeros_like(truth)
    mask[2, 1:] = mask[5, 0] = True
    assert found(mask, truth, inside) == {"dice": 0.75, "sensitivity": 0.75, "precision": 0.75}
    assert (
        ranked(truth.float(), truth, inside) == 1.0 and ranked(-truth.float(), truth, inside) == 0.0
    )


def test_a_centreline_counts_a_lost_thin_branch_as_much_as_a_wide_one():
    truth = torch.zeros(40, 40, dtype=torch.bool)
    truth[4:11, 2:38] = truth[30, 2:38] = True
    inside = torch.ones_like(truth)
    wide = truth.clone()
    wide[30] = False
    assert found(wide, truth, inside)["dice"] > 0.92
    assert 0.6 < centreline_dice(wide, truth, inside) < 0.75
    assert centreline_dice(truth, truth, inside) == 1.0
    assert centreline_dice(~inside, truth, inside) == 0.0


def test_the_threshold_of_highest_dice_is_found():
    truth = torch.arange(1000) >= 900
    score = torch.arange(1000.0)
    assert 890 <= best_threshold(score, truth, torch.ones(1000, dtype=torch.bool)) <= 910


def test_filters_answer_to_a_dark_line_of_any_direction_and_not_to_a_plain():
    for name, apply in FILTERS.items():
        x = torch.ones(33, 33)
        plain = float(apply(x).abs().max())
        x[15:18] = 0
        answer, across = apply(x), apply(x.T.contiguous())
        assert float(answer[16, 16]) > max(10 * plain, float(answer[5, 16])), name
        assert torch.allclose(across, answer.T, atol=1e-3 * float(answer.max())), name


# --------------------------------------------------------------------------------- commands
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("darl") / "run"
    words = ["train", "darl", "--preset", "tiny", "--data", "vessels:count=12,size=24"]
    assert cli.main([*words, "--train.steps", "3", "--train.batch", "2", "--out", str(out)]) == 0
    return out


def test_evaluation_stands_beside_filters_and_a_network_with_labels(run):
    assert cli.main(["evaluate", str(run)]) == 0
    record = json.loads((run / "metrics.json").read_text())
    assert set(record["baselines"]) == {"frangi", "matched_filter", "unet"}
    assert record["settings"]["backgrounds"] == "given" and record["settings"]["baseline"] == "unet"
    assert record["baselines"]["frangi"]["auc"]["mean"] > 0.9
    assert {"vessels.png", "painted.png"} <= {p.name for p in (run / "pictures").iterdir()}


def test_a_prediction_is_a_mask_and_a_probability(run, tmp_path):
    assert cli.main(["predict", str(run), "--out", str(tmp_path / "p")]) == 0
    names = {path.name.partition("-")[2].partition(".")[0] for path in (tmp_path / "p").glob("v*")}
    assert names == {"mask", "probability"}


def test_bad_input_is_one_line_each(refused, cases, run, tmp_path):
    train = (
        "train",
        "darl",
        "--preset",
        "tiny",
        "--data",
        "vessels:count=6,size=16",
        "--out",
        tmp_path / "r",
    )
    assert "--channel 1: the images are grey (1 channel)" in refused(
        *train, "--channel", "1", code=1
    )
    assert "smaller than this network's stride" in refused(*train, "--phases", "8")
    assert "--light 5000 is more than the 2000 steps" in refused(*train, "--light", "5000", code=2)
    recipe = DARL.tiny().fitted(cases.facts())
    objective, image = recipe.objective(), cases.batch([0])["image"]
    with pytest.raises(
        UserError, match=r"in colour \(3 channels\), and the model was trained on images grey"
    ):
        recipe.predict(objective, {"image": image.expand(-1, 3, -1, -1)})
    with pytest.raises(UserError, match="no field of view: that of fov_mask takes 0 %"):
        recipe.predict(objective, {"image": image, "fov_mask": torch.zeros(1, 1, 16, 16).long()})
    with pytest.raises(UserError, match="smaller than this network's stride"):
        recipe.predict(objective, {"image": image[..., :3, :3]})
    with pytest.raises(UserError, match="name the one to read with --channel"):
        facts = dataclasses.replace(cases.facts(), channels={"image": 5})
        DARL.tiny().fitted(facts)


def test_arteries_and_veins_are_vessels_to_the_network_with_labels():
    """As to the measures, whatever their numbers."""
    torch.manual_seed(0)
    network = OfAnyLabel(torch.nn.Conv2d(1, 2, 3, padding=1), ("image",), 1)
    mask = torch.randint(0, 3, (2, 1, 8, 8))
    image = torch.randn(2, 1, 8, 8)
    ((_, both),) = network.losses({"image": image, "mask": mask})
    ((_, one),) = network.losses({"image": image, "mask": (mask > 0).long()})
    assert float(both.detach()) == pytest.approx(float(one.detach()))
