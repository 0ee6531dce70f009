"""An evaluation from end to end on a stand-in generator whose quality is known."""

import dataclasses
import json
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

from radiffuse.applications.evaluate import evaluate
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.evaluation.judge import judge
from radiffuse.applications.generation import evaluate as generation
from radiffuse.applications.generation.quality import quality_against_steps
from radiffuse.applications.generation.sampling import drawn_labels, generate, kept_in
from radiffuse.applications.generation.task import GENERATION
from radiffuse.applications.task import Task
from radiffuse.data.dataset import from_iterable
from radiffuse.diffusion.noise import Seeded, derive
from radiffuse.diffusion.schedule import VP
from radiffuse.errors import UserError
from radiffuse.metrics import features
from radiffuse.testing import GaussianDenoiser
from radiffuse.training import processes


def picture(seed, size=12):
    """A soft disc of random place on black, with a little grain, in 256 grey values."""
    noise = Seeded([seed])
    centre = 0.35 + 0.3 * noise.uniform(torch.zeros(1, 2))[0]
    line = torch.arange(size) / size
    distance = ((line[:, None] - centre[0]) ** 2 + (line[None] - centre[1]) ** 2).sqrt()
    grain = 8 * noise(torch.zeros(1, size, size))[0]
    return (230 * torch.sigmoid((0.25 - distance) * 30) + grain).clamp(0, 255).round()


@pytest.fixture(scope="module")
def cases():
    items = [
        {
            "image": picture(k).to(torch.uint8)[None],
            "label": k % 2,
            "patient": f"p{k // 2}",
            "split": "train" if k < 320 else "test",
        }
        for k in range(480)
    ]
    return from_iterable(items, range=(0.0, 255.0))


def opened(path):
    with Picture.open(path) as shown:
        return shown.convert("RGB")


class Objective:
    def __init__(self):
        self.players = {"network": nn.Identity()}
        self.players["network"].register_parameter("weight", nn.Parameter(torch.zeros(1)))


@dataclasses.dataclass(frozen=True)
class Discs:
    """Draws from the very law of the data, or a spoilt one."""

    task: ClassVar[Task] = GENERATION
    grain: float = 0.0
    classes: int = 0
    steps: int = 3

    def trajectory(self, objective: Any, batch: Any):
        images = torch.stack([picture(int(seed))[None] / 127.5 - 1 for seed in batch["seed"]])
        if "label" in batch:
            images[:, :, 0, 0] = batch["label"][:, None].float()
        noise = Seeded(int(seed) for seed in batch["seed"])(images)
        for step in range(self.steps + 1):
            objective.players["network"](images)
            yield images + (self.grain + 40 * (self.steps - step) / self.steps) * noise

    def predict(self, objective: Any, batch: Any):
        *_, last = self.trajectory(objective, batch)
        return {"image": last.clamp(-1, 1)}

    def denoiser(self, objective: Any, label: Any = None):
        return GaussianDenoiser(VP(), 0.0, 0.7)


@pytest.fixture(scope="module", autouse=True)
def short_training_of_features():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 200)
        patch.setattr("radiffuse.applications.generation.evaluate.MEMBERS", 1)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def made(cases, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    record = evaluate(
        Discs(),
        Objective(),
        cases.split("train"),
        cases.split("test"),
        count=160,
        folder_for_pictures=folder,
        command="radiffuse evaluate RUN",
        cache=cache,
        bits=4,
    )
    return record, folder


METRICS = {
    "fid", "fid_corrected", "fid_to_train", "kid", "precision", "recall", "density", "coverage", "ms_ssim",
    "nearest_pixels", "copies_pixels", "nearest_features", "copies_features",
}  # fmt: skip


def test_record_has_the_form_of_the_contract(made, cases):
    record, _ = made
    json.dumps(record, allow_nan=False)
    assert set(record["method"]) == set(record["baseline"]) == METRICS | {"bits_per_dimension"}
    assert set(record["reference"]) == METRICS
    for who in ("method", "baseline", "reference"):
        for metric in record[who].values():
            assert set(metric) == {"mean", "ci95", "n", "per_patient"}
            assert metric["ci95"][0] <= metric["mean"] <= metric["ci95"][1]
    assert record["command"] == "radiffuse evaluate RUN"
    assert len(record["features"]["hash"]) == 12
    held_out = record["data"]["held_out"]
    assert held_out["split"] == ["test"] and (held_out["n"], held_out["patients"]) == (160, 80)
    assert held_out["fingerprint"] == cases.split("test").fingerprint


def test_a_perfect_generator_is_as_good_as_real_images_and_beats_the_baseline(made):
    record, _ = made
    method, baseline, reference = (record[k] for k in ("method", "baseline", "reference"))
    assert method["fid"]["mean"] < 1.5 * reference["fid"]["mean"] + 1
    assert baseline["fid"]["mean"] > 2 * method["fid"]["mean"]
    learned = [who["fid_to_train"]["mean"] for who in (reference, method, baseline)]
    assert max(learned[:2]) < 0.5 * learned[2]
    assert method["kid"]["ci95"][0] < reference["kid"]["ci95"][1]
    assert method["coverage"]["mean"] > 0.7
    assert method["copies_pixels"]["mean"] < 0.05
    assert set(method["nearest_pixels"]["per_patient"]) == {f"sample-{k:05d}" for k in range(160)}


def test_a_spoilt_generator_is_seen_as_such(made, cases, cache):
    good, _ = made
    options = {"count": 160, "cache": cache, "bits": 0}
    splits = cases.split("train"), cases.split("test")
    grainy = evaluate(Discs(grain=0.3), Objective(), *splits, **options)
    assert "bits_per_dimension" not in grainy["method"]
    assert grainy["method"]["fid"]["ci95"][0] > good["method"]["fid"]["ci95"][1]
    assert grainy["features"] == good["features"]
    train = splits[0].batch(range(160))["image"]
    copied = evaluate(Discs(), Objective(), *splits, samples=train, **options)
    assert copied["method"]["copies_pixels"]["mean"] == 1.0
    assert copied["method"]["nearest_pixels"]["mean"] == 0.0
    assert copied["method"]["fid_to_train"]["mean"] < copied["baseline"]["fid_to_train"]["mean"]


def test_bits_are_those_of_the_denoiser_and_the_baseline_per_patient(made):
    record, _ = made
    bits = record["method"]["bits_per_dimension"]
    assert bits["n"] == 4 and len(bits["per_patient"]) == 4
    assert record["baseline"]["bits_per_dimension"]["mean"] < bits["mean"] < 9


def test_pictures_show_the_same_number_and_are_enlarged_without_smoothing(made):
    _, folder = made
    shown = {path.stem: np.asarray(opened(path)) for path in folder.glob("*.png")}
    assert shown["real"].shape == shown["generated"].shape == shown["baseline"].shape
    assert shown["real"].shape == (8 * 26 - 2, 8 * 26 - 2, 3)
    exact = picture(derive(0, 0)).numpy().astype(np.uint8)
    enlarged = exact.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(shown["generated"][:24, :24, 0], enlarged)
    assert shown["trajectory"].shape == (6 * 26 - 2, 4 * 26 - 2, 3)
    assert "copies" in shown


def test_a_sample_is_the_same_in_any_batch_and_on_any_process(monkeypatch, cases):
    def drawn(batch):
        return generate(Discs(), Objective(), 7, None, Asked(seed=5, batch=batch))

    whole = drawn(7)
    assert torch.equal(whole, drawn(2))
    parts = []
    monkeypatch.setattr(processes, "world", lambda: 3)
    monkeypatch.setattr(processes, "agree", lambda values: values)
    monkeypatch.setattr(processes, "sum_", parts.append)
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        drawn(2)
    assert torch.equal(sum(parts), whole)


@pytest.fixture
def counting(monkeypatch):
    """Numbers of images that `Discs` is asked for, in a list that grows."""
    asked, predict = [], Discs.predict
    monkeypatch.setattr(
        Discs,
        "predict",
        lambda *given: asked.append(len(given[2]["seed"])) or predict(*given),
    )
    return asked


def test_kept_images_are_not_drawn_again_on_any_number_of_processes(
    counting, tmp_path, monkeypatch
):
    def drawn(count, batch):
        counting.clear()
        return generate(Discs(), Objective(), count, None, Asked(seed=5, batch=batch), tmp_path)

    whole = drawn(11, 11)
    (tmp_path / "00000000.safetensors").unlink()
    drawn(5, 2)
    assert counting == [2, 2, 1]
    parts = []
    with monkeypatch.context() as three:
        three.setattr(processes, "world", lambda: 3)
        three.setattr(processes, "agree", lambda values: values)
        three.setattr(processes, "sum_", parts.append)
        for rank, missing in enumerate(([], [1, 1], [1, 1, 1, 1])):
            three.setattr(processes, "rank", lambda rank=rank: rank)
            drawn(11, 1)
            assert counting == missing
    assert torch.equal(sum(parts), whole)
    assert torch.equal(drawn(11, 4), whole) and not counting


def test_evaluate_goes_on_after_an_interruption_as_if_it_had_never_stopped(
    cases, cache, counting, monkeypatch
):
    def measured(model):
        counting.clear()
        splits = cases.split("train"), cases.split("test")
        given = {"count": 40, "bits": 0, "model": model, "cache": cache}
        return evaluate(Discs(), Objective(), *splits, **given)

    def stopped(*_):
        raise KeyboardInterrupt

    whole = measured("")
    with monkeypatch.context() as context:
        context.setattr(generation, "_metrics", stopped)
        with pytest.raises(KeyboardInterrupt):
            measured("a1")
    assert counting == [16, 16, 8]
    assert measured("a1") == whole and not counting


def test_images_of_other_weights_seed_settings_or_data_are_not_kept(cases, tmp_path):
    train = cases.split("train")
    asked = Asked(cache=tmp_path / "features", model="a1", seed=0)
    folder = kept_in(asked, Discs(), train)
    assert kept_in(dataclasses.replace(asked, count=9, batch=3), Discs(), train) == folder
    assert kept_in(dataclasses.replace(asked, model=""), Discs(), train) is None
    for other in (
        (dataclasses.replace(asked, model="b2"), Discs(), train),
        (dataclasses.replace(asked, seed=1), Discs(), train),
        (asked, Discs(steps=4), train),
        (asked, Discs(), cases.split("test")),
    ):
        folder.mkdir(parents=True)
        assert kept_in(*other) != folder
        assert not folder.exists(), "the run folder does not grow"


def test_labels_are_drawn_at_the_frequencies_of_training(cases):
    train = cases.split("train")
    labels = drawn_labels(Discs(classes=2), train, 400, seed=0)
    assert 150 < int(labels.sum()) < 250
    assert drawn_labels(Discs(), train, 400, seed=0) is None
    images = generate(Discs(classes=2), Objective(), 6, labels[:6], Asked(seed=0, batch=4))
    assert torch.equal(images[:, 0, 0, 0], labels[:6].float())


def test_a_held_out_label_that_the_model_does_not_know_is_refused_before_anything_is_drawn(cases):
    """Of two classes, label 2 would mean "no label" to the network."""
    items = [{"image": picture(k).to(torch.uint8)[None], "label": k % 3} for k in range(9)]
    other = from_iterable(items, range=(0.0, 255.0))

    class Untouched(Discs):
        def predict(self, objective, batch):
            raise AssertionError("nothing is drawn")

    with pytest.raises(UserError, match="case 0002 has label 2, but the model knows the 2 classes"):
        evaluate(Untouched(classes=2), Objective(), cases.split("train"), other, count=4)


def test_quality_counts_the_evaluations_of_the_network(cases, cache):
    train = cases.split("train")
    real = judge(train, cases.split("test"), cache=cache)
    settings = [(name, Discs(grain=grain, steps=steps), Objective())
                for name, grain, steps in (("good", 0.0, 2), ("bad", 0.3, 5))]  # fmt: skip
    good, bad = quality_against_steps(settings, real, train, count=130, batch=40)
    assert (good["evaluations"], bad["evaluations"]) == (3, 6)
    assert good["fid"]["mean"] < bad["fid"]["mean"]
    json.dumps([good, bad], allow_nan=False)


def test_what_cannot_be_measured_is_said_in_one_line(cases, cache):
    splits = cases.split("train"), cases.split("test")
    nan = torch.full((3, 1, 12, 12), 0.0)
    nan[1, 0, 4, 4] = torch.nan
    with pytest.raises(UserError, match="sample 1 holds values that are not finite"):
        evaluate(Discs(), Objective(), *splits, samples=nan, cache=cache)
    with pytest.raises(UserError, match="cannot be compared"):
        evaluate(Discs(), Objective(), *splits, samples=nan[..., :6], cache=cache)

    class Dreaming(Discs):
        task = Task("dreaming", reads=("source",))

    with pytest.raises(UserError, match="dreaming has no evaluation"):
        evaluate(Dreaming(), Objective(), *splits)


def test_few_samples_are_refused_metric_by_metric(cases, cache):
    record = evaluate(
        Discs(),
        Objective(),
        cases.split("train"),
        cases.split("test"),
        count=20,
        cache=cache,
        bits=0,
    )
    assert record["method"]["fid"]["n"] == 20
    assert "there are 20" in record["method"]["fid"]["refused"]
    assert "mean" in record["method"]["ms_ssim"]


def test_a_trained_recipe_is_evaluated_in_three_dimensions_too(tmp_path):
    generator = torch.Generator().manual_seed(0)
    items = [
        {
            "image": torch.rand(1, 8, 8, 8, generator=generator),
            "split": "train" if k < 12 else "test",
        }
        for k in range(16)
    ]
    cases = from_iterable(items, range=(0.0, 1.0))
    from radiffuse.applications.generation.ddpm import DDPM

    recipe = dataclasses.replace(DDPM.tiny().fitted(cases.facts()), steps=2)
    record = evaluate(
        recipe, recipe.objective(), cases.split("train"), cases.split("test"),
        count=4, folder_for_pictures=tmp_path,
    )  # fmt: skip
    assert "256 grey values" in record["method"]["bits_per_dimension"]["refused"]
    assert (tmp_path / "generated.png").is_file() and (tmp_path / "trajectory.png").is_file()
