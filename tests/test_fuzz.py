"""Malformed inputs: one line that names what is wrong, or an answer that is right; nothing else."""

import os
from collections import Counter

import numpy as np
import pytest

import malformed
import malformed_faults as faults
import malformed_files as files
import malformed_judge as judge

COUNT = 200
NOT_READ = ("matlab5",)
"""Forms that are refused undamaged: there is no reader of them."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Data of every form and finished runs, to be damaged."""
    return malformed.prepare(tmp_path_factory.mktemp("good"))


def test_malformed_inputs_are_refused_in_one_line_or_read_right(good, tmp_path):
    verdicts = [judge.tried(seed, good, tmp_path / str(seed)) for seed in range(COUNT)]
    bad = [f"{v.kind}: {v.about}\n  {v.said[:300]}" for v in verdicts if not v.good]
    assert not bad, "\n".join(bad)
    kinds = Counter(verdict.kind for verdict in verdicts)
    # damage that harms nobody is rare
    assert kinds["refused"] > COUNT / 2 and kinds["read"] > COUNT / 20


@pytest.mark.parametrize("form", files.FORMS)
def test_what_is_damaged_was_good(good, tmp_path, form):
    """So that a refusal is for the damage: every form is read undamaged, or is refused by its name."""
    here, made = tmp_path / "here", files.FORMS[form]
    faults.copied(good / "data" / form, here / "data")
    data = os.path.join("data", made.data)
    words = malformed.applied(made, "train" if made.method else "predict", data, good, here)
    verdict = judge.judged(malformed.Input(form, words, here, ("data",)))
    assert verdict.kind == ("refused" if form in NOT_READ else "read"), verdict.said


@pytest.mark.parametrize("run", malformed.RUNS)
def test_runs_that_are_damaged_were_good(good, tmp_path, run):
    for command, use in malformed.uses(run).items():
        here = tmp_path / command / "here"
        here.mkdir(parents=True)
        malformed.laid_out(run, good, here)
        verdict = judge.judged(malformed.Input(command, use.words, here, ("run",), use.out))
        assert verdict.kind == "read", (command, verdict.said)


def test_the_judge_sees_what_is_wrong(good, tmp_path, monkeypatch):
    """A value that others read differently, an internal error, a file elsewhere: each is found."""
    words = ("train", "ddpm", "--data", "data", "--out", "out", "--preset", "tiny")

    def verdict():
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        faults.copied(good / "data" / "npy", place / "data")
        data = (*words[:3], "data/a.npy", *words[4:])
        return judge.judged(malformed.Input("", data, place, ("a.npy",))).kind

    assert verdict() == "read"
    with monkeypatch.context() as change:
        other = files.grey(np.random.default_rng(1), 6, 16, 16)
        change.setattr(files, "arrays_by_others", lambda path: {"image": other})
        assert verdict() == "wrong value"
    with monkeypatch.context() as change:
        change.setattr(judge.train_command, "check_trainable", lambda cases: 1 / 0)
        assert verdict() == "internal error"
    with monkeypatch.context() as change:
        change.setattr(
            judge.train_command, "check_trainable", lambda cases: open("escaped", "w").close()
        )
        assert verdict() == "wrote outside"
