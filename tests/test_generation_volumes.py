"""The evaluation of generated volumes, from end to end on a stand-in whose quality is known."""

import dataclasses
import json
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image as Picture
from torch import nn

from radiffuse.applications.evaluate import evaluate
from radiffuse.applications.generation import volumes as seen_volumes
from radiffuse.applications.generation.task import GENERATION
from radiffuse.applications.task import Task
from radiffuse.data.dataset import from_iterable
from radiffuse.diffusion.noise import Seeded
from radiffuse.errors import UserError
from radiffuse.metrics import features

SIDE = 12
OWN = {
    "fid_planes", "fid_planes_corrected", "kid_planes", "mmd", "coherence", "nearest_aligned", "copies_aligned",
}  # fmt: skip


def volume(seed):
    """A soft ball of random radius and place."""
    radius, *centre = Seeded([seed]).uniform(torch.zeros(1, 4))[0]
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    x, y, z = (line - 4 * (place - 0.5) for place in centre)
    distance = (x[:, None, None] ** 2 + y[:, None] ** 2 + z**2).sqrt()
    return (255 * torch.sigmoid(3 * (2 + 2 * radius - distance))).round()[None]


def cases_of(count, channels=1, person=str):
    items = [
        {
            "image": volume(k).to(torch.uint8).repeat(channels, 1, 1, 1),
            "split": (split := "train" if k < count * 2 // 3 else "test"),
            "patient": split + person(k),
        }
        for k in range(count)
    ]
    return from_iterable(items, range=(0.0, 255.0))


@dataclasses.dataclass(frozen=True)
class Balls:
    """Draws from the very law of the data, or slice by slice from it."""

    task: ClassVar[Task] = GENERATION
    apart: bool = False
    classes: int = 0
    steps: int = 1

    def predict(self, objective: Any, batch: Any):
        seeds = [10_000 + int(seed) % 10**6 for seed in batch["seed"]]
        if not self.apart:
            images = torch.stack([volume(seed) for seed in seeds])
        else:
            images = torch.stack(
                [
                    torch.stack([volume(seed + 7 * k)[:, k] for k in range(SIDE)], 1)
                    for seed in seeds
                ]
            )
        return {"image": images / 127.5 - 1}

    def trajectory(self, objective: Any, batch: Any):
        yield self.predict(objective, batch)["image"]


class Objective:
    def __init__(self):
        self.players = {"network": nn.Linear(1, 1)}


def measured(cases, folder=None, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 25)
        return evaluate(
            Balls(apart=options.pop("apart", False)),
            Objective(),
            cases.split("train"),
            cases.split("test"),
            bits=0,
            folder_for_pictures=folder,
            **options,
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, cache = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("cache")
    cases = cases_of(90)
    right = measured(cases, folder, count=40, cache=cache)
    return right, measured(cases, count=40, cache=cache, apart=True), folder, cache


def test_volumes_have_measures_of_their_own(made):
    right, _, _, _ = made
    json.dumps(right, allow_nan=False)
    for who in ("method", "baseline", "reference"):
        assert set(right[who]) >= OWN
        assert all("mean" in right[who][name] for name in OWN - {"copies_aligned"})
    assert "needs 50" in right["method"]["kid"]["refused"], "few volumes, and said so"
    assert right["method"]["fid_planes"]["n"] == 30
    assert right["settings"]["ms_ssim_scales"] == 1
    assert set(right["features"]["slices"]) == {"name", "hash"}


def test_slices_that_are_right_alone_make_wrong_volumes(made):
    right, apart, _, _ = made
    method, wrong, real = right["method"], apart["method"], right["reference"]
    assert method["coherence"]["mean"] == pytest.approx(real["coherence"]["mean"], abs=0.05)
    assert wrong["coherence"]["mean"] < method["coherence"]["mean"] - 0.2
    for name in ("fid_planes", "kid_planes"):
        assert wrong[name]["mean"] > 2 * max(method[name]["mean"], real[name]["mean"]), name
    assert wrong["fid_planes"]["ci95"][0] > method["fid_planes"]["mean"]
    assert method["mmd"]["ci95"][0] < 0 < method["mmd"]["ci95"][1]


def test_both_networks_are_kept_apart_in_the_cache(made):
    *_, cache = made
    assert len(list(cache.glob("features-*.safetensors"))) == 2


def test_pictures_show_three_planes(made):
    *_, folder, _ = made
    sides = {}
    for name in ("real", "generated", "baseline", "trajectory"):
        with Picture.open(folder / f"{name}.png") as shown:
            sides[name] = shown.size
    across, down = 3 * 2 * SIDE + 2, 2 * SIDE + 2
    assert sides["generated"] == (8 * across - 2, 4 * down - 2)
    assert sides["trajectory"] == (across - 2, 6 * down - 2)


def test_few_people_are_measured_where_that_says_something():
    """Ten held-out volumes: what stands on slices and voxels is given, what needs 50 is refused."""
    record = measured(cases_of(30), count=12)
    found = record["method"]
    assert found["fid_planes"]["n"] == 10 and found["mmd"]["n"] == 10
    assert "there are 10" in found["fid"]["refused"]
    assert "20 images" in found["ms_ssim"]["refused"]


def test_intervals_are_of_people():
    """Volumes of one person in training and of one held out: numbers, and no interval that says nobody else counts."""
    record = measured(cases_of(60, person=lambda k: "s only one"), count=30)
    names = OWN - {"copies_aligned", "nearest_aligned", "coherence"}
    assert all(record["method"][name]["ci95"] is None for name in names)
    of_real = OWN - {"copies_aligned"} | {"ms_ssim", "nearest_pixels", "nearest_features"}
    assert all(record["reference"][name]["ci95"] is None for name in of_real)


class Photographs(nn.Module):
    """Stands for weights of the user's."""

    def forward(self, x):
        return torch.stack([x.flatten(1).mean(1), x.flatten(1).std(1)], 1)


def test_weights_of_the_user_s_are_for_slices(monkeypatch, tmp_path):
    monkeypatch.setattr(seen_volumes, "load_pretrained", lambda path: Photographs())
    record = measured(cases_of(30), count=12, weights=tmp_path / "mine.safetensors")
    assert record["features"]["slices"]["name"] == "Photographs"
    assert record["features"]["name"] == "FeatureNetwork"
    with pytest.raises(UserError, match=r"mine\.safetensors: .* grey or colour slices only"):
        measured(cases_of(30, channels=2), count=12, weights=tmp_path / "mine.safetensors")
