"""Morphology of shapes against solids whose answers are known, and the measures of drawn shapes."""

import math

import numpy as np
import pytest
import torch

from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.generation.dispr import DISPR
from radiffuse.applications.generation.shapes import balancing
from radiffuse.applications.generation.shapes.balancing import balanced
from radiffuse.applications.generation.shapes.baselines import Columns, MeanShape
from radiffuse.applications.generation.shapes.evaluate import evaluate_shapes
from radiffuse.applications.generation.shapes.measures import iou, measure
from radiffuse.data.dataset import from_iterable, open_cases
from radiffuse.metrics.morphology import FEATURES, features, roughness, surface, volume

ONE = (1.0, 1.0, 1.0)


def ball(radius, side=40, spacing=ONE, bumps=0.0):
    axes = [(torch.arange(side) - (side - 1) / 2) * step for step in spacing]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    ripple = bumps * torch.sin(1.5 * x) * torch.sin(1.5 * y) * torch.sin(1.5 * z)
    return (x**2 + y**2 + z**2).sqrt() < radius * (1 + ripple)


@pytest.mark.parametrize("radius", [6, 10, 15])
def test_a_ball(radius):
    found = dict(zip(FEATURES, features(ball(radius), ONE).tolist(), strict=True))
    assert found["volume"] == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.02)
    assert found["surface"] == pytest.approx(4 * math.pi * radius**2, rel=0.02)
    assert found["sphericity"] == pytest.approx(1, abs=0.03)
    assert found["box_1"] == found["box_3"] == 2 * radius
    for axis in ("longest", "middle", "shortest"):
        assert found[axis] == pytest.approx(radius / math.sqrt(5), rel=0.02)


def test_lengths_are_those_of_the_spacing():
    spacing = (0.5, 1.0, 2.0)
    found = dict(zip(FEATURES, features(ball(9, 40, spacing), spacing).tolist(), strict=True))
    assert found["volume"] == pytest.approx(4 / 3 * math.pi * 9**3, rel=0.03)
    assert found["surface"] == pytest.approx(4 * math.pi * 9**2, rel=0.05)
    doubled = features(ball(10), (2.0, 2.0, 2.0)) / features(ball(10), ONE)
    assert doubled.tolist() == pytest.approx([8, 4, 1, 2, 1, 2, 2, 2, 2, 2, 2])


def test_bumps_make_a_surface_rough_and_a_volume_does_not():
    smooth, rough = ball(12), ball(12, bumps=0.15)
    assert roughness(rough, ONE) > 1.5 * roughness(smooth, ONE)
    assert surface(rough, ONE) > 1.05 * surface(smooth, ONE)
    assert volume(rough, ONE) == pytest.approx(volume(smooth, ONE), rel=0.05)


def test_what_a_turn_or_a_shift_leaves_alone():
    shape = torch.zeros(20, 20, 20, dtype=torch.bool)
    shape[3:8, 4:13, 5:16] = True
    turned = shape.permute(2, 0, 1).flip(1).roll((2, 1, 0), (0, 1, 2))
    assert torch.allclose(features(shape, ONE), features(turned, ONE))


def test_shapes_at_the_edge_of_things():
    assert not features(torch.zeros(5, 5, 5).bool(), ONE).any()
    full = features(torch.ones(6, 6, 6).bool(), ONE)
    assert 0.75 * 6 * 36 < full[1] < 6 * 36, "closed at the edge of its volume, its corners rounded"
    assert full[4] == pytest.approx(1)
    alone = torch.zeros(5, 5, 5).bool()
    alone[2, 2, 2] = True
    assert torch.isfinite(features(alone, ONE)).all() and features(alone, ONE)[0] == 1


# ----------------------------------------------------------------------------- drawn against true
def boxes(*depths):
    """Boxes 4 by 4, so many voxels deep, (n, 1, 12, 8, 8)."""
    made = torch.zeros(len(depths), 1, 12, 8, 8, dtype=torch.bool)
    for row, depth in enumerate(depths):
        made[row, 0, 1 : 1 + depth, 2:6, 2:6] = True
    return made


def measured(draws, truth):
    names = [f"p{row}" for row in range(len(truth))]
    return measure(draws, truth, names, [ONE] * len(truth), 0)


def test_the_truth_itself_has_no_error():
    truth = boxes(4, 6, 8)
    found = measured(truth[None], truth)
    assert found["iou"]["mean"] == found["silhouette_dice"]["mean"] == 1
    assert found["roughness_ratio"]["mean"] == 1
    for key in ("volume_error", "surface_error", "roughness_error", "volume_crps"):
        assert found[key]["mean"] == 0
    assert "pairwise_iou" not in found, "of one shape there is no spread"


def test_errors_are_relative_and_means_over_draws():
    truth = boxes(4, 8)
    draws = torch.stack([boxes(2, 8), boxes(4, 4)])
    found = measured(draws, truth)
    assert found["iou"]["per_patient"] == {"p0": pytest.approx(0.75), "p1": pytest.approx(0.75)}
    assert found["volume_error"]["mean"] == pytest.approx(0.25)
    assert found["pairwise_iou"]["mean"] == pytest.approx(0.5)
    # CRPS of two draws a, b about the truth: mean |error| - |a - b| / 2
    assert found["volume_crps"]["mean"] == pytest.approx(0.25 - 0.25)
    assert found["silhouette_dice"]["mean"] == 1, "along depth the boxes look alike"


def test_an_iou_by_hand():
    assert iou(boxes(2, 0), boxes(4, 0)).tolist() == [0.5, 1.0]


def test_spread_over_error_is_one_of_calibrated_draws_and_less_of_sure_ones():
    generator = torch.Generator().manual_seed(0)
    middle = 5 + 2 * torch.rand(60, generator=generator)

    def some(width):
        moved = middle + width * torch.randn(60, generator=generator)
        return boxes(*moved.round().clamp(1, 11).long().tolist())

    truth = some(1.5)
    honest = measured(torch.stack([some(1.5) for _ in range(4)]), truth)["spread_over_error"]
    sure = measured(torch.stack([some(0.3) for _ in range(4)]), truth)["spread_over_error"]
    assert honest["mean"] == pytest.approx(1, abs=0.2)
    assert sure["mean"] < 0.5


# -------------------------------------------------------------------------------------- baselines
def test_columns_have_the_thickness_that_is_seen_and_the_mean_shape_the_mean_volume():
    cases = open_cases("shapes3d:count=20,size=16")
    recipe = DISPR.tiny().fitted(cases.facts())
    batch = cases.batch(range(6))
    made = Columns(recipe, cases)(batch)
    assert torch.equal(made.sum(2), batch["mask"].sum(2)), "the picture, exactly"
    mean = MeanShape(recipe, cases)
    volumes = cases.batch(range(20))["mask"].flatten(1).sum(1).float()
    assert float(mean.shape.sum()) == pytest.approx(float(volumes.mean()), rel=0.15)
    seen = recipe.prepared(batch)["condition"][:, :1] > 0
    assert torch.equal(mean(batch), seen & mean.shape)


def test_columns_about_the_middle_of_training_shapes():
    items = [{"mask": shape.long(), "case": f"{k}"} for k, shape in enumerate(boxes(4, 4, 4, 4))]
    cases = from_iterable(items)
    facts = cases.facts()
    recipe = DISPR(patch=1, multiples=(1,), attention=()).fitted(facts)
    assert torch.equal(Columns(recipe, cases)(cases.batch([0])), boxes(4))


# ----------------------------------------------------------------------- evaluation and balancing
@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(balancing, "SEEDS", 2)
    monkeypatch.setattr(balancing, "TREES", 20)


@pytest.fixture(scope="module")
def cases():
    return open_cases("shapes3d:count=60,size=8,bumpy=0.3")


class Copies:
    """Draws that are the truth: what a perfect method would say."""

    def __init__(self, recipe):
        self.recipe = recipe
        self.players = {"network": torch.nn.Linear(1, 1)}

    def __getattr__(self, name):
        return getattr(self.recipe, name)

    def predict(self, objective, batch):
        return {"mask": batch["mask"], "expected": batch["mask"].float()}


def test_the_evaluation_names_all_that_stands_beside_the_method(cases, tmp_path):
    perfect = Copies(DISPR.tiny().fitted(cases.facts()))
    asked = Asked(folder_for_pictures=tmp_path)
    train, test = cases.split("train"), cases.held_out()
    record = evaluate_shapes(perfect, perfect, train, test, asked)
    assert record["method"]["iou"]["mean"] == 1 and record["task"] == "shapes"
    assert set(record["baselines"]) >= {"mean_of_draws", "mean_shape", "columns"}
    assert record["baselines"]["mean_shape"]["iou"]["mean"] < 1
    assert (tmp_path / "shapes.png").is_file()
    assert record["settings"]["unit"] == "mm"


def test_shapes_of_the_smallest_class_are_drawn_until_it_is_as_large(cases):
    perfect = Copies(DISPR.tiny().fitted(cases.facts()))
    train, test = cases.split("train"), cases.held_out()
    found = balanced(perfect, perfect, train, test, Asked(), ("mask",))
    real = found.said["real"]
    assert found.said["class"] == "bumpy" and real[1] < real[0]
    assert found.said["drawn"] == real[0] - real[1]
    assert {*found.drawn} == {"macro_f1", "macro_f1_gain"}
    gain = found.drawn["macro_f1"]["mean"] - found.alone["macro_f1"]["mean"]
    assert found.drawn["macro_f1_gain"]["mean"] == pytest.approx(gain)


def test_drawn_shapes_of_a_rare_class_help_a_classifier_that_hardly_knew_it(monkeypatch):
    """Where draws are new shapes of the class, macro F1 rises; of the wrong class, it falls."""
    known = open_cases("shapes3d:count=90,size=24,bumpy=0.05").split("train")
    more = open_cases("shapes3d:count=120,size=24,bumpy=0.5", seed=1)
    label = more.batch(range(120))["label"]
    fresh = balancing._features_of(more)
    perfect = Copies(DISPR.tiny().fitted(known.facts()))

    def gained(of):
        monkeypatch.setattr(balancing, "_drawn", lambda *told: fresh[:60][label[:60] == of])
        unseen = more.take(range(60, 120))
        return balanced(perfect, perfect, known, unseen, Asked(), ("mask",))

    rare, wrong = gained(1), gained(0)
    assert rare.drawn["macro_f1_gain"]["mean"] > 0.05
    assert wrong.drawn["macro_f1"]["mean"] < rare.drawn["macro_f1"]["mean"] - 0.1


def test_two_classes_of_one_size_need_no_balance(cases):
    perfect = Copies(DISPR.tiny().fitted(cases.facts()))
    train = cases.split("train")
    label = train.columns["label"].stack(train.rows)
    each = min(int((label == one).sum()) for one in (0, 1))
    rows = [row for one in (0, 1) for row in (label == one).nonzero()[:each, 0].tolist()]
    assert (
        balanced(perfect, perfect, train.take(rows), cases.held_out(), Asked(), ("mask",)) is None
    )


def test_without_two_classes_there_is_nothing_to_balance(cases):
    perfect = Copies(DISPR.tiny().fitted(cases.facts()))
    label = cases.columns["label"].stack(cases.rows)
    smooth = cases.take((label == 0).nonzero()[:, 0].tolist())
    train, test = smooth.split("train"), smooth.held_out()
    assert balanced(perfect, perfect, train, test, Asked(), ("mask",)) is None


# ------------------------------------------------------------------------------------ embedded data
def test_embedded_shapes_depend_on_seed_and_number_alone():
    few, many = (open_cases(f"shapes3d:count={n},size=16").batch([3]) for n in (5, 9))
    assert torch.equal(few["mask"], many["mask"]) and torch.equal(few["label"], many["label"])
    other = open_cases("shapes3d:count=5,size=16", seed=1).batch([3])
    assert not torch.equal(few["mask"], other["mask"])


def test_embedded_shapes_of_two_classes_differ_in_roughness_not_in_size():
    cases = open_cases("shapes3d:count=80,size=32,bumpy=0.5")
    batch = cases.batch(range(80))
    spacing = cases.image(0, "mask").spacing_mm
    assert spacing == (2.0, 2.0, 2.0) and cases.class_names == ("smooth", "bumpy")
    its = torch.stack([features(mask[0] > 0, spacing) for mask in batch["mask"]])
    smooth, bumpy = (its[batch["label"] == k].mean(0) for k in (0, 1))
    assert bumpy[3] > smooth[3] and bumpy[4] < smooth[4] - 0.05, "rougher, and less convex"
    assert abs(bumpy[0] / smooth[0] - 1) < 0.15
    edge = batch["mask"].clone()
    edge[:, :, 1:-1, 1:-1, 1:-1] = 0
    assert not edge.any(), "no shape is cut by the edge of its volume"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shapes3d:count=0", "count 1 to"),
        ("shapes3d:size=4", "size 8 to 256"),
        ("shapes3d:bumpy=2", "bumpy 0 to 1"),
        ("shapes3d:hue=1", "no option 'hue'; there are count, size, bumpy"),
        ("shapes3d:size=big", "size needs a number"),
    ],
)
def test_embedded_shapes_that_cannot_be_made(name, said):
    from radiffuse.errors import UsageError

    with pytest.raises(UsageError, match=said):
        open_cases(name)


def test_a_class_that_only_held_out_shapes_have_is_found_by_nobody(tmp_path, monkeypatch):
    mask = np.zeros((24, 12, 12, 12), np.uint8)
    for k in range(24):
        mask[k, 3 : 6 + k % 4, 3:8, 3:9] = 1
    label = np.array([0, 0, 0, 1] * 5 + [0, 1, 2, 0])
    np.savez(tmp_path / "s.npz", mask=mask, label=label, split=["train"] * 20 + ["test"] * 4)
    cases = open_cases(tmp_path / "s.npz")
    train, test = cases.split("train"), cases.split("test")
    fresh = balancing._features_of(train)
    monkeypatch.setattr(balancing, "_drawn", lambda *told: fresh[:10])
    assert balanced(None, None, train, test, Asked(), ("mask",)).drawn["macro_f1"]["mean"] < 0.7
