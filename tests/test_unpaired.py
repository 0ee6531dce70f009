"""Unpaired images: sources and targets of different cases, through data, training, prediction and evaluation."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.exposure import match_histograms

from radiffuse import cli
from radiffuse.applications.translation.apart import unlearned
from radiffuse.commands.source import open_source
from radiffuse.data.dataset import open_cases
from radiffuse.data.gaps import FLAG
from radiffuse.data.unpaired import given_all, lent
from radiffuse.papers import by_id
from radiffuse.runs.config import DataSource

pytestmark = pytest.mark.usefixtures("hasty_judge")

SIDE = 16
KEYS = ("source", "target")
BRIGHT, DARK = 200, 60
"""Grey values of discs of A and of B; the background is 20 and 120."""


def disc(path, kind, number):
    """A picture of one kind, whose place says its number."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (y - 5 - number % 6) ** 2 + (x - 5 - number // 6) ** 2 < 12
    low, high = (20, BRIGHT) if kind == "A" else (120, DARK)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(inside, high, low).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """trainA, trainB, testA, testB, as unpaired sets are told: ten, eight, three and two pictures."""
    root = tmp_path_factory.mktemp("unpaired")
    number = 0
    for name, count in {"trainA": 10, "trainB": 8, "testA": 3, "testB": 2}.items():
        for k in range(count):
            disc(root / name / f"{k}.png", name[-1], number)
            number += 1
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """cases.csv: eight cases with a source alone, eight with a target alone, four with both."""
    root = tmp_path_factory.mktemp("table")
    rows = []
    for k in range(20):
        source, target = k < 8 or k > 15, k > 7
        names = {"source": f"a{k}.png" if source else "", "target": f"b{k}.png" if target else ""}
        for kind, name in zip("AB", names.values(), strict=True):
            if name:
                disc(root / name, kind, k)
        split = "test" if k in (7, 15, 19) else "train"
        rows.append({"case": f"c{k}", "patient": f"p{k}", "split": split, **names})
    with (root / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def opened(path, **mapping):
    """As SynDiff reads them."""
    return open_source(DataSource(str(path), map=mapping), by_id("syndiff").load().tiny())


def run(*words):
    assert cli.main([str(word) for word in words]) == 0


def trained(data, out, *more):
    words = ["--data", data, *more, "--preset", "tiny", "--train.steps", 2, "--train.batch", 2]
    run("train", "syndiff", *words, "--out", out)
    return out


@pytest.fixture(scope="module")
def run_of_folders(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "folders"
    return trained(folders, out, "--map", "source=A", "target=B")


@pytest.fixture(scope="module")
def run_of_table(table, tmp_path_factory):
    return trained(table, tmp_path_factory.mktemp("run") / "table")


# ------------------------------------------------------------------------------------------- data
def test_two_classes_are_two_columns_of_different_cases(folders):
    cases = opened(folders, source="A", target="B")
    assert len(cases) == 23 and set(KEYS) <= {*cases.keys}
    assert len(given_all(cases, ["source"])) == 13 and len(given_all(cases, ["target"])) == 10
    assert given_all(cases, KEYS) == []
    assert any(
        "13 have a source, 10 have a target, 0 have both of 23" in line for line in cases.notices
    )


def test_only_real_images_are_trained_on_each_as_often_as_the_others(folders):
    cases = opened(folders, source="A", target="B").split("train")
    batch = cases.batch(range(len(cases)))
    for key, seen in (("source", 10), ("target", 8)):
        images = [tuple(image.flatten().tolist()) for image in batch[key]]
        assert all(len(set(image)) == 2 for image in images)  # a disc on its ground; none is empty
        counts = [images.count(image) for image in set(images)]
        assert len(counts) == seen and max(counts) - min(counts) <= 1


def test_what_is_lent_is_of_the_same_split(folders):
    cases = opened(folders, source="A", target="B")
    for key in KEYS:
        shown = {split: set() for split in ("train", "test")}
        for row, image in enumerate(cases.batch(range(len(cases)))[key]):
            shown[cases.split_of[row]].add(tuple(image.flatten().tolist()))
        assert not shown["train"] & shown["test"]


def test_range_and_facts_are_of_the_images_there_are(table, folders):
    cases = opened(folders, source="A", target="B")
    sources = open_cases(folders / "trainA")
    facts, alone = cases.facts(), sources.facts()
    # ten of eighteen training cases have a source; those lent repeat eight of them
    assert facts.std == pytest.approx(alone.std, rel=0.05)
    assert facts.channels == {"source": 1, "target": 1}
    raw = open_cases(table, mapping={"source": "source", "target": "target"}, gaps=KEYS)
    assert raw.ranges == {"source": (0.0, 255.0), "target": (0.0, 255.0)}


def test_a_range_that_is_not_declared_is_of_images_not_of_gaps(tmp_path):
    import nibabel

    lines = ["case;patient;source;target"]
    for k in range(6):
        name = "source" if k < 3 else "target"
        data = np.random.default_rng(k).uniform(100, 200, (8, 8, 8)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / f"{k}.nii")
        lines.append(f"{k};p{k};" + (f"{k}.nii;" if name == "source" else f";{k}.nii"))
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    cases = open_cases(tmp_path, gaps=KEYS)
    assert all(low >= 100 for low, _ in cases.ranges.values())


def test_the_fingerprint_does_not_tell_what_was_lent(table):
    columns = {key: key for key in KEYS}
    assert (
        opened(table, **columns).fingerprint
        == open_cases(table, mapping=columns, gaps=KEYS).fingerprint
    )


def test_colour_and_grey_may_stand_apart(tmp_path):
    for k in range(3):
        disc(tmp_path / "A" / f"{k}.png", "A", k)
        colour = np.random.default_rng(k).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        (tmp_path / "B").mkdir(exist_ok=True)
        Image.fromarray(colour).save(tmp_path / "B" / f"{k}.png")
    cases = open_cases(tmp_path / "A")
    assert cases.batch([0])["image"].shape == (1, 1, SIDE, SIDE)
    with_classes = tmp_path / "cases.csv"
    lines = [f"a{k},pa{k},A/{k}.png," for k in range(3)] + [
        f"b{k},pb{k},,B/{k}.png" for k in range(3)
    ]
    with_classes.write_text("\n".join(["case,patient,source,target", *lines]))
    both = opened(with_classes, source="source", target="target")
    batch = both.batch(range(len(both)))
    assert batch["source"].shape[1] == 1 and batch["target"].shape[1] == 3


def test_sizes_that_differ_are_named(tmp_path, refused):
    for k in range(8):
        disc(tmp_path / "A" / f"{k}.png", "A", k)
        (tmp_path / "B").mkdir(exist_ok=True)
        larger = np.random.default_rng(k).integers(0, 255, (24, 24), dtype=np.uint8)
        Image.fromarray(larger).save(tmp_path / "B" / f"{k}.png")
    words = ["--map", "source=A", "target=B", "--preset", "tiny", "--train.steps", 1]
    out = tmp_path.with_name(f"{tmp_path.name}-run")
    line = refused("train", "syndiff", "--data", tmp_path, *words, "--out", out)
    assert "--size" in line and "24" in line


def test_methods_of_pairs_take_no_classes_as_columns(folders, tmp_path, refused):
    words = ["--map", "source=A", "target=B", "--preset", "tiny", "--out", tmp_path / "run"]
    line = refused("train", "ddpm-conversion", "--data", folders, *words)
    assert "'A' is a class" in line and "unpaired" in line


def test_training_needs_both_kinds(folders, tmp_path, refused):
    (tmp_path / "cases.csv").write_text(
        "case,patient,split,source,target\n"
        f"a,p,train,{folders}/trainA/0.png,\nb,q,train,{folders}/trainA/1.png,\n"
        f"c,r,test,,{folders}/testB/0.png\n"
    )
    line = refused(
        "train", "syndiff", "--data", tmp_path, "--preset", "tiny", "--out", tmp_path / "run"
    )
    assert "no training case has a target" in line


# ----------------------------------------------------------------------------------- predictions
def test_sources_are_translated_and_targets_left_out(run_of_folders, tmp_path, capsys):
    run("predict", run_of_folders, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(record["predictions"]) == 3 and all(
        "target" in each["files"] for each in record["predictions"]
    )
    assert "2 of 5 cases have no source and are left out" in capsys.readouterr().err


def test_targets_alone_go_back(run_of_folders, folders, tmp_path):
    words = ["--data", folders / "testB", "--map", "target=image"]
    run("predict", run_of_folders, *words, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(record["predictions"]) == 2 and all(
        "source" in each["files"] for each in record["predictions"]
    )


# ------------------------------------------------------------------------------------ evaluation
def test_without_pairs_sets_are_compared_and_the_way_back(run_of_folders, tmp_path):
    run("evaluate", run_of_folders, "--out", tmp_path / "metrics.json")
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["unpaired"] == {"sources": 3, "targets": 2}
    assert record["method"]["psnr_cycle"]["n"] == 3 and "psnr" not in record["method"]
    assert {*record["baselines"]} == {"unchanged", "histogram"}
    assert (tmp_path / "pictures" / "translation.png").is_file()


def test_pairs_are_measured_as_pairs_beside_baselines_that_know_them(run_of_table, tmp_path):
    run("evaluate", run_of_table, "--out", tmp_path / "metrics.json")
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["method"]["psnr"]["n"] == 1  # c19 alone has both
    assert {*record["baselines"]} == {"regression", "pix2pix"}


def test_pairs_that_training_had_none_of_stand_beside_unlearned_answers(
    run_of_folders, folders, tmp_path
):
    lines = [f"{k},p{k},{folders}/testA/{k}.png,{folders}/testB/{k}.png" for k in range(2)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,patient,source,target", *lines]))
    words = ["--data", tmp_path, "--map", "source=source", "target=target"]
    run("evaluate", run_of_folders, *words, "--out", tmp_path / "metrics.json")
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["method"]["psnr"]["n"] == 2
    assert {*record["baselines"]} == {"unchanged", "histogram"}


def test_held_out_cases_of_one_kind_cannot_be_measured(run_of_folders, folders, tmp_path, capsys):
    (tmp_path / "cases.csv").write_text(
        f"case,patient,split,source,target\na,p,test,{folders}/testA/0.png,\n"
        f"b,q,train,,{folders}/testB/1.png\n"
    )
    words = ["--data", tmp_path, "--map", "source=source", "target=target"]
    words = ["evaluate", run_of_folders, *words, "--out", tmp_path / "m.json"]
    assert cli.main([str(word) for word in words]) == 1
    assert "no held-out case has a target" in capsys.readouterr().err


def test_the_histogram_is_that_of_all_targets(folders):
    cases = opened(folders, source="A", target="B").split("train")
    source = cases.batch([0, 1])["source"]
    made = unlearned(cases, source)
    pool = torch.cat(list(cases.batch(range(len(cases)))["target"]), dim=1)[0].numpy()
    expected = match_histograms(source[0, 0].numpy(), pool)
    assert np.allclose(made["histogram"].mean[0, 0], expected, atol=1e-6)
    assert torch.equal(made["unchanged"].mean, source)


def test_lent_columns_say_whose_image_is_whose_own(table):
    cases = open_cases(table, gaps=KEYS)
    before = cases.columns["source" + FLAG].stack(cases.rows)
    after = lent(cases, KEYS).columns["source" + FLAG].stack(cases.rows)
    assert torch.equal(before, after) and before.tolist() == [1] * 8 + [0] * 8 + [1] * 4
