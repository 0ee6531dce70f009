"""Anomaly detection: AnoDDPM's chain, metrics, baselines, evaluation, and the command line."""

import dataclasses
import json
import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from radiffuse import cli, papers
from radiffuse.applications.anomaly import baselines as baselines
from radiffuse.applications.anomaly import evaluate as evaluation
from radiffuse.applications.anomaly.anoddpm import AnoDDPM
from radiffuse.applications.anomaly.baselines import Found
from radiffuse.applications.anomaly.evaluate import IMAGE_RATE, Truth, _measure, _top
from radiffuse.applications.anomaly.task import ANOMALY, is_healthy, labels_of
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.task import Task
from radiffuse.data.dataset import open_cases
from radiffuse.data.facts import Facts
from radiffuse.data.files import read_json
from radiffuse.data.formats.by_ending import read_image
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.simplex import Simplex
from radiffuse.errors import UserError
from radiffuse.metrics import detection, features
from radiffuse.metrics.detection import fitted_threshold
from radiffuse.metrics.estimate import proportion, resamples
from radiffuse.metrics.overlap import dice
from radiffuse.testing import check_recipe

BRAINS = "brains:count=60,size=16,lesions=0.5,label=lesion"
MAPPING = {"image": "t2", "mask": "lesion"}


@pytest.fixture(scope="module")
def cases():
    return open_cases(BRAINS, mapping=MAPPING)


@pytest.fixture(scope="module")
def recipe(cases):
    return AnoDDPM.tiny().fitted(cases.facts())


class Healthy(Denoiser):
    """Says that every image is this one, and counts how often it is asked."""

    def __init__(self, schedule, image):
        super().__init__()
        self.schedule, self.image, self.times = schedule, image, []

    def forward(self, x_t, t):
        self.times.append(float(t))
        return self.image.expand_as(x_t)


# ------------------------------------------------------------------------------------- AnoDDPM
def test_the_paper_s_settings():
    paper = AnoDDPM()
    assert (paper.octaves, paper.decay, paper.wavelength) == (6, 0.8, 64.0)
    assert (paper.depth, paper.steps, paper.trained) == (0.25, 250, 0.8)
    assert (paper.threshold, paper.level, paper.noise) == ("fixed", 0.5, "simplex")
    abar = paper.schedule().alpha(torch.tensor([0.2, 0.25])) ** 2
    assert abar.tolist() == pytest.approx([0.6590, 0.5241], abs=2e-3)


def test_where_it_is_not_said_the_noise_begins_at_a_quarter_of_the_side_as_in_the_paper():
    """64 of 256 pixels. Coarser noise than lesions leaves them where they are."""
    for size, wavelength in (((64, 64), 16.0), ((256, 256), 64.0), ((96, 48), 12.0)):
        facts = Facts(("image",), {"image": 1}, {"image": size}, 0, (), 0.5, 0.0, 1.0, 4)
        fitted = AnoDDPM.small().fitted(facts)
        assert fitted.wavelength == fitted.simplex().wavelength == wavelength
    assert AnoDDPM(wavelength=9.0).fitted(facts).wavelength == 9.0


def test_only_part_of_the_chain_is_trained_and_walked(cases, recipe):
    """All t in training lie below 800 of 1000; a reconstruction asks the network lambda times."""
    paper = dataclasses.replace(recipe, trained=0.8, steps=250)
    objective = paper.objective()
    torch.manual_seed(0)
    t = objective.times(20_000) * 1000
    assert torch.equal(t, t.round()) and t.min() == 1 and t.max() == 800
    image = torch.full((1, 1, 16, 16), 0.3)
    heard = Healthy(paper.schedule(), image)
    objective.network = heard
    asked = cases.batch([0, 1])
    paper.counterpart(objective, {**asked, "seed": torch.tensor([1, 2])})
    assert [round(1000 * time) for time in heard.times] == list(range(250, 0, -1))


def test_an_estimate_that_leaves_the_range_is_clipped_before_it_is_used(recipe):
    """A network that errs by a third says 1.2; the chain goes on as if it had said 1."""
    plain = dataclasses.replace(recipe, noise="gaussian", timesteps=1000, depth=0.25, steps=4)
    objective, heard = plain.objective(), []

    class Errs(Healthy):
        def forward(self, x_t, t):
            heard.append((x_t, t))
            return super().forward(x_t, t)

    image = torch.full((1, 1, 16, 16), 0.9)
    for said in (1.2, 1.0):
        objective.network = Errs(plain.schedule(), torch.full((1, 1, 16, 16), said))
        made = plain.counterpart(objective, {"image": image, "seed": torch.tensor([3])})
        assert torch.allclose(made, torch.ones_like(image), atol=1e-6), said
    first, second = heard[:4], heard[4:]
    assert len(second) == 4
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))


def test_a_step_back_draws_the_larger_variance():
    """beta between two times (fixed-large), not the posterior's, 0.476 against 0.0001 here."""
    recipe = AnoDDPM(channels=1, size=(64, 64), data_std=0.5, noise="gaussian", depth=0.25, steps=2)
    heard = []

    class Hears(Healthy):
        def forward(self, x_t, t):
            heard.append((float(t), x_t))
            return super().forward(x_t, t)

    image = torch.zeros(1, 1, 64, 64)
    network = Hears(recipe.schedule(), image)
    objective = SimpleNamespace(network=network, players={"network": network})
    recipe.counterpart(objective, {"image": image, "seed": torch.tensor([1])})
    (high, _), (low, x_low) = heard
    assert (high, low) == (0.25, 0.001)
    alpha, before = recipe.schedule().alpha(torch.tensor([high, low]))
    assert float(x_low.var()) == pytest.approx(float(1 - (alpha / before) ** 2), rel=0.05)


def test_the_default_octaves_are_as_far_apart_as_the_papers(cases):
    """Six octaves from 64 pixels, each half the wavelength and 0.8 of the amplitude of the one before."""
    noise = AnoDDPM().simplex()
    assert noise == Simplex(6, 0.8, 64.0)
    torch.manual_seed(0)
    field = noise(torch.zeros(8, 1, 64, 64))
    power = torch.fft.fft2(field).abs().square().mean((0, 1))
    long, short = power[0, 1] + power[1, 0], power[0, 16] + power[16, 0]
    assert float(long / short) > 20, "wavelengths of 64 and of 4 pixels"


def test_noise_is_simplex_in_training_forward_and_back(cases, recipe, monkeypatch):
    drawn = []
    plain = Simplex._fields

    def counted(self, like, offsets, choose):
        drawn.append(self)
        return plain(self, like, offsets, choose)

    monkeypatch.setattr(Simplex, "_fields", counted)
    objective = recipe.objective()
    list(objective.losses(cases.batch(range(2))))
    assert drawn == [Simplex(4, 0.8, 16.0)], "one field for a batch, of the recipe's octaves"
    drawn.clear()
    recipe.predict(objective, {**cases.batch([0]), "seed": torch.tensor([1])})
    assert len(drawn) == 1 + recipe.steps, "one draw up, one at every step down"
    drawn.clear()
    gaussian = dataclasses.replace(recipe, noise="gaussian")
    gaussian.predict(gaussian.objective(), {**cases.batch([0]), "seed": torch.tensor([1])})
    assert not drawn


def test_the_target_is_the_very_noise_that_was_added(cases, recipe):
    """A network that knows x_0 has no loss, whatever the spectrum of the noise."""
    objective = dataclasses.replace(recipe, predicts="clean", preconditioned=False).objective()
    batch = cases.batch(range(3))

    class Knows(torch.nn.Module):
        def forward(self, x, clock):
            return batch["image"] + 0 * x

    objective.players["network"] = Knows()
    ((_, loss),) = objective.losses(batch)
    assert float(loss) < 1e-8


def test_the_noise_that_hides_an_image_is_the_recipe_s(cases, recipe, monkeypatch):
    """What the network sees less what it was is the field that was drawn; that field is the target."""
    drawn, seen = [], []
    plain = Simplex.__call__
    monkeypatch.setattr(
        Simplex, "__call__", lambda self, like: drawn.append(plain(self, like)) or drawn[-1]
    )
    recipe = dataclasses.replace(recipe, predicts="noise", preconditioned=False)
    objective, batch = recipe.objective(), cases.batch(range(3))
    t = torch.tensor([0.1, 0.2, 0.4])
    objective.times = lambda count: t
    objective.players["network"].register_forward_hook(
        lambda module, given, out: seen.append(given[0])
    )
    list(objective.losses(batch))
    alpha, sigma = recipe.schedule()(t, batch["image"])
    ((field,), (x_t,)) = drawn, seen
    assert torch.allclose((x_t - alpha * batch["image"]) / sigma, field, atol=1e-4)

    class Knows(torch.nn.Module):
        def forward(self, x, clock):
            return drawn[1]

    objective.players["network"] = Knows()
    ((_, loss),) = objective.losses(batch)
    assert float(loss) == 0


def test_the_chain_begins_at_the_image(recipe):
    """The first state is the image under the noise of `depth`, so that what stands out there still does."""
    objective = recipe.objective()
    image = torch.full((1, 1, 16, 16), -0.5)
    image[..., 4:12, 4:12] = 0.5
    states = []

    class Hears(Healthy):
        def forward(self, x_t, t):
            states.append(x_t)
            return super().forward(x_t, t)

    for shown in (image, -image):
        objective.network = Hears(recipe.schedule(), 0 * image)
        recipe.counterpart(objective, {"image": shown, "seed": torch.tensor([1])})
    alpha = recipe.schedule().alpha(torch.tensor(recipe.depth).double()).float()
    first, second = states[0], states[recipe.steps]
    assert torch.allclose(first - second, 2 * alpha * image, atol=1e-5), "the same field on both"


def test_several_counterparts_are_drawn_apart(recipe):
    """The mean of two draws is of two fields: neither is the first alone."""
    torch.manual_seed(0)
    objective = recipe.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    asked = {"image": torch.zeros(2, 1, 16, 16), "seed": torch.tensor([1, 2])}
    one, two = (
        dataclasses.replace(recipe, draws=draws).counterpart(objective, asked) for draws in (1, 2)
    )
    assert (one - two).abs().max() > 1e-3


def test_nothing_is_learned_inside_lesions_where_regions_are_what_is_healthy(cases, recipe):
    regions = dataclasses.replace(recipe, learns="regions")
    objective = regions.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    batch = cases.batch(range(12))
    heard = []

    def hear(module, told, out):
        out.register_hook(heard.append)

    objective.players["network"].register_forward_hook(hear)
    ((_, loss),) = objective.losses(batch)
    loss.backward()
    lesion = (batch["mask"] > 0).expand_as(heard[0])
    assert lesion.any() and heard[0][lesion].abs().max() == 0
    assert heard[0][~lesion].abs().min() > 0
    assert regions.suitable(batch).all() and not recipe.suitable(batch).all()


def test_map_mask_and_score_of_a_known_counterpart(cases, recipe):
    """The map is the squared difference, the mask its part above 0.5, the score its top."""
    objective = recipe.objective()
    base = torch.full((1, 1, 16, 16), -0.2)
    objective.network = Healthy(recipe.schedule(), base)
    image = base.clone()
    image[..., 4:8, 4:8] += 0.9
    image[..., 0, 0] += 0.5
    found = recipe.predict(objective, {"image": image, "seed": torch.tensor([1])})
    assert torch.allclose(found["healthy"], base, atol=1e-5)
    assert torch.allclose(found["anomaly"], (image - base) ** 2, atol=1e-5)
    assert found["mask"].sum() == 16 and bool(found["mask"][0, 0, 4:8, 4:8].all())
    assert float(found["score"]) == pytest.approx(0.81, abs=1e-3)
    assert found["mask"].dtype == torch.int64


def test_a_prediction_does_not_depend_on_its_batch(cases, recipe):
    torch.manual_seed(0)
    objective = recipe.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    image, seeds = cases.batch(range(4))["image"], torch.tensor([5, 6, 7, 8])
    together = recipe.predict(objective, {"image": image, "seed": seeds})["healthy"]
    alone = recipe.predict(objective, {"image": image[2:3], "seed": seeds[2:3]})["healthy"]
    assert torch.allclose(together[2:3], alone, atol=2e-4)


def test_conformance_3d():
    volumes = open_cases("brains3d:count=4,size=8,lesions=0.5", mapping=MAPPING)
    check_recipe(AnoDDPM, volumes.facts(), volumes.batch(range(3)), steps=4)


def test_only_healthy_cases_are_suitable(cases, recipe):
    batch = cases.batch(range(len(cases)))
    empty = ~batch["mask"].flatten(1).any(1)
    assert torch.equal(recipe.suitable(batch), empty) and 0 < int(empty.sum()) < len(empty)
    labels = {"image": batch["image"], "label": batch["label"]}
    assert torch.equal(is_healthy(labels, 1), batch["label"] == 1)
    assert torch.equal(
        labels_of({"image": batch["image"], "mask": batch["mask"]}, 0), (~empty).long()
    )


# ------------------------------------------------------------------------------------- metrics
def test_ranking_is_scikit_learns_with_an_interval():
    torch.manual_seed(0)
    truth = torch.arange(120) % 3 == 0
    scores = torch.randn(120) + truth
    found = detection.ranking(scores, truth, [f"p{k // 2}" for k in range(120)])
    assert found["auroc"]["mean"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["average_precision"]["mean"] == pytest.approx(
        average_precision_score(truth, scores)
    )
    low, high = found["auroc"]["ci95"]
    assert low < found["auroc"]["mean"] < high and 0.08 < high - low < 0.35
    assert found["auroc"]["n"] == 60


def voxels(share, patients=20, images=2, side=16):
    """Maps and truth (n, 1, side, side) of noise with a few brighter lesions, and whose they are."""
    draw = torch.Generator().manual_seed(0)
    shape = (patients * images, 1, side, side)
    truth = torch.rand(shape, generator=draw) < share
    seen = 3 + torch.randn(len(truth), 1, 1, 1, generator=draw)
    maps = (torch.randn(shape, generator=draw) + seen * truth).round(decimals=2)  # with ties
    return maps, truth, [f"p{k // images}" for k in range(len(truth))]


@pytest.mark.parametrize("share", [1e-3, 0.3])
def test_every_replica_of_the_bootstrap_is_scikit_learns(share):
    """Patients drawn several times or not at all are weights of their voxels."""
    maps, truth, patients = voxels(share)
    times = torch.stack([torch.bincount(row, minlength=20) for row in resamples(20, 8)]).double()
    found = detection._areas(*detection._by_patient(maps, truth, patients), times)
    for row, (auroc, precision) in zip(times, found.tolist(), strict=True):
        weights = row.repeat_interleave(2)[:, None, None, None].expand_as(maps).flatten()
        told = {"y_true": truth.flatten(), "y_score": maps.flatten(), "sample_weight": weights}
        assert auroc == pytest.approx(roc_auc_score(**told), abs=1e-9)
        assert precision == pytest.approx(average_precision_score(**told), abs=1e-9)


@pytest.mark.parametrize("most", [64, 512])
def test_grouped_scores_change_the_areas_by_less_than_their_bound(most, monkeypatch):
    monkeypatch.setattr(detection, "_GROUPS", most)
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 500, generator=draw)
    truth = torch.rand(20, 500, generator=draw) < 0.3
    scores = torch.where(torch.rand(20, 500, generator=draw) < 0.2, 0.0, scores + truth)
    assert len(scores[truth].unique()) > 2 * most
    split = detection._by_patient(scores, truth, [str(k) for k in range(20)])
    ((auroc, precision),) = detection._areas(*split, torch.ones(1, 20).double()).tolist()
    exact = [
        of(truth.flatten(), scores.flatten()) for of in (roc_auc_score, average_precision_score)
    ]
    assert 0 < abs(auroc - exact[0]) < 1 / most
    assert 0 < abs(precision - exact[1]) < (2 + 4 * math.log(int(truth.sum()))) / most


def test_the_interval_of_rare_lesions_holds_its_own_estimate():
    """One voxel in ten thousand: every lesion voxel lies in the highest thousandth of all scores."""
    maps, truth, patients = voxels(1e-4, patients=30, images=1, side=64)
    maps = maps + 4 * truth
    found = detection.ranking(maps, truth, patients, "pixel_")
    for name, of in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        metric = found[f"pixel_{name}"]
        low, high = metric["ci95"]
        assert metric["mean"] == pytest.approx(of(truth.flatten(), maps.flatten()))
        assert low < metric["mean"] < high, name


def test_voxels_are_drawn_by_patient():
    torch.manual_seed(0)
    truth = torch.rand(10, 1, 8, 8) < 0.2
    maps = torch.randn(10, 1, 8, 8) + 2 * truth
    found = detection.ranking(maps, truth, list("aabbccddee"), "pixel_")
    exact = roc_auc_score(truth.flatten(), maps.flatten())
    assert found["pixel_auroc"]["mean"] == pytest.approx(exact) and found["pixel_auroc"]["n"] == 5


def test_one_kind_alone_is_refused():
    found = detection.ranking(torch.rand(4), torch.ones(4, dtype=torch.bool), list("abcd"))
    assert found["auroc"]["refused"] == "everything measured is anomalous"


def test_dice_of_known_masks():
    a = torch.zeros(3, 1, 4, dtype=torch.bool)
    b = a.clone()
    a[0, 0, :2], b[0, 0, 1:3] = True, True
    a[1, 0, 0] = True
    assert dice(a, b, (1,), absent=1.0)[:, 0].tolist() == [0.5, 0.0, 1.0]
    assert dice(a, b, (1,))[2].isnan()


def test_thresholds():
    values = torch.arange(1, 101).float()
    level = detection.fitted_threshold(values, 0.05)
    assert level == 95 and float((values > level).double().mean()) == 0.05
    two = torch.cat([torch.full((2, 1, 50), 0.1), torch.full((2, 1, 14), 0.9)], 2)
    level = detection.otsu(two)
    assert level.shape == (2, 1, 1) and bool(((two > level).sum(2) == 14).all())
    flat = torch.zeros(1, 1, 9)
    assert not bool((flat > detection.otsu(flat)).any())
    assert detection.top_mean(two, 0.1).tolist() == pytest.approx([0.9, 0.9])


def test_a_threshold_for_any_rate_comes_from_a_short_table():
    torch.manual_seed(0)
    healthy = torch.rand(200_000)
    table = detection.levels(healthy)
    for rate in (0.0003, 0.005, 0.07, 0.4):
        assert float((healthy > detection.level_at(table, rate)).double().mean()) == pytest.approx(
            rate, rel=0.05, abs=1e-4
        )


def test_p_values_are_uniform_for_healthy_cases():
    healthy = torch.arange(99).float()
    found = detection.p_values(torch.tensor([200.0, 50.0, -1.0]), healthy)
    assert found.tolist() == pytest.approx([0.01, 0.5, 1.0])
    torch.manual_seed(0)
    rate = (detection.p_values(torch.randn(4000), torch.randn(999)) <= 0.05).double().mean()
    assert float(rate) == pytest.approx(0.05, abs=0.02)


# ----------------------------------------------------------------------------------- evaluation
@dataclasses.dataclass(frozen=True)
class Oracle:
    """Predicts what a perfect method would: a recipe that looks up the truth."""

    task: ClassVar[Task] = ANOMALY
    truth: object
    healthy: int = 0

    def predict(self, objective, batch):
        rows = [
            next(k for k, x in enumerate(self.truth["image"]) if torch.equal(x, image))
            for image in batch["image"]
        ]
        mask = self.truth["mask"][rows]
        counterpart = torch.where(mask > 0, -0.5, batch["image"] + 0.01)
        return {
            "healthy": counterpart,
            "anomaly": mask.float() + 0.01 * torch.rand(mask.shape),
            "mask": mask,
            "score": mask.flatten(1).any(1).float() + 0.01 * torch.rand(len(mask)),
        }


@pytest.fixture(scope="module")
def record(cases, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        plain = features.trained_features
        patch.setattr(baselines, "trained_features", lambda *a, **o: plain(*a, **{**o, "steps": 3}))
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("pictures")
        held_out = cases.take(range(0, 48, 2))
        oracle = Oracle(cases.batch(range(len(cases))))
        made = evaluation.evaluate_anomaly(
            oracle,
            SimpleNamespace(players={"network": torch.nn.Identity()}),
            cases.split("train"),
            held_out,
            Asked(folder_for_pictures=folder),
        )
        made["picture"] = (folder / "anomalies.png").stat().st_size
    return made


def test_a_perfect_method_is_perfect(record):
    method = {name: metric.get("mean") for name, metric in record["method"].items()}
    for name in ("auroc", "average_precision", "pixel_auroc", "pixel_average_precision"):
        assert method[name] == pytest.approx(1), name
    for name in ("dice", "dice_best", "sensitivity"):
        assert method[name] == pytest.approx(1), name
    assert method["dice_fitted"] > 0.5
    assert method["psnr_outside"] == pytest.approx(46.02, abs=0.1), "20 log10(2 / 0.01)"
    assert method["psnr_healthy"] == pytest.approx(46.02, abs=0.1)


def test_the_strongest_baseline_stands_beside_it(record):
    means = {
        name: each["pixel_average_precision"]["mean"]
        for name, each in record["baselines"].items()
        if "pixel_average_precision" in each
    }
    assert record["settings"]["baseline"] == max(means, key=means.get)
    assert record["baseline"] == record["baselines"][record["settings"]["baseline"]]
    assert record["picture"] > 100
    json.dumps(record, allow_nan=False)


def test_thresholds_and_p_values_come_from_healthy_cases_left_out(record):
    fitted = record["calibration"]
    assert len(fitted["healthy_scores"]) == record["settings"]["fitting"] > 0
    assert fitted["score"] <= max(fitted["healthy_scores"])
    apart = record["settings"]["fitting"] + len(record["left_out"]["beside_fitting"])
    assert len(record["cases"]) + apart == record["settings"]["count"]
    sick = [case for case in record["cases"].values() if not case["healthy"]]
    lowest = 1 / (1 + len(fitted["healthy_scores"]))
    assert all(case["p_value"] == pytest.approx(lowest) for case in sick)


def test_cases_with_trouble_are_refused(cases):
    small = cases.take(range(6))
    odd = dataclasses.replace(AnoDDPM.tiny(), healthy=0)
    pixels = np.random.default_rng(0).integers(0, 255, (6, 16, 16), dtype=np.uint8)
    pixels[2:4] = 0
    blank = open_cases_of(pixels).take([2, 3])
    with pytest.raises(UserError, match="every image has one value throughout"):
        evaluation.evaluate_anomaly(odd, None, small, blank, Asked())
    classed = dataclasses.replace(papers.by_id("diffusion-anomaly").load().tiny(), classes=1)
    with pytest.raises(UserError, match="has label 1, but the model knows the 1 classes"):
        evaluation.evaluate_anomaly(classed, None, small, small, Asked())


def open_cases_of(pixels):
    from radiffuse.data.dataset import from_iterable

    items = [
        {"image": torch.from_numpy(each)[None], "case": f"c{k}"} for k, each in enumerate(pixels)
    ]
    return from_iterable(items, range=(0, 255))


class Bright:
    """Calls anomalous what is bright."""

    task = ANOMALY
    healthy = 0

    def predict(self, objective, batch):
        image = batch["image"]
        found = (image + 1).clamp_min(0)
        return {
            "healthy": image.clamp(max=0),
            "anomaly": found,
            "mask": (found > 1).long(),
            "score": found.flatten(1).amax(1),
        }


def slices_of(sick_slices, blank=()):
    """Four slices of each patient: the last `sick_slices[k]` of patient k have a lesion."""
    draw, items = torch.Generator().manual_seed(0), []
    for patient, sick in enumerate(sick_slices):
        for place in range(4):
            image = torch.rand(1, 16, 16, generator=draw) * 100 + 20
            mask = torch.zeros(1, 16, 16, dtype=torch.long)
            if place >= 4 - sick:
                image[:, 4:8, 4:8], mask[:, 4:8, 4:8] = 250, 1
            name = f"p{patient}-{place}"
            image = torch.full_like(image, 9) if name in blank else image
            told = {"label": int(mask.any()), "case": name, "patient": f"p{patient}"}
            items.append({"image": image, "mask": mask, **told})
    return items


@pytest.fixture
def evaluated(hasty_features):
    """The record of held-out slices, beside baselines of a few healthy ones."""
    from radiffuse.data.dataset import from_iterable

    train = from_iterable(slices_of([0, 0, 0]), range=(0, 255))

    def evaluate(items):
        nothing = SimpleNamespace(players={"network": torch.nn.Identity()})
        held_out = from_iterable(items, range=(0, 255))
        return evaluation.evaluate_anomaly(Bright(), nothing, train, held_out, Asked())

    return evaluate


@pytest.mark.parametrize("sick_slices", [[2] * 8, [0, 0, 1, 2, 3, 4], [0, 0, 0, 1], [0, 2]])
def test_no_patient_both_fits_thresholds_and_is_measured(sick_slices, evaluated):
    """Slices with and without lesions of one patient stay together."""
    items = slices_of(sick_slices)
    record = evaluated(items)
    whose = {item["case"]: item["patient"] for item in items}
    measured = {whose[name] for name in record["cases"]}
    aside = record["left_out"]["beside_fitting"]
    fitted = {patient for patient in whose.values() if patient not in measured}
    assert fitted and {whose[name] for name in aside} <= fitted
    assert record["settings"]["fitting"] + len(aside) == 4 * len(fitted)
    assert all(len([n for n in record["cases"] if whose[n] == p]) == 4 for p in measured)
    assert any(not case["healthy"] for case in record["cases"].values()), "lesions are measured"
    if len(measured) > 1 and any(case["healthy"] for case in record["cases"].values()):
        assert record["method"]["auroc"]["mean"] == 1


def test_a_blank_slice_is_left_out_by_name_and_the_rest_is_measured(evaluated):
    whole = evaluated(slices_of([0, 0, 0, 0, 2, 2]))
    found = evaluated(slices_of([0, 0, 0, 0, 2, 2], blank=("p1-3", "p5-0")))
    assert found["left_out"]["blank"] == ["p1-3", "p5-0"] and whole["left_out"]["blank"] == []
    assert found["settings"]["count"] == 22 and "p5-0" not in found["cases"]
    assert found["method"]["pixel_auroc"]["mean"] == pytest.approx(1)


def test_the_mask_says_what_is_healthy_and_labels_that_disagree_are_named(evaluated):
    items = slices_of([0, 0, 2, 2])
    items[0]["label"], items[15]["label"] = 1, 0
    found = evaluated(items)["truth"]
    assert found == {"healthy": "an empty mask", "label_disagrees": ["p0-0", "p3-3"]}
    plain = [{key: x for key, x in item.items() if key != "mask"} for item in items]
    assert evaluated(plain)["truth"] == {"healthy": "label 0", "label_disagrees": []}


@pytest.mark.parametrize("healthy", [0, 1, 2])
def test_the_class_of_a_case_is_healthy_exactly_where_its_mask_says_so(healthy):
    """Whatever its label; a label other than the healthy one is kept where there is a lesion."""
    batch = {
        "image": torch.zeros(6, 1, 4, 4),
        "mask": torch.zeros(6, 1, 4, 4, dtype=torch.long),
        "label": torch.tensor([0, 1, 2, 0, 1, 2]),
    }
    batch["mask"][3:, :, 0, 0] = 1
    classes, sound = labels_of(batch, healthy), is_healthy(batch, healthy)
    assert torch.equal(classes == healthy, sound) and sound.tolist() == [True] * 3 + [False] * 3
    kept = batch["label"][3:] != healthy
    assert torch.equal(classes[3:][kept], batch["label"][3:][kept])
    assert classes.min() >= 0 and classes.dtype == torch.int64


# --------------------------------------------------------------------------------- command line
@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Squares on noise with masks: 40 cases, patients, three splits."""
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    draw = np.random.default_rng(0)
    image = draw.integers(90, 120, (40, 16, 16), dtype=np.uint8)
    mask = np.zeros((40, 16, 16), dtype=np.uint8)
    mask[::2, 4:8, 4:8] = 1
    image[mask > 0] = 220
    np.savez(
        path,
        image=image,
        mask=mask,
        label=(np.arange(40) + 1) % 2,
        patient=np.array([f"p{k}" for k in range(40)]),
        split=np.array(["train"] * 24 + ["test"] * 16),
    )
    return path


TINY = ("--preset", "tiny", "--width", "8", "--train.steps", "2", "--train.batch", "4")


@pytest.mark.parametrize("method", ["anoddpm", "diff-scm"])
def test_train_predict_evaluate_report(method, data, tmp_path, hasty_features, capsys):
    run = tmp_path / "run"
    words = ["train", method, "--data", str(data), "--out", str(run), *TINY]
    assert cli.main(words) == 0
    assert cli.main(["predict", str(run), "--out", str(tmp_path / "p"), "--steps", "2"]) == 0
    entries = json.loads((tmp_path / "p" / "predictions.json").read_text())["predictions"]
    assert len(entries) == 16 and set(entries[0]["files"]) == {"healthy", "anomaly", "mask"}
    assert isinstance(entries[0]["values"]["score"], float)
    assert cli.main(["evaluate", str(run), "--steps", "2"]) == 0
    assert "pixel_average_precision" in capsys.readouterr().out
    record = json.loads((run / "metrics.json").read_text())
    assert record["task"] == "anomaly" and record["settings"]["count"] == 16
    plain = record["baselines"]["plain_ddpm"]
    assert "pixel_average_precision" in plain and plain["auroc"] != record["method"]["auroc"]
    told = {"integrated_gradients", "grad_cam"} if method == "diff-scm" else set()
    fitted = {"brightness", "intensity", "atlas", "nearest_features", "patches"}
    health = {"autoencoder", "vae", "denoising_autoencoder", "plain_ddpm"}
    assert set(record["baselines"]) == fitted | health | told
    folders = {path.name.removeprefix("baseline-") for path in run.glob("baseline-*")}
    trained = {name.replace("_", "-") for name in health} | ({"classifier"} if told else set())
    assert folders == trained
    for name in ("method", *folders):
        log = (run / f"baseline-{name}" if name != "method" else run) / "log.jsonl"
        last = json.loads(log.read_text().splitlines()[-1])
        assert (last["step"], last["images"]) == (2, 8), f"{name} is trained as long as the method"
    assert cli.main(["report", str(run)]) == 0
    assert "Anomalies" in (run / "report.html").read_text()


@pytest.fixture
def sick(data, tmp_path):
    """The same squares, a lesion in every one."""
    stored = dict(np.load(data))
    stored["mask"][:, 0, 0] = 1
    np.savez(tmp_path / "sick.npz", **stored)
    return tmp_path / "sick.npz"


def test_no_healthy_training_case_is_one_clear_line(sick, tmp_path, refused):
    words = ["train", "anoddpm", "--data", sick, "--out", tmp_path / "r", *TINY]
    assert "--learns regions" in refused(*words)


def test_sick_images_alone_train_on_what_lies_outside_their_lesions(sick, tmp_path, hasty_features):
    words = ["train", "anoddpm", "--data", str(sick), "--out", str(tmp_path / "r"), *TINY]
    assert cli.main([*words, "--learns", "regions"]) == 0
    assert cli.main(["evaluate", str(tmp_path / "r"), "--steps", "2"]) == 0
    record = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert record["method"]["auroc"]["refused"] == "everything measured is anomalous"
    assert "mean" in record["method"]["pixel_average_precision"]
    assert {"intensity", "atlas", "plain_ddpm"} < set(record["baselines"])


def test_regions_need_masks(recipe, tmp_path, data, refused):
    image = np.load(data)["image"]
    np.savez(tmp_path / "plain.npz", image=image, patient=np.arange(len(image)))
    words = ["train", "anoddpm", "--data", tmp_path / "plain.npz", "--out", tmp_path / "r", *TINY]
    assert "--learns regions needs masks" in refused(*words, "--learns", "regions")


def test_other_data_are_measured_beside_baselines_of_the_training_data(
    data, sick, tmp_path, hasty_features
):
    """A trained baseline is the run's: it is read, not trained again on what it is tested on."""
    run = tmp_path / "run"
    assert cli.main(["train", "anoddpm", "--data", str(data), "--out", str(run), *TINY]) == 0
    assert cli.main(["evaluate", str(run), "--steps", "2"]) == 0
    own = json.loads((run / "metrics.json").read_text())
    out = tmp_path / "other" / "metrics.json"
    words = ["evaluate", str(run), "--data", str(sick), "--steps", "2", "--out", str(out)]
    assert cli.main(words) == 0
    other = json.loads(out.read_text())
    assert other["data"]["train"] == own["data"]["train"]
    assert other["data"]["held_out"] != own["data"]["held_out"]
    assert "nearest_features" in other["baselines"], "fitted to the healthy training cases"


def test_data_of_another_size_are_brought_to_the_model_s(data, tmp_path, refused):
    run, other = tmp_path / "run", tmp_path / "other.npz"
    assert cli.main(["train", "anoddpm", "--data", str(data), "--out", str(run), *TINY]) == 0
    image = np.random.default_rng(0).integers(0, 255, (3, 24, 24), dtype=np.uint8)
    np.savez(other, image=image, patient=np.arange(3))
    words = ["predict", str(run), "--data", str(other), "--steps", "2", "--out"]
    assert "use --size 16 16" in refused(*words, tmp_path / "p")
    assert cli.main([*words, str(tmp_path / "q"), "--size", "16", "16"]) == 0
    entries = json.loads((tmp_path / "q" / "predictions.json").read_text())["predictions"]
    assert len(entries) == 3
    assert read_image(tmp_path / "q" / entries[0]["files"]["healthy"]).size == (16, 16)
    assert entries[0]["files"]["healthy"].endswith(".tif"), "resized pictures hold fractions"


def test_predictions_stand_beside_healthy_cases(data, tmp_path, hasty_features, refused, capsys):
    """p-values and a mask at a stated false-positive rate, once `evaluate` has seen healthy cases."""
    run = tmp_path / "run"
    assert cli.main(["train", "anoddpm", "--data", str(data), "--out", str(run), *TINY]) == 0
    asked = ["--set", "threshold=healthy", "rate=0.02"]

    def predict(name, *words):
        capsys.readouterr()
        assert cli.main(["predict", str(run), "--out", str(tmp_path / name), *words]) == 0
        text = (tmp_path / name / "predictions.json").read_text()
        return json.loads(text)["predictions"], capsys.readouterr().err

    entries, said = predict("before")
    assert "no p-values: nothing was fitted" in said and "p_value" not in entries[0]["values"]
    assert "evaluate" in refused("predict", run, "--out", tmp_path / "x", *asked)
    assert cli.main(["evaluate", str(run)]) == 0
    entries, said = predict("after", *asked)
    assert all(line.endswith(" are free") for line in said.splitlines()), "nothing but memory"
    record = json.loads((run / "metrics.json").read_text())
    scores = torch.tensor(record["calibration"]["healthy_scores"])
    for entry in entries:
        expected = detection.p_values(torch.tensor([entry["values"]["score"]]), scores)
        assert entry["values"]["p_value"] == pytest.approx(float(expected))
    level = detection.level_at(record["calibration"]["voxels"], 0.02)
    maps, masks = (
        read_image(tmp_path / "after" / entries[0]["files"][key]).data
        for key in ("anomaly", "mask")
    )
    assert torch.equal(masks > 0, maps > level)
    _, said = predict("deeper", "--set", "depth=0.4")
    assert "fitted with depth=0.25, not 0.4" in said


def test_a_healthy_class_that_is_not_there(data, tmp_path, refused):
    words = ["train", "anoddpm", "--data", data, "--out", tmp_path / "r", *TINY, "--healthy", "7"]
    assert "--healthy 7: labels run from 0 to 1" in refused(*words)


def test_a_blank_image_is_refused(recipe):
    image = torch.rand(3, 1, 16, 16)
    image[1] = -1
    with pytest.raises(UserError, match=r"image 1 of the batch has the one value -1"):
        recipe.predict(recipe.objective(), {"image": image, "seed": torch.arange(3)})
    with pytest.raises(UserError, match="images are 1 x 8 x 8, and the model"):
        recipe.predict(recipe.objective(), {"image": image[..., :8, :8], "seed": torch.arange(3)})


# ------------------------------------------------------------------- what the chain was trained on
def test_a_depth_beyond_what_is_trained_is_refused(cases, recipe):
    """Where t was never drawn in training the network was never asked."""
    deep = dataclasses.replace(recipe, trained=0.4, depth=0.6)
    said = r"depth 0\.6 lies beyond trained 0\.4.*--trained"
    with pytest.raises(UserError, match=said):
        deep.fitted(cases.facts())
    objective = dataclasses.replace(deep, depth=0.4).objective()
    batch = {**cases.batch([0]), "seed": torch.tensor([1])}
    with pytest.raises(UserError, match=said):
        deep.predict(objective, batch)
    assert float(objective.times(2000).max()) == pytest.approx(0.4)
    found = dataclasses.replace(deep, depth=0.4).predict(objective, batch)
    assert torch.isfinite(found["anomaly"]).all()


@pytest.mark.parametrize(
    ("names", "healthy"),
    [
        (("abnormal", "normal"), 1), (("Healthy", "tumour"), 0), (("glioma", "notumor", "pituitary"), 1),
        (("No Finding", "Pneumonia"), 0), (("cyst", "without lesion"), 1), ((), 0),
    ],
)  # fmt: skip
def test_what_is_healthy_is_the_class_called_so(names, healthy):
    """Folders are numbered by the alphabet: the first is as likely the sick one."""
    facts = Facts(
        ("image", "label"), {"image": 1}, {"image": (16, 16)}, len(names), names, 0.5, 0.0, 9.0, 8
    )
    assert AnoDDPM.tiny().fitted(facts).healthy == healthy
    assert dataclasses.replace(AnoDDPM.tiny(), healthy=0).fitted(facts).healthy == 0
    for masks in ({"mask": 2}, {"fov_mask": 2}, {"tissue": 4}):
        masked = dataclasses.replace(facts, mask_classes=masks)
        assert AnoDDPM.tiny().fitted(masked).healthy == healthy, (
            "of other data that have labels alone"
        )


@pytest.mark.parametrize("names", [("glioma", "meningioma"), ("normal", "no finding", "nodule")])
def test_classes_of_which_none_or_several_are_called_healthy_are_asked_for(names):
    facts = Facts(
        ("image", "label"), {"image": 1}, {"image": (16, 16)}, len(names), names, 0.5, 0.0, 9.0, 8
    )
    with pytest.raises(
        UserError, match=f"which class is healthy is not clear.*0 {names[0]}.*--healthy N"
    ):
        AnoDDPM.tiny().fitted(facts)
    with pytest.raises(UserError, match="which class is healthy is not clear"):
        AnoDDPM.tiny().fitted(dataclasses.replace(facts, mask_classes={"fov_mask": 2}))
    masked = dataclasses.replace(facts, mask_classes={"mask": 2})
    assert AnoDDPM.tiny().fitted(masked).healthy == 0, "an empty mask says who is healthy"


def test_the_brightest_of_large_maps_is_found():
    """Of more values than torch sorts."""
    maps = (
        torch.linspace(0, 1, 1000).repeat(9000).reshape(1, 1, 3000, 3000).expand(2, 1, 3000, 3000)
    )
    assert _top(maps, [0, 1]) == pytest.approx(0.999, abs=2e-3)


@pytest.mark.parametrize(
    ("strange", "names", "labels"),
    [
        (("abnormal", "normal"), (), {"abnormal": 1, "normal": 0}), (("tumour",), (), {"tumour": 1}),
        (("normal", "tumour"), ("healthy", "lesion"), {"normal": 0, "tumour": 1}), (("a", "b"), (), {}),
    ],
)  # fmt: skip
def test_classes_of_other_data_are_healthy_by_their_names(strange, names, labels):
    assert AnoDDPM.tiny().labels_like(strange, names) == labels
    turned = dataclasses.replace(AnoDDPM.tiny(), healthy=1).labels_like(strange, names)
    assert turned == {name: 1 - label for name, label in labels.items()}


def test_other_data_are_healthy_by_the_names_of_their_classes(tmp_path):
    """A model told by masks, and folders of which the first is the sick one."""
    words = [
        "train",
        "anoddpm",
        "--data",
        "brains:count=30,size=16,lesions=0.5",
        "--map",
        "image=t2",
    ]
    run = tmp_path / "run"
    assert cli.main([*words, "mask=lesion", *TINY, "--out", str(run)]) == 0
    draw = np.random.default_rng(0)
    bright = np.repeat([200, 0], 20)[:, None, None]
    images = (draw.integers(0, 50, (40, 16, 16)) + bright).astype(np.uint8)
    np.savez(tmp_path / "d.npz", image=images, label=np.repeat(["abnormal", "normal"], 20))
    out = tmp_path / "m" / "metrics.json"
    words = ["evaluate", str(run), "--data", str(tmp_path / "d.npz"), "--map", "image=image"]
    assert cli.main([*words, "--out", str(out)]) == 0
    brightness = read_json(out)["baselines"]["brightness"]["auroc"]["mean"]
    assert brightness == 1, "bright images are the sick ones"


def test_flags_of_many_slices_of_a_person_are_counted_by_person():
    torch.manual_seed(0)
    people, each = 40, 24
    sick = (torch.arange(people) % 2 == 0).repeat_interleave(each)
    scores = (torch.randn(people) + 1.5 * (torch.arange(people) % 2 == 0)).repeat_interleave(each)
    patients = tuple(f"p{k:02d}" for k in range(people) for _ in range(each))
    fitting = torch.tensor([int(name[1:]) % 4 == 1 for name in patients])
    none = torch.zeros(people * each, dtype=torch.bool)
    truth = Truth(torch.zeros(people * each, 1, 2, 2), ~sick, None, patients, fitting, none)
    found = _measure(Found(scores), truth, None)
    rows = truth.measured[sick[truth.measured]]
    hits = scores[rows] > fitted_threshold(scores[truth.fitting], IMAGE_RATE)
    assert found["sensitivity"]["ci95"] == proportion(hits, truth.of(rows))["ci95"]
    narrow = proportion(hits)["ci95"]
    assert found["sensitivity"]["ci95"][0] < narrow[0] - 0.05
