"""Splits by patient, and the guard against one patient or one picture on both sides."""

import numpy as np
import pytest

from radiffuse.data.dataset import open_cases
from radiffuse.data.splits import assign, guard
from radiffuse.errors import UserError


def alone(names):
    """No two images alike."""
    return [frozenset({f"picture of {name}"}) for name in range(len(names))]


def test_a_patient_stays_on_one_side_and_shares_are_80_10_10():
    patients = [f"p{number // 3}" for number in range(3000)]
    split_of = assign(patients, alone(patients), seed=0)
    assert len(set(zip(patients, split_of, strict=True))) == 1000
    shares = {name: split_of.count(name) / 3000 for name in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.03)


def test_a_split_does_not_depend_on_who_else_is_there_but_on_the_seed():
    patients = [f"p{number}" for number in range(200)]
    split_of = dict(zip(patients, assign(patients, alone(patients), 0), strict=True))
    few = patients[100:]
    assert assign(few, alone(few), 0) == tuple(split_of[name] for name in few)
    assert assign(patients, alone(patients), 1) != tuple(split_of.values())


@pytest.mark.parametrize("seed", range(8))
def test_two_patients_are_train_and_test_and_one_is_train(seed):
    assert sorted(assign(["a", "b"], alone("ab"), seed)) == ["test", "train"]
    assert assign(["a"], alone("a"), seed) == ("train",)


def test_patients_who_share_a_picture_go_together():
    patients = [f"p{number}" for number in range(100)]
    shared = [frozenset({f"{number // 10}"}) for number in range(100)]
    split_of = assign(patients, shared, 0)
    assert all(len(set(split_of[i : i + 10])) == 1 for i in range(0, 100, 10))


IDS = ("a", "b", "c", "d")
SPLITS = ("train", "train", "test", "val")


def test_a_shared_patient_is_refused_and_named():
    with pytest.raises(UserError, match=r"1 patient stand.*: P2; .*--data-leak drop"):
        guard("x", IDS, ("P1", "P2", "P2", "P3"), SPLITS, alone(IDS))


def test_a_shared_picture_is_refused_and_named():
    pictures = [frozenset({name}) for name in ("1", "2", "1", "3")]
    with pytest.raises(UserError, match=r"1 held-out image byte-identical .*: c = a;"):
        guard("x", IDS, IDS, SPLITS, pictures)


def test_the_user_can_drop_or_keep_them():
    pictures = [frozenset({name}) for name in ("1", "2", "1", "3")]
    assert guard("x", IDS, IDS, SPLITS, pictures, "drop")[0] == {2}
    drop, notices = guard("x", IDS, IDS, SPLITS, pictures, "keep")
    assert drop == set()
    assert "too good" in notices[0]
    people = ("P1", "P2", "P2", "P3")
    assert guard("x", IDS, people, SPLITS, alone(IDS), "drop")[0] == {2}


def test_val_and_test_may_share_and_so_may_training_cases():
    pictures = [frozenset({name}) for name in ("1", "1", "2", "2")]
    assert guard("x", IDS, ("P1", "P1", "P2", "P2"), SPLITS, pictures) == (set(), [])


def test_a_blemish_of_one_percent_is_dropped_with_a_notice_and_more_is_not():
    ids = [f"c{number}" for number in range(201)]
    split_of = ["train"] + ["test"] * 200
    pictures = [frozenset({str(number)}) for number in range(201)]
    pictures[5] = pictures[6] = pictures[0]
    drop, notices = guard("x", ids, ids, split_of, pictures)
    assert drop == {5, 6}
    assert "c5 = c0, c6 = c0; 2 held-out cases are left out" in notices[0]
    pictures[7] = pictures[0]
    with pytest.raises(UserError, match="c5 = c0, c6 = c0, c7 = c0"):
        guard("x", ids, ids, split_of, pictures)
    pictures[5] = pictures[6] = frozenset({"other"})
    with pytest.raises(UserError, match="byte-identical"):
        guard("x", ids, ids, split_of, pictures, "refuse")


def test_the_guard_sees_pixels_and_forgives_constant_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4)).astype(np.uint8)
    images[1] = images[7] = 0
    split = np.array(["train"] * 4 + ["test"] * 4)
    np.savez(tmp_path / "fine.npz", image=images, split=split)
    assert len(open_cases(tmp_path / "fine.npz")) == 8
    images[6] = images[2]
    np.savez(tmp_path / "leak.npz", image=images, split=split)
    with pytest.raises(UserError, match="0006 = 0002"):
        open_cases(tmp_path / "leak.npz")
    cases = open_cases(tmp_path / "leak.npz", on_leak="drop")
    assert len(cases) == 7
    assert "0006" not in cases.ids


def test_a_split_made_here_never_leaks_copies(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype(np.uint8)
    images[20:] = images[:20]
    np.savez(tmp_path / "a.npz", image=images)
    split_of = open_cases(tmp_path / "a.npz").split_of
    assert split_of[20:] == split_of[:20]
    assert "test" in split_of
