"""brainSPADE: soft maps, images painted on them, a gate, and a segmenter that sees made pairs alone."""

import dataclasses
import json
import shutil

import pytest
import torch
from torch import nn

from radiffuse import cli
from radiffuse.applications.segmentation.brainspade import BrainSPADE
from radiffuse.applications.segmentation.synthetic import looked
from radiffuse.applications.segmentation.synthetic.maps import Maps, as_images, likeness, smoothed
from radiffuse.applications.segmentation.synthetic.painting import Painting, Styled, Weights
from radiffuse.applications.segmentation.synthetic.pairs import Joined, Pairs, made
from radiffuse.commands.away import Away
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError
from radiffuse.nn.critic import PatchCritic, ScaledCritic
from radiffuse.nn.spade import SPADE, Painter, StyleEncoder, spectral
from radiffuse.runs.run import open_run
from radiffuse.training.loop import train
from radiffuse.training.options import TrainOptions

DATA = "brains:count=30,size=32,lesions=0.6,label=none,radius_mm=20"
MAP = {"image": "t1", "t2": "t2", "mask": "lesion", "shares": "shares", "height": "height"}
WORDS = ["--data", DATA, "--map", *(f"{k}={v}" for k, v in MAP.items()), "--also", "t2"]


@pytest.fixture(scope="module")
def cases():
    return open_cases(DATA, mapping=MAP)


@pytest.fixture(scope="module")
def recipe(cases):
    return dataclasses.replace(BrainSPADE.tiny(), also=("t2",)).fitted(cases.facts())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "run"
    assert cli.main(["train", "brainspade", "--preset", "tiny", *WORDS, "--out", str(out)]) == 0
    return out


# ------------------------------------------------------------------------ normalisation by a map
def test_spade_is_equation_1():
    """(h - mean) / deviation over cases and voxels, times gamma(m) plus beta(m), voxel by voxel."""
    norm = SPADE(2, 3, 2, hidden=4)
    h, m = 5 + 2 * torch.randn(4, 3, 8, 8), torch.rand(4, 2, 8, 8)
    told = torch.relu(norm.shared(m))
    mean, deviation = h.mean((0, 2, 3), keepdim=True), h.std((0, 2, 3), keepdim=True, correction=0)
    expected = norm.gamma(told) * (h - mean) / deviation + norm.beta(told)
    torch.testing.assert_close(norm(h, m), expected, rtol=1e-3, atol=1e-3)


def test_spade_begins_as_a_plain_normalisation_and_keeps_running_means():
    norm = SPADE(2, 3, 2)
    for _ in range(60):
        norm(5 + 2 * torch.randn(8, 3, 8, 8), torch.rand(8, 2, 8, 8))
    norm.eval()
    h = 5 + 2 * torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(norm(h, torch.zeros(1, 2, 8, 8)), (h - 5) / 2, rtol=0.1, atol=0.2)


def test_a_map_is_read_at_the_nearest_voxel_of_a_coarse_level():
    norm = SPADE(1, 1, 1, hidden=1).eval()
    for layer in (norm.shared, norm.gamma, norm.beta):
        nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    norm.shared.weight.data[..., 1] = norm.beta.weight.data[..., 1] = 1.0
    m = torch.tensor([[[0.0, 0, 3, 3]]])
    assert norm(torch.zeros(1, 1, 2), m).tolist() == [[[0.0, 3.0]]]


def painter(**changes):
    torch.manual_seed(0)
    given = {"multiples": (2, 1), "blocks": (2, 1), "hidden": 8}
    return Painter((16, 16), 3, 1, 4, 8, **{**given, **changes}).eval()


@pytest.mark.parametrize("patch", [1, 2])
def test_an_image_follows_its_map_where_the_map_differs_and_its_style(patch):
    net = painter(patch=patch)
    m, z = torch.zeros(1, 3, 16, 16), torch.randn(1, 4)
    other = m.clone()
    other[:, 1, :, 12:] = 5.0
    with torch.no_grad():
        image, changed, styled = net(m, z), net(other, z), net(m, -z)
    assert image.shape == (1, 1, 16, 16) and float(image.abs().max()) < 1
    gap = (changed - image).abs()
    assert float(gap[..., 14:].mean()) > 1e-3
    assert float((styled - image).abs().mean()) > 1e-3


def test_layers_are_divided_by_their_spectral_norm():
    net = nn.Sequential(nn.Linear(6, 6), nn.Conv2d(2, 3, 3))
    spectral(net)
    for _ in range(30):  # the power iteration goes a step each time
        norms = [torch.linalg.matrix_norm(part.weight.flatten(1), 2) for part in net]
    assert all(norm.item() == pytest.approx(1, abs=0.05) for norm in norms)
    for part in (painter(), StyleEncoder((16, 16), 1, 4, 8, 2)):
        layers = [m for m in part.modules() if type(m).__name__ == "ParametrizedConv2d"]
        assert layers


def test_styles_seen_last_are_kept_by_modality():
    bank = StyleEncoder((8, 8), 1, 2, 4, 2, kinds=2, kept=3)
    for k in range(5):
        bank.keep(torch.full((1, 2), float(k)), torch.ones(1, 2), torch.tensor([1]))
    assert bank.count.tolist() == [0, 5]
    assert sorted(bank.kept(1, torch.tensor([0.0, 0.4, 0.99]))[0][:, 0].tolist()) == [2, 3, 4]


def test_critics_see_the_image_at_several_scales():
    critic = PatchCritic(2, 3, 4, 2)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(critic.stages(x)[-1], critic(x))
    found = ScaledCritic(2, 3, 4, 2, scales=2)(x)
    assert [scale[0].shape[-1] for scale in found] == [9, 5]


# --------------------------------------------------------------------------------------- soft maps
def test_a_soft_map_adds_up_and_its_mask_is_the_mask():
    """Also of a single voxel, where plain smoothing would lose the label."""
    mask = torch.randint(0, 3, (4, 1, 9, 9))
    mask[0] = 0
    mask[0, 0, 4, 4] = 2
    tissue = torch.randint(0, 4, (4, 1, 9, 9))
    maps = Maps(tissues=3, labels=2)
    found = maps.of({"mask": mask, "tissue": tissue})
    assert found.shape == (4, 6, 9, 9)
    torch.testing.assert_close(found.sum(1), torch.ones(4, 9, 9))
    assert torch.equal(maps.mask(found), mask)
    there = (maps.hard(found).argmax(1, keepdim=True) == tissue)[mask == 0]
    assert float(there.float().mean()) > 0.9 and float(maps.hard(found).sum(1).min()) == 1


def test_maps_are_soft_at_borders_unless_hard_ones_are_asked_for(recipe):
    mask = torch.zeros(1, 1, 1, 8, dtype=torch.int64)
    mask[..., 4:] = 1
    batch = {"mask": mask, "tissue": torch.ones_like(mask)}
    share = Maps(1, 1).of(batch)[0, 2, 0]
    assert share.tolist() == [0, 0, 0, 0.125, 0.875, 1, 1, 1]
    assert Maps(1, 1, soft=False).of(batch)[0, 2, 0].tolist() == mask[0, 0, 0].tolist()
    assert recipe.soft and BrainSPADE().soft


def test_smoothing_keeps_what_there_is():
    x = torch.rand(2, 3, 5, 6)
    torch.testing.assert_close(smoothed(x).sum((2, 3)), x.sum((2, 3)))


def test_shares_of_the_data_are_those_of_the_map(cases):
    batch = cases.batch(range(6))
    maps = Maps(3, 1).of(batch)
    free = (maps[:, 4:] == 0).expand(-1, 4, -1, -1)
    shares = (batch["shares"] + 1) / 2
    assert float((maps[:, :4] - shares)[free].abs().max()) < 0.02
    between = (maps[:, 1:4] > 0.05) & (maps[:, 1:4] < 0.95)
    assert float(between.float().mean()) > 0.05


def test_without_tissues_what_is_bright_is_body():
    image = torch.full((1, 1, 4, 4), -1.0)
    image[..., 2:] = 0.0
    maps = Maps(1, 1).of({"image": image, "mask": torch.zeros(1, 1, 4, 4, dtype=torch.int64)})
    assert maps[0, 1, 0].tolist() == [0, 0.125, 0.875, 1]


def test_a_decoded_map_is_cut_and_adds_up_and_nothing_worth_naming_is_outside():
    image = 2 * torch.tensor([[0.5, 0.02], [0.6, 0.05], [-0.2, 0.04]]).reshape(1, 3, 1, 2) - 1
    found = Maps(1, 1).drawn(image)[0, :, 0].T
    torch.testing.assert_close(found[0], torch.tensor([0.5 / 1.1, 0.6 / 1.1, 0.0]))
    torch.testing.assert_close(found[1], torch.tensor([1.0, 0.05, 0.04]) / 1.09)


def test_maps_reconstructed_as_labels_are_shares_and_rare_ones_count(recipe, cases):
    """A label of one voxel in 256 that is missed costs little in absolute error, and much as a label."""
    maps = Maps(1, 1, soft=False)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.int64)
    mask[..., 8, 8] = 1
    image = maps.image(maps.of({"mask": mask, "tissue": torch.ones_like(mask)}))
    missed = maps.image(maps.of({"mask": 0 * mask, "tissue": torch.ones_like(mask)}))
    assert float((missed - image).abs().mean()) < 0.02
    assert float(likeness(missed, image)) > float(likeness(image, image)) + 0.2
    assert recipe.likeness == "labels" and BrainSPADE().coder_error is nn.functional.l1_loss
    assert recipe.first_objective().error is likeness
    made, _ = recipe.coder()(recipe.coded(cases).batch([0])["image"])
    torch.testing.assert_close(((made + 1) / 2).sum(1), torch.ones(1, 32, 32))


def test_labels_that_are_not_known_are_told():
    with pytest.raises(UserError, match="mask holds label 2, and the model knows 0 to 1"):
        Maps(1, 1).of(
            {"mask": torch.full((1, 1, 2, 2), 2), "tissue": torch.zeros(1, 1, 2, 2).long()}
        )


def test_maps_of_cases_are_images(cases):
    found = as_images(cases, Maps(3, 1)).batch([2, 5])
    torch.testing.assert_close(found["image"], 2 * Maps(3, 1).of(cases.batch([2, 5])) - 1)
    assert as_images(cases, Maps(3, 1)).fingerprint != cases.fingerprint


# ------------------------------------------------------------------------------- painting and gate
class Said(nn.Module):
    """Answers as told and remembers what it saw."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, []
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, *given):
        self.seen.append(given)
        return self.answer(*given)

    def keep(self, *_):
        pass


def painting(critic=None, gate=None, weights=None, keys=("image", "t2")):
    """A painter of constant images, a style of zeros, a critic of zeros."""
    made = Said(lambda m, z: m[:, :1] * 0 + 0.25 + z.mean())
    style = Said(lambda x: (x.new_zeros(len(x), 2), x.new_ones(len(x), 2)))
    critic = critic or Said(lambda x: [[x[:, :1], x.mean((1, 2, 3))]])
    weights = weights or Weights(1.0, 0.0, 0.0, 1.0)
    return Painting(made, style, critic, gate, keys, Maps(3, 1), weights, 4.0)


@pytest.fixture
def batch(cases):
    return Styled(cases, ("image", "t2")).batch(range(6))


def test_a_style_comes_from_another_slice_of_the_same_person(cases):
    styled = Styled(cases, ("image",))
    for row, other in enumerate(styled.partner):
        assert other != row and cases.patients[other] == cases.patients[row]
    batch = styled.batch([0, 1])
    torch.testing.assert_close(
        batch["style_image"][0], cases.batch([styled.partner[0]])["image"][0]
    )
    alone = Styled(cases.take([0]), ("image",)).batch([0])
    torch.testing.assert_close(alone["style_image"], alone["image"].flip(-1))


def test_the_style_is_read_from_that_slice_and_the_image_is_judged_by_the_other(batch):
    only = painting(keys=("image",))
    [*only.losses(batch)]
    (style,) = only.players["style"].seen[0]
    assert torch.equal(style, batch["style_image"])
    real = only.players["critic"].seen[0][0]
    torch.testing.assert_close(real[:, :1], batch["image"])


def test_the_generator_sees_the_soft_map_and_the_critic_the_hard_one(batch):
    objective = painting()
    [*objective.losses(batch)]
    maps = Maps(3, 1).of(batch)
    torch.testing.assert_close(objective.players["painter"].seen[0][0], maps)
    assert not torch.equal(maps, Maps(3, 1).hard(maps))
    for (seen,) in objective.players["critic"].seen:
        torch.testing.assert_close(seen[:, 1:], Maps(3, 1).hard(maps))


def test_losses_of_generator_and_critic_are_hinges(batch):
    """A critic that answers 0.5 to real and -0.25 to made images: max(0, 1 - 0.5) + max(0, 1 - 0.25)."""
    answers = iter([0.5, -0.25, 0.5, -0.25])
    critic = Said(lambda x: [[x[:, :1] * 0, torch.full((len(x),), next(answers))]])
    objective = painting(critic, weights=Weights(0.0, 0.0, 0.0, 0.0))
    losses = {who: float(loss) for who, loss in objective.losses(batch)}
    assert losses[("painter", "style")] == pytest.approx(0.25)
    assert losses["critic"] == pytest.approx(0.5 + 0.75)
    assert objective.rates == {"critic": 4.0}


def test_what_critics_see_is_matched_and_styles_are_near_the_standard_normal(batch):
    objective = painting(weights=Weights(10.0, 0.0, 0.5, 0.0), keys=("image",))
    objective.players["style"].answer = lambda x: (
        x.new_full((len(x), 2), 2.0),
        x.new_ones(len(x), 2),
    )
    torch.manual_seed(3)
    (_, loss), *_ = objective.losses(batch)
    image = objective.players["painter"].answer(*objective.players["painter"].seen[0])
    judged = torch.cat([image, Maps(3, 1).hard(Maps(3, 1).of(batch))], 1).mean()
    near = (image - batch["image"]).abs().mean()
    assert float(loss) == pytest.approx(float(-judged + 10 * near + 0.5 * 0.5 * 2 * 2**2), rel=1e-4)


def test_layers_of_a_critic_are_summed_and_its_scales_averaged(batch):
    """As the code of its authors does (pix2pix_model.py): every layer has the whole weight."""

    def scale(x):
        return [*(weight * x[:, :1] for weight in (1, 2, 3)), 0 * x.mean((1, 2, 3))]

    objective = painting(
        Said(lambda x: [scale(x), scale(x)]), weights=Weights(10.0, 0.0, 0.0, 0.0), keys=("image",)
    )
    (_, loss), *_ = objective.losses(batch)
    image = objective.players["painter"].answer(*objective.players["painter"].seen[0])
    near = float((image - batch["image"]).abs().mean())
    assert float(loss) == pytest.approx(10 * (1 + 2 + 3) * near, rel=1e-4)


def test_the_gate_leads_the_generator_and_learns_from_real_images_alone(batch):
    gate = Said(lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1))
    objective = painting(gate=gate, weights=Weights(0.0, 0.0, 0.0, 2.5))
    painted, *_ = losses = [*objective.losses(batch)]
    (made,), (real,) = gate.seen
    assert [who for who, _ in losses] == [("painter", "style"), "critic", "gate"]
    assert float(made.std()) < 1e-6 and float(real.std()) > 0.1
    kind = (real - batch["image"]).flatten(1).abs().amax(1) > 0  # 1 where the T2 was shown
    expected = nn.functional.cross_entropy(gate.answer(made), kind.long())
    judged = (
        objective.players["critic"].answer(objective.players["critic"].seen[1][0])[0][-1].mean()
    )
    assert float(painted[1]) == pytest.approx(float(2.5 * expected - judged), rel=1e-4)


def test_an_image_that_the_gate_refuses_is_painted_again_in_another_style():
    style = StyleEncoder((4, 4), 1, 2, 4, 1, kinds=2)
    style.keep(
        torch.arange(10.0)[:, None].expand(10, 2), torch.full((10, 2), 1e-3), torch.ones(10).long()
    )
    gate = Said(lambda x: torch.stack([3.5 - x.mean((1, 2, 3)), x.mean((1, 2, 3)) - 3.5], 1))
    objective = painting(gate=gate)
    objective.players["style"] = style
    objective.players["painter"] = Said(lambda m, z: m[:, :1] * 0 + z.mean(1).reshape(-1, 1, 1, 1))
    maps, seeds = torch.rand(12, 5, 4, 4), list(range(12))
    images, passed = objective.paint(maps, 1, seeds, attempts=20)
    assert passed.all() and float(images.min()) >= 3.4
    once, first = objective.paint(maps, 1, seeds, attempts=1)
    assert 0 < int(first.sum()) < 12
    torch.testing.assert_close(once[first], images[first])
    assert len({round(float(x), 2) for x in images.mean((1, 2, 3))}) > 3
    alone, _ = objective.paint(maps[5:6], 1, seeds[5:6], attempts=20)
    torch.testing.assert_close(alone[0], images[5])


# ------------------------------------------------------------------------------------------ pairs
def test_pairs_that_fail_the_gate_are_left_out_where_that_is_asked_for():
    def draw(batch):
        seeds = batch["seed"]
        return {
            "image": (seeds % 7 / 7.0).reshape(-1, 1, 1, 1),
            "mask": (seeds % 2).reshape(-1, 1, 1, 1),
            "passed": seeds % 2 == 0,
        }

    every, good = (made(draw, 20, 0, discard, batch=6) for discard in (False, True))
    assert len(every) == 20 and 2 <= len(good) < 20 and int(good.tensors["mask"].max()) == 0
    with pytest.raises(UserError, match="the gate let 0 of 3 made images through"):
        made(lambda batch: {**draw(batch), "passed": batch["seed"] < 0}, 3, 0, True)


def test_pairs_come_back_as_they_were_written_and_shuffled_ones_have_others_labels(tmp_path):
    tensors = {
        "image": torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8),
        "mask": torch.arange(5, dtype=torch.uint8)
        .reshape(5, 1, 1, 1)
        .expand(5, 1, 2, 2)
        .contiguous(),
    }
    pairs = Pairs(tensors)
    pairs.write(tmp_path / "pairs.safetensors")
    again = Pairs.read(tmp_path / "pairs.safetensors")
    assert again.fingerprint == pairs.fingerprint
    batch = again.batch([4, 0])
    torch.testing.assert_close(batch["image"], tensors["image"][[4, 0]].float() / 127.5 - 1)
    wrong = pairs.shuffled()
    assert torch.equal(wrong.tensors["image"], tensors["image"])
    assert not (wrong.tensors["mask"] == tensors["mask"]).any()
    both = Joined(pairs, wrong, ("mask",)).batch([7, 1, 5])["mask"]
    assert both[:, 0, 0, 0].tolist() == [1, 1, 4]


# ------------------------------------------------------------------------------------- the recipe
def test_flags_and_the_slice_are_told(recipe, cases):
    assert recipe.names == ("label_1", "height") and recipe.told_by == "both"
    batch, coded = cases.batch(range(12)), recipe.coded(cases).batch(range(12))
    told = recipe.conditions(coded)["vector"]
    assert torch.equal(told[:, 0], (batch["mask"] > 0).flatten(1).any(1).float())
    assert 0 < float(told[:, 0].mean()) < 1
    low, high = recipe.quantiles[1][0], recipe.quantiles[1][-1]
    torch.testing.assert_close(told[:, 1], (batch["height"] - low) / (high - low))


def test_a_flag_is_on_in_half_of_the_maps_drawn_unless_it_is_asked_for(recipe):
    values = recipe.values(torch.arange(400))
    assert set(values[:, 0].tolist()) == {0.0, 1.0}
    assert float(values[:, 0].mean()) == pytest.approx(0.5, abs=0.08)
    assert float(values[:, 1].std()) > 10
    asked = dataclasses.replace(recipe, covariates=("label_1=1",)).values(torch.arange(9))
    assert asked[:, 0].tolist() == [1.0] * 9


def test_auto_encoder_and_diffusion_learn_from_maps(recipe, cases):
    coded = recipe.coded(cases)
    assert set(coded.keys) == {"image", "label_1", "height"}
    batch = coded.batch([1, 4])
    torch.testing.assert_close(batch["image"], 2 * recipe.maps.of(cases.batch([1, 4])) - 1)
    assert batch["image"].shape[1] == recipe.channels == 5
    ((_, loss),) = recipe.objective().losses(batch)
    assert torch.isfinite(loss)


def test_the_paper_s_chain_is_ddim_with_the_noise_of_ancestral_steps():
    paper = BrainSPADE()
    assert (paper.sampler, paper.steps, paper.eta, paper.standardised) == ("ddim", 50, 1.0, "whole")
    betas = paper.schedule().betas
    assert float(betas[0]) == pytest.approx(0.0015) and float(betas[-1]) == pytest.approx(0.0195)
    assert float(betas.sqrt().diff().std()) < 1e-6


def test_the_paper_s_shapes(cases):
    facts = dataclasses.replace(
        cases.facts(), size=dict.fromkeys(MAP, (192, 256)), mask_size={"mask": (192, 256)}
    )
    recipe = BrainSPADE(also=("t2",), coder_width=8, painter_width=2, painter_hidden=4).fitted(
        facts
    )
    coder = recipe.coder()
    net = Painter(
        recipe.size, 5, 1, recipe.style, 2, recipe.painter_multiples, recipe.painter_blocks, 4
    )
    with torch.no_grad():
        code = coder.encode(torch.zeros(1, 5, 192, 256))[0]
        image = net.eval()(torch.zeros(1, 5, 192, 256), torch.zeros(1, 256))
    assert code.shape == (1, 3, 48, 64) and image.shape == (1, 1, 192, 256)
    assert net.first == (32, 6, 8) and sum(map(len, net.levels)) == 7
    assert sum(type(part).__name__ == "Attention" for part in coder.modules()) == 2


def test_images_that_cannot_be_told_apart_have_no_gate_and_are_learned(cases, tmp_path):
    recipe = BrainSPADE.tiny().fitted(cases.facts())
    objective = recipe.painting()
    assert "gate" not in objective.players
    before = [p.clone() for p in objective.players["painter"].parameters()]
    train(objective, Styled(cases, ("image",)), TrainOptions(steps=1, batch=2), tmp_path / "run")
    assert any(
        not torch.equal(a, b)
        for a, b in zip(before, objective.players["painter"].parameters(), strict=True)
    )


def test_modalities_of_other_channels_and_odd_sizes_are_refused(cases):
    facts = cases.facts()
    with pytest.raises(UserError, match="same number of channels, and image has 1, shares has 4"):
        dataclasses.replace(BrainSPADE.tiny(), also=("shares",)).fitted(facts)
    odd = dataclasses.replace(
        facts, size=dict.fromkeys(facts.size, (30, 33)), mask_size={"mask": (30, 33)}
    )
    with pytest.raises(UserError, match="--size 32 32"):
        BrainSPADE.tiny().fitted(odd)


# ---------------------------------------------------------------------------------- all its stages
def test_the_segmenter_learns_from_made_pairs_alone(trained, cases):
    opened = open_run(trained)
    recipe, objective = opened.recipe, opened.objective
    data = recipe.later_data(
        "segmenter", objective, cases.split("train"), trained / "none", 0, print
    )
    assert isinstance(data, Pairs) and len(data) == recipe.pairs
    kept = Pairs.read(trained / "segmenter/pairs.safetensors")
    assert set(kept.tensors) == {"image", "t2", "mask"}
    assert (
        kept.fingerprint
        in (trained / "segmenter/checkpoint").rglob("*.json").__next__().read_text()
    )
    shutil.rmtree(trained / "none", ignore_errors=True)


def test_pairs_are_drawn_from_seeds_and_flags(trained):
    opened = open_run(trained)
    request = {"seed": torch.tensor([3, 4])}
    one, two = (opened.recipe.drawn(opened.objective, request) for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert (
        one["image"].shape == one["t2"].shape == (2, 1, 32, 32) and one["mask"].dtype == torch.int64
    )
    maps = [
        opened.recipe.drawn_maps(
            opened.objective, {**request, "covariates": torch.tensor([[f, 0.0]] * 2)}
        )
        for f in (0.0, 1.0)
    ]
    torch.testing.assert_close(maps[0].sum(1), torch.ones(2, 32, 32))
    assert not torch.equal(*maps)


def test_its_prediction_is_the_segmenter_s(trained, cases):
    opened = open_run(trained)
    batch = cases.batch(range(3))
    found = opened.recipe.predict(opened.objective, batch)
    torch.testing.assert_close(found["probability"], opened.objective.segmenter.predict(batch))
    assert torch.equal(found["mask"], (found["probability"] >= 0.5).long())
    with pytest.raises(UserError, match="do not divide by"):
        part = {key: batch[key][..., :31] for key in ("image", "t2")}
        opened.recipe.predict(opened.objective, part)


def test_stages_that_are_done_are_found_again_and_others_go_on(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "segmenter")
    words = ["train", "brainspade", "--preset", "tiny", *WORDS, "--out", str(run)]
    assert cli.main([*words, "--resume"]) == 0
    same = [
        open_run(path).objective.segmenter.players["network"].state_dict()
        for path in (run, trained)
    ]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_stages_that_are_missing_or_of_another_run_are_told(trained, tmp_path, refused):
    shutil.copytree(trained, tmp_path / "run")
    words = ["predict", tmp_path / "run", "--out", tmp_path / "out"]
    model = tmp_path / "run/images/model.safetensors"
    model.unlink()
    assert "images: training has not finished" in refused(*words)
    shutil.copyfile(trained / "images/model.safetensors", model)
    manifest = tmp_path / "run/images/manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**told, "after": "0" * 64}))
    assert "was trained after another model.safetensors" in refused(*words)


def test_samples_are_pairs(trained, tmp_path):
    words = [
        "sample",
        str(trained),
        "--count",
        "2",
        "--covariates",
        "label_1=1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert set(found[0]["files"]) == {"image", "t2", "mask"}
    assert all((tmp_path / "out" / name).is_file() for name in found[0]["files"].values())
    assert [entry["covariates"]["label_1"] for entry in found] == [1.0, 1.0]


def test_what_is_drawn_again_is_told_by_its_last_seed(trained, tmp_path, monkeypatch):
    """The record said what the first draw was told, and the file showed another."""
    calls = []

    def near(self, images, rows):
        calls.append(rows)
        return [1] if len(calls) == 1 else []

    monkeypatch.setattr(Away, "_near", near)
    words = [
        "sample",
        str(trained),
        "--count",
        "3",
        "--away",
        "0.5",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert found[1]["redrawn"] == 1
    recipe = open_run(trained).recipe
    for entry in found:
        expected = recipe.values(torch.tensor([entry["seed"]]))[0].tolist()
        assert list(entry["covariates"].values()) == pytest.approx(expected)


def test_it_is_measured_beside_real_pairs_both_and_wrong_labels(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(looked, "COUNT", 6)
    words = ["evaluate", str(trained), "--out", str(tmp_path / "metrics.json")]
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert set(found["baselines"]) == {"real_only", "real_and_made", "shuffled"}
    assert found["baseline"] == found["baselines"]["real_only"]
    assert {"label_1_on", "label_1_ratio", "height_body", "t2_style", "image_gate"} <= set(
        found["made"]
    )
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "segmenters.png", "pairs.png", "styles.png",
    }  # fmt: skip


# --------------------------------------------------------------------------------- what is looked at
class Exact:
    """Paints every thing of a map in the intensity that the style says, and nothing else."""

    keys = ("image",)

    def __init__(self):
        self.players = {"style": self.style}

    def style(self, x):
        return self.read(x), None

    def painted(self, maps, style):
        return (maps[:, 1:] * style[:, :, None, None]).sum(1, keepdim=True) - maps[:, :1]

    def passes(self, images, kind):
        return torch.ones(len(images), dtype=torch.bool)


def test_content_and_style_that_are_apart_are_seen_to_be(recipe, cases, monkeypatch):
    monkeypatch.setattr(looked, "device_of", lambda objective: torch.device("cpu"))
    few = dataclasses.replace(recipe, soft=False)
    hard = few.maps.of(cases.batch(range(len(cases))))
    levels = torch.rand(len(cases), 4) * 1.6 - 0.8
    exact = Exact()
    images = exact.painted(hard, levels)
    exact.read = lambda x: torch.stack(
        [levels[(images - one).flatten(1).abs().amax(1) < 1e-6][0] for one in x]
    )
    column = dataclasses.replace(cases.columns["image"], data=images, range=(-1.0, 1.0))
    columns, ranges = {**cases.columns, "image": column}, {**cases.ranges, "image": (-1.0, 1.0)}
    shown = dataclasses.replace(cases, columns=columns, ranges=ranges)
    found = looked.disentangled(few, exact, shown, 8)
    assert found["image_style"]["mean"] > 0.999 and found["image_intensity"]["mean"] < 1e-3
    assert found["image_between_maps"]["mean"] < 1e-3 and found["image_gate"]["mean"] == 1
    assert found["image_edges"]["mean"] > found["image_edges_other"]["mean"] + 0.2
    exact.painted = lambda maps, style: maps[:, 2:3] - maps[:, :1]  # blind to the style
    blind = looked.disentangled(few, exact, shown, 8)
    assert "refused" in blind["image_style"] or abs(blind["image_style"]["mean"]) < 0.3


def test_maps_that_obey_are_seen_to(recipe, cases):
    class Obedient:
        maps, labels, names = recipe.maps, 1, recipe.names

        def values(self, seeds):
            return recipe.values(seeds)

        def drawn_maps(self, stages, asked):
            flag, height = asked["covariates"].T
            mask = torch.zeros(len(flag), 1, 32, 32, dtype=torch.int64)
            mask[:, :, :3, :4] = flag.long().reshape(-1, 1, 1, 1)
            mask[0, :, 9, 9] = 1
            rows = torch.arange(32).reshape(1, 1, 32, 1).expand(len(flag), 1, 32, 32)
            tissue = (rows < (16 + height / 6).reshape(-1, 1, 1, 1)).long()
            return Maps(3, 1, soft=False).of({"mask": mask, "tissue": tissue})

    found = looked.obeyed(Obedient(), None, cases, 0, 16)
    assert found["label_1_on"]["mean"] == pytest.approx(12 + 4 / 64)
    assert found["label_1_off"]["mean"] == pytest.approx(4 / 64)
    ratio = looked._ratio(torch.tensor([12.0, 10.0] * 8), torch.tensor([1.0, 0.0] * 8))
    assert ratio["mean"] == pytest.approx(22) and ratio["ci95"][0] < 22 < ratio["ci95"][1]
    assert "no map holds" in looked._ratio(torch.ones(4), torch.zeros(4))["refused"]
    assert found["label_1_there_on"]["mean"] == 1.0
    assert found["height_body"]["n"] == looked.COUNT


def test_a_correlation_has_fisher_s_interval():
    x = torch.arange(12.0)
    found = looked.pearson(x, x + torch.tensor([1.0, -1.0] * 6))
    from scipy.stats import pearsonr

    truth = pearsonr(x.numpy(), (x + torch.tensor([1.0, -1.0] * 6)).numpy())
    assert found["mean"] == pytest.approx(truth.statistic)
    assert found["ci95"] == pytest.approx(list(truth.confidence_interval(0.95)))
