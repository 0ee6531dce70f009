"""Classes are what they are called: data number them by the alphabet, and a model as its own did."""

import dataclasses

import numpy as np
import pytest

from radiffuse import cli
from radiffuse.data.classes import named_alike, with_classes
from radiffuse.data.dataset import from_iterable
from radiffuse.data.files import read_json
from radiffuse.errors import UserError


def cases_of(names, seed=0):
    draw = np.random.default_rng(seed)
    items = [{"image": draw.integers(0, 255, (1, 16, 16)), "label": name} for name in names]
    return from_iterable(items, range=(0, 255))


def test_labels_are_numbered_as_the_model_s_classes():
    cases = cases_of(["covid", "pneumonia", "Normal", "pneumonia"])
    assert cases.columns["label"].stack([0, 1, 2, 3]).tolist() == [1, 2, 0, 2]
    known = with_classes(cases, ("covid", "normal", "oedema", "pneumonia"))
    assert known.columns["label"].stack([0, 1, 2, 3]).tolist() == [0, 3, 1, 3]
    assert (
        known.class_names == ("covid", "normal", "oedema", "pneumonia")
        and known.facts().classes == 4
    )
    assert any("class Normal is the model's normal" in line for line in known.lines)


def test_numbers_without_names_stay():
    items = [{"image": np.eye(8)[None] * k, "label": k % 2} for k in range(1, 5)]
    cases = from_iterable(items, range=(0, 255))
    assert with_classes(cases, ("a", "b")) is cases and with_classes(cases, ()) is cases


def test_a_class_that_the_model_does_not_know_is_refused_or_left_out():
    cases = cases_of(["covid", "normal"])
    with pytest.raises(
        UserError, match=r"class 'covid' of case .* none of the model's \(normal, oedema\)"
    ):
        with_classes(cases, ("normal", "oedema"))
    rest = with_classes(cases, ("normal", "oedema"), needed=False)
    assert "label" not in rest.columns and any("left out" in line for line in rest.lines)


def test_labels_of_voxels_that_are_called_otherwise_are_refused():
    cases = dataclasses.replace(cases_of(["a", "b"]), mask_names={"mask": ("", "Liver", "tumour")})
    named_alike(cases, {"mask": ("", "liver", ""), "other": ("", "spleen")})
    with pytest.raises(
        UserError, match="label 2 of mask is called 'tumour', and 'spleen' where the model"
    ):
        named_alike(cases, {"mask": ("", "liver", "spleen")})


def test_other_data_are_measured_by_the_model_s_classes(tmp_path, refused, capsys):
    """Bright and dark, told as "b" and "a"; of other data "c" stands where "a" stood."""
    draw = np.random.default_rng(0)

    def folder(name, words):
        (tmp_path / name).mkdir()
        dark = np.array([word == "a" for word in words])[:, None, None]
        images = draw.integers(0, 60, (len(words), 16, 16)) + np.where(dark, 0, 180)
        np.savez(tmp_path / name / "d.npz", image=images.astype(np.uint8), label=np.array(words))
        return tmp_path / name / "d.npz"

    own = folder("own", ["a", "b"] * 20)
    words = [
        "train",
        "diffmic",
        "--data",
        own,
        "--preset",
        "tiny",
        "--train.steps",
        "4",
        "--out",
        tmp_path / "run",
    ]
    assert cli.main([str(word) for word in words]) == 0
    other = folder("other", ["b", "c"] * 10)
    assert "class 'c' of case" in refused("evaluate", tmp_path / "run", "--data", other)
    words = ["predict", tmp_path / "run", "--data", other, "--out", tmp_path / "made"]
    assert cli.main([str(word) for word in words]) == 0
    assert "the labels of these data are left out" in capsys.readouterr().err
    alone = folder("alone", ["b"] * 20 + ["a"] * 20)
    words = ["evaluate", tmp_path / "run", "--data", alone, "--out", tmp_path / "m.json"]
    assert cli.main([str(word) for word in words]) == 0
    assert read_json(tmp_path / "m.json")["settings"]["class_names"] == ["a", "b"]
