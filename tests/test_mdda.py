"""MDDA: the card's checks on a toy, the pyramid by hand, attacks, what stands beside it, the command line."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from radiffuse import cli
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.other.mdda import MDDA
from radiffuse.applications.other.purification import attacks, baselines, evaluate, trial
from radiffuse.applications.other.purification.attacks import adaptive, ascent, fgsm, pgd, slope_of
from radiffuse.applications.other.purification.choosing import Seen, attacked, best, worth
from radiffuse.applications.other.purification.multiscale import aggregated, pyramid
from radiffuse.data.dataset import Facts, from_iterable
from radiffuse.data.transforms import cubic_weights, resize
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.schedule import EDM
from radiffuse.errors import UsageError, UserError
from radiffuse.inverse import Measurement
from radiffuse.inverse.compressed import Gradient, rof, total_variation
from radiffuse.operators import Identity
from radiffuse.operators.blur import blurred
from radiffuse.runs.run import open_run
from radiffuse.testing import GaussianDenoiser, check_recipe

SIDE, EPS = 64, 8 / 255
PLACES = torch.tensor([[0.3, 0.3], [0.3, 0.7], [0.7, 0.5]]) * SIDE
ROWS, COLUMNS = torch.meshgrid(*[torch.arange(SIDE).float()] * 2, indexing="ij")


class Toy(nn.Module):
    """Says where a blob is, and listens far too much to fine texture of three directions."""

    def __init__(self):
        super().__init__()
        squares = [(ROWS - a) ** 2 + (COLUMNS - b) ** 2 for a, b in PLACES.tolist()]
        where = torch.stack([torch.exp(-each / 162) for each in squares])
        fine = torch.tensor([[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 4
        self.where = nn.Parameter(where / where.sum((1, 2), keepdim=True))
        self.fine = nn.Parameter(fine[:, None])
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        blob, texture = (x * self.where).sum((2, 3)), F.conv2d(x, self.fine).abs().mean((2, 3))
        return 20 * (blob + 25 * texture)


def blobs(count=6, seed=2):
    draw, label = torch.Generator().manual_seed(seed), torch.arange(count) % 3
    centre = PLACES[label] + 4 * torch.randn(count, 2, generator=draw)
    far = (ROWS - centre[:, 0, None, None]) ** 2 + (COLUMNS - centre[:, 1, None, None]) ** 2
    grain = 0.02 * torch.randn(count, SIDE, SIDE, generator=draw)
    return (0.35 + 0.25 * torch.sigmoid(9 - far.sqrt()) + grain)[:, None].clamp(0, 1), label


@pytest.fixture(scope="module")
def toy():
    """A classifier, images, labels, seeds, and the images under PGD."""
    classifier, (x, label) = Toy(), blobs()
    seeds = list(range(len(x)))
    return classifier, x, label, seeds, pgd(classifier, x, label, EPS, 20, seeds)


def accuracy(classifier, x, label):
    with torch.no_grad():
        return float((classifier(x).argmax(1) == label).float().mean())


def made(**changes):
    return dataclasses.replace(MDDA(), **{"tv_iterations": 8, **changes})


# ------------------------------------------------------------------------------- the card's checks
def test_attacked_images_are_told_again_and_clean_ones_still_are(toy):
    classifier, x, label, seeds, hit = toy
    assert accuracy(classifier, x, label) > 0.95 and accuracy(classifier, hit, label) < 0.2
    assert accuracy(classifier, made().purified(hit, seeds), label) >= 0.6
    assert accuracy(classifier, made().purified(x, seeds), label) >= 0.9


def test_scales_neighbours_and_repetition_each_help(toy):
    """At a strength where little is removed. Noise alone does not help on this toy, which is measured, not assumed."""
    classifier, _, label, seeds, hit = toy

    def after(**changes):
        return accuracy(classifier, made(strength=0.06, **changes).purified(hit, seeds), label)

    whole = after()
    assert whole > 0.8
    assert after(scales=(1.0,)) < whole - 0.3
    assert after(aggregation=(0.0, 1.0, 0.0)) < whole - 0.03
    assert after(repeats=1) < whole - 0.3


def test_what_the_attack_added_to_high_frequencies_goes(toy):
    _, x, _, seeds, hit = toy

    def high(change):
        return float((change - blurred(change, 5)).square().mean().sqrt())

    purify = made().purified
    assert high(purify(hit, seeds) - purify(x, seeds)) < 0.1 * high(hit - x)


def test_the_contrast_of_an_edge_stays():
    x = torch.where(COLUMNS < SIDE / 2, 0.3, 0.7)[None, None]
    seen = made().purified(x, [0])[0, 0, SIDE // 2]
    assert float(seen[SIDE * 3 // 4] - seen[SIDE // 4]) >= 0.8 * 0.4
    assert float(seen[SIDE // 2 + 3] - seen[SIDE // 2 - 4]) >= 0.8 * 0.4


def test_no_classifier_and_no_parameter_is_asked(toy):
    classifier, x, _, seeds, _ = toy
    before = classifier.calls
    assert not made(tv_iterations=1).purified(x[:1], seeds[:1]).requires_grad
    assert classifier.calls == before
    assert all(each.grad is None for each in classifier.parameters()), "attacks leave no gradient"


def test_the_preset_paper_is_the_card_s():
    """Figure 1: the image, a half, a quarter and twice its size."""
    paper = MDDA()
    assert paper.scales == (2.0, 1.0, 0.5, 0.25)
    assert (paper.repeats, paper.sigma, paper.tv_weight, paper.tv_iterations) == (3, 0.03, 0.05, 30)
    assert (paper.aggregation, paper.smooth) == ((0.25, 0.5, 0.25), 0.5)


# ------------------------------------------------------------------------------ total variation
def noisy(*shape):
    return 0.5 + 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()


def test_rof_is_total_variation_of_an_identity():
    y = noisy(1, 2, 5, 7)
    exact = total_variation(Measurement(y, Identity(), 1.0), y, 0.05, tolerance=1e-5)
    torch.testing.assert_close(rof(y, 0.05, 100), exact, atol=1e-3, rtol=0)


def test_rof_lowers_its_energy_from_the_image_on():
    y, weight = noisy(1, 1, 12, 12), 0.1
    start, *energies = [
        float((x - y).square().sum() / 2 + weight * Gradient()(x).norm(dim=1).sum())
        for x in (y, *(rof(y, weight, count) for count in (1, 5, 20, 100)))
    ]
    assert [start, *energies] == sorted([start, *energies], reverse=True) and energies[-1] < start


def test_rof_of_no_weight_of_much_and_of_nothing_to_do():
    y, flat = noisy(2, 1, 6, 6), torch.full((1, 2, 5, 5), 0.3)
    assert torch.equal(rof(y, 0.0), y)
    mean = y.mean((2, 3), keepdim=True).expand_as(y)
    torch.testing.assert_close(rof(y, 50.0, 1000), mean, atol=1e-2, rtol=0)
    torch.testing.assert_close(rof(flat, 0.5), flat)
    torch.testing.assert_close(rof(y[1:], 0.1), rof(y, 0.1)[1:], atol=0, rtol=0)


# ----------------------------------------------------------------------------------- the pyramid
def test_smooth_images_survive_a_larger_copy():
    wave = torch.sin(2 * torch.pi * (ROWS + 2 * COLUMNS) / 32)[None, None]
    back = resize(resize(wave, (128, 128), cubic=True), (64, 64))
    inside = (back - wave)[..., 4:-4, 4:-4].square().mean().sqrt() / wave.square().mean().sqrt()
    assert float(-20 * inside.log10()) > 40


@pytest.mark.parametrize(("old", "new"), [(8, 16), (9, 13), (5, 6)])
def test_enlarging_is_cubic_convolution(old, new):
    """torch's with antialias has the same kernel, and other edges."""
    weights = cubic_weights(old, new).float()
    torch.testing.assert_close(weights.sum(1), torch.ones(new))
    line = torch.eye(old)[None, None]
    theirs = F.interpolate(line, (new, old), mode="bicubic", antialias=True)[0, 0]
    edge = 2 * new // old + 1
    torch.testing.assert_close(weights[edge:-edge], theirs[edge:-edge], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(33, 20), (7, 5), (1, 6), (6, 7, 5)])
def test_odd_sizes_come_back_and_volumes_too(size):
    x = torch.rand(2, 3, *size)
    larger, smaller = pyramid(x, (2.0, 0.25))
    assert tuple(larger.shape[2:]) == tuple(2 * side for side in size)
    assert tuple(smaller.shape[2:]) == tuple(max(1, round(side / 4)) for side in size)
    assert made(tv_iterations=1).purified(x, [0, 1]).shape == x.shape


def test_small_copies_are_means():
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(pyramid(x, (0.25,))[0], F.avg_pool2d(x, 4))


def test_a_level_is_mixed_with_the_finer_and_the_coarser_one_and_ends_are_renormalised():
    levels = [
        torch.full((1, 1, side, side), value) for side, value in ((8, 0.1), (4, 0.4), (2, 0.8))
    ]
    fine, middle, coarse = aggregated(levels, (0.1, 0.5, 0.4))
    torch.testing.assert_close(fine, torch.full((1, 1, 8, 8), (0.5 * 0.1 + 0.4 * 0.4) / 0.9))
    torch.testing.assert_close(middle, torch.full((1, 1, 4, 4), 0.1 * 0.1 + 0.5 * 0.4 + 0.4 * 0.8))
    torch.testing.assert_close(coarse, torch.full((1, 1, 2, 2), (0.1 * 0.4 + 0.5 * 0.8) / 0.6))


def test_two_blocks_by_hand():
    """Noise, total variation, aggregation, twice; then the mean of both scales, smoothed."""
    x = torch.rand(2, 1, 8, 8)
    recipe = made(scales=(1.0, 0.5), repeats=2, sigma=0.1, tv_weight=0.2, strength=0.5, smooth=0.7)
    recipe = dataclasses.replace(recipe, aggregation=(0.2, 0.6, 0.2), tv_iterations=7)
    got = recipe.purified(x, [4, 5])
    noise = Seeded([attacks.derive(seed, "purify") for seed in (4, 5)])
    large, small = x, F.avg_pool2d(x, 2)
    for _ in range(2):
        large = rof(large + 0.05 * noise(large), 0.1, 7)
        small = rof(small + 0.05 * noise(small), 0.1, 7)
        up, down = resize(small, (8, 8), cubic=True), F.avg_pool2d(large, 2)
        large = ((0.6 * large + 0.2 * up) / 0.8).clamp(0, 1)
        small = ((0.6 * small + 0.2 * down) / 0.8).clamp(0, 1)
    mean = (large + resize(small, (8, 8), cubic=True)) / 2
    want = blurred(mean, 0.7 * 2.3548).clamp(0, 1)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
    torch.testing.assert_close(recipe.purified(x[1:], [5]), want[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scales": (1.0, 2.0)}, "--scales must fall from the finest on"),
        ({"aggregation": (0.5, 0.5)}, "--aggregation needs three weights"),
        ({"aggregation": (0.5, 0.0, 0.5)}, "--aggregation needs three weights"),
        ({"sigma": -0.1}, "--sigma must be at least 0"),
        ({"eps": 256.0}, "--eps must be between 0 and 255"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        made(**change)


# --------------------------------------------------------------------------------------- attacks
class Linear(nn.Module):
    def forward(self, x):
        w = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 2.0]])
        return x.flatten(1) @ w.T


def test_one_step_is_the_sign_of_the_gradient_within_the_range():
    x, label = torch.tensor([[[0.5, 0.02, 0.99]]]), torch.tensor([0])
    got = fgsm(Linear(), x, label, 0.1)
    torch.testing.assert_close(got, torch.tensor([[[0.4, 0.12, 1.0]]]))


def test_many_steps_stay_in_the_box_begin_anywhere_in_it_and_do_not_depend_on_the_batch(toy):
    classifier, x, label, seeds, hit = toy
    assert (
        float((hit - x).abs().max()) <= EPS + 1e-6
        and 0 <= float(hit.min()) <= float(hit.max()) <= 1
    )
    begun = pgd(classifier, x, label, EPS, 1, seeds) - fgsm(classifier, x, label, EPS)
    assert float(begun.abs().max()) > 0, "from a random place"
    alone = pgd(classifier, x[3:4], label[3:4], EPS, 20, seeds[3:4])
    assert float((alone - hit[3:4]).abs().gt(1e-4).float().mean()) < 0.01


def test_the_gradient_through_a_defence_is_that_at_what_it_makes_over_new_draws(toy):
    classifier, x, label, seeds, _ = toy
    asked = []

    def defence(image, its):
        asked.append(tuple(its))
        return image * 0.5 + 0.1

    slope = attacks.slope_through(defence, classifier, label, seeds, draws=3)
    torch.testing.assert_close(slope(x), slope_of(classifier, label)(x * 0.5 + 0.1))
    slope(x)
    assert len(set(asked)) == 6, "draws are new in each step"
    assert not {seed for its in asked for seed in its} & set(seeds), "never those that are measured"


def test_an_attacker_who_knows_a_defence_gets_through_it(toy):
    classifier, x, label, seeds, hit = toy

    def defence(image, _):
        return blurred(image, 3)

    assert accuracy(classifier, defence(hit, seeds), label) > 0.9
    through = adaptive(defence, classifier, x, label, 3 * EPS, 20, seeds, 1)
    oblivious = pgd(classifier, x, label, 3 * EPS, 20, seeds)
    assert accuracy(classifier, defence(through, seeds), label) < accuracy(
        classifier, defence(oblivious, seeds), label
    )


def test_auto_pgd_is_in_the_box_repeats_itself_and_leaves_numpy_s_numbers_alone(toy):
    classifier, x, label, _, _ = toy
    before = np.random.get_state()[1].copy()
    first, second = (attacks.auto_pgd(classifier, x, label, EPS, 5, 3, seed=7) for _ in range(2))
    assert torch.equal(first, second) and (np.random.get_state()[1] == before).all()
    assert float((first - x).abs().max()) <= EPS + 1e-6
    assert accuracy(classifier, first, label) < 0.2


def test_without_its_library_auto_pgd_says_what_to_install(toy, monkeypatch):
    classifier, x, label, *_ = toy
    monkeypatch.setitem(sys.modules, "art", None)
    assert not attacks.has_auto_pgd()
    with pytest.raises(UserError, match=r"pip install 'radiffuse\[attacks\]'"):
        attacks.auto_pgd(classifier, x, label, EPS, 1, 3)


@pytest.mark.parametrize("image", [torch.full((1, 1, 8, 8), 1.5), torch.full((1, 1, 8, 8), -0.1)])
def test_images_of_another_range_are_refused(image):
    for refuses in (
        lambda: made().purified(image, [0]),
        lambda: ascent(lambda x: x, image, EPS, 1, EPS),
    ):
        with pytest.raises(UserError, match=r"images in \[0, 1\], and these hold"):
            refuses()


# ------------------------------------------------------------------------- what stands beside it
def test_a_median_takes_single_voxels_out_and_keeps_edges():
    x = torch.where(COLUMNS < 30, 0.2, 0.8)[None, None].repeat(1, 2, 1, 1)
    spoiled = x.clone()
    spoiled[0, 0, 5, 5] = 1.0
    assert torch.equal(baselines.median(spoiled, 3), x)


def test_fewer_bits_are_fewer_values():
    assert len(baselines.quantised(torch.rand(1, 1, 32, 32), 2).unique()) == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_fine_things_first(channels):
    smooth = blurred(torch.rand(2, channels, 32, 32), 6)
    near, far = ((baselines.jpeg(smooth, quality) - smooth).abs().mean() for quality in (95, 10))
    assert float(near) < 0.01 and float(near) < float(far)


def test_jpeg_is_of_pictures_alone():
    assert "jpeg" in baselines.filters((3, 8, 8))
    assert not {"jpeg"} & (
        baselines.filters((2, 8, 8)).keys() | baselines.filters((1, 8, 8, 8)).keys()
    )


class Prior:
    channels, size = 1, (8, 8)

    def denoiser(self, objective):
        return GaussianDenoiser(EDM(), objective, 0.1)


def test_diffusion_brings_an_image_to_the_prior_the_more_the_higher_its_level():
    x = torch.full((1, 1, 8, 8), 0.9)
    mean = torch.zeros(1, 8, 8)
    of = baselines.through_prior(Prior(), mean, (1, 8, 8))
    near, far = (float(of(level)(x, [3]).mean()) for level in (0.05, 0.8))
    assert abs(far - 0.5) < 0.1 < abs(near - 0.5)
    with pytest.raises(UserError, match="prior was trained on images of 1 x 8 x 8"):
        baselines.through_prior(Prior(), mean, (1, 16, 16))


# ------------------------------------------------------------------------ what validation chooses
def test_settings_are_chosen_by_balanced_accuracy_not_by_accuracy():
    """Nine of ten images are of class 0: to see nothing of an image would be right in 90 %."""

    class ByMean(nn.Module):
        def forward(self, x):
            return torch.stack([0.5 - x.mean((1, 2, 3)), x.mean((1, 2, 3)) - 0.5], 1)

    label = torch.tensor([0] * 9 + [1])
    x = torch.tensor([0.2] * 6 + [0.6] * 3 + [0.9]).view(-1, 1, 1, 1)
    seen = [Seen(x, x, label, list(range(10)))]
    nothing, all_ = (lambda x, _: x * 0), (lambda x, _: x)
    assert worth(nothing, ByMean(), seen, 2) == pytest.approx(0.5)
    assert worth(all_, ByMean(), seen, 2) == pytest.approx((6 / 9 + 1) / 2)
    assert best((nothing, all_), lambda defence: defence, ByMean(), seen, 2) is all_


def test_the_strength_is_the_best_under_pgd_of_the_undefended(toy, monkeypatch):
    classifier, x, label, seeds, hit = toy
    batch = {"image": 2 * x - 1, "label": label, "seed": torch.tensor(seeds)}
    (seen,) = attacked(classifier, [batch], EPS, 20)
    torch.testing.assert_close(seen.attacked, hit, atol=1e-4, rtol=0)
    monkeypatch.setattr(MDDA, "STRENGTHS", (0.0, 0.125))

    class Objective:
        def __init__(self):
            self.players = {"network": classifier}

    monkeypatch.setattr("radiffuse.applications.other.mdda.OfUnit", lambda network: network)
    assert made(classes=3, strength=9.0).calibrated(Objective(), [batch]).strength == 0.125


# ------------------------------------------------------------------------------------ the recipe
def facts(classes=3, channels=1, size=(12, 10)):
    return Facts(
        ("image", "label"), {"image": channels}, {"image": size}, classes, (), 0.5, 0.0, 1.0, 8
    )


def test_conformance():
    batch = {"image": torch.rand(6, 1, 12, 10) * 2 - 1, "label": torch.arange(6) % 3}
    check_recipe(MDDA, facts(), batch)


def test_without_labels_there_is_no_classifier():
    with pytest.raises(UserError, match="the data have no labels"):
        MDDA.tiny().fitted(facts(classes=0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on colour pictures of three classes, a file of arrays."""
    folder, draw = tmp_path_factory.mktemp("mdda"), np.random.default_rng(0)
    np.savez(
        folder / "tiles.npz",
        image=draw.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8),
        label=np.arange(30) % 3,
        patient=np.array([f"p{k // 3}" for k in range(30)]),
        split=np.array(["train"] * 18 + ["val"] * 6 + ["test"] * 6),
    )
    words = ["train", "mdda", "--preset", "tiny", "--data", str(folder / "tiles.npz")]
    assert cli.main([*words, "--train.steps", "3", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_strength_is_of_validation_images_and_may_be_set(run):
    kept = json.loads((run / "calibration.json").read_text())
    assert kept["split"] == ["val"] and kept["strength"] in MDDA.STRENGTHS
    opened = open_run(run)
    assert opened.recipe.strength == kept["strength"]
    assert opened.with_settings({"strength": "3"}).recipe.strength == 3


def test_predict_writes_the_purified_image_and_its_class(run, tmp_path):
    assert cli.main(["predict", str(run), "--out", str(tmp_path / "made")]) == 0
    record = json.loads((tmp_path / "made" / "predictions.json").read_text())
    case = record["predictions"][0]
    assert (
        set(case["files"]) == {"purified"}
        and (tmp_path / "made" / case["files"]["purified"]).is_file()
    )
    assert sum(case["values"]["probability"]) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def measured(run):
    """An evaluation beside a prior, and what it drew."""
    prior, data = run.parent / "prior", run.parent / "tiles.npz"
    words = ["train", "ddpm", "--preset", "tiny", "--data", str(data), "--train.steps", "1"]
    assert cli.main([*words, "--out", str(prior)]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "has_auto_pgd", lambda: False)
        patch.setattr(baselines, "LEVELS", (0.1,))
        assert cli.main(["evaluate", str(run), "--prior", str(prior)]) == 0
    return json.loads((run / "metrics.json").read_text())


def test_evaluate_measures_every_defence_under_every_attack(run, measured):
    others = ("undefended", "median", "jpeg", "bits", "diffusion")
    ablations = ("no_noise", "no_aggregation", "single_scale", "commonest_class")
    assert set(measured["baselines"]) == {*others, *ablations}
    assert measured["baseline"] == measured["baselines"]["median"]
    for who in (measured["method"], *map(measured["baselines"].get, others)):
        for kind in ("", "_fgsm", "_pgd", "_adaptive"):
            assert "mean" in who[f"accuracy{kind}"] and "mean" in who[f"balanced_accuracy{kind}"]
    assert "pip install" in measured["method"]["accuracy_apgd"]["refused"]
    assert set(measured["settings"]["chosen"]) == {"median", "jpeg", "bits", "diffusion"}
    assert (run / "pictures" / "purification.png").is_file()
    assert cli.main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "balanced accuracy, known defence" in page and "clean, attacked by PGD, purified" in page


def test_an_attack_on_a_classifier_of_other_classes_is_refused(run):
    def cases(names, size=8, labels=(0, 1)):
        items = [
            {
                "image": torch.rand(3, size, size),
                "label": label,
                "split": split,
                "patient": f"{label}{split}",
            }
            for label in labels
            for split in ("train", "test")
        ]
        found = from_iterable(items, range=(0, 1))
        return dataclasses.replace(found, class_names=names) if names else found

    opened = open_run(run)
    recipe = dataclasses.replace(opened.recipe, classes=2)

    def measure(held_out):
        train = cases(("benign", "malignant"))
        return evaluate.evaluate_purification(recipe, opened.objective, train, held_out, Asked())

    with pytest.raises(UserError, match="has label 2, but the model knows the 2 classes 0 to 1"):
        measure(cases((), labels=(0, 2)))
    with pytest.raises(
        UserError, match="its classes are normal, pneumonia, and the classifier was"
    ):
        measure(cases(("normal", "pneumonia")))
    with pytest.raises(UserError, match="the model was trained on 3 x 8 x 8; use --size 8 8"):
        measure(cases((), size=12))


def test_a_prior_is_for_purification_and_of_the_same_images(run, measured, refused):
    prior = run.parent / "prior"
    assert "--prior: ddpm is compared with no prior" in refused("evaluate", prior, "--prior", prior)
    assert "mdda is no prior of images" in refused("evaluate", run, "--prior", run)
