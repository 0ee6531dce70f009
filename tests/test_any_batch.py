"""A case is the same in any batch: to the bit with --batch 1, and but for rounding in larger ones."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from radiffuse import cli
from radiffuse.runs.run import open_run, record_model
from radiffuse.training import checkpoint, processes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose samples have 16 bits, and whose network is not next to zero."""
    folder = tmp_path_factory.mktemp("runs")
    pixels = np.random.default_rng(0).normal(size=(12, 16, 16)).astype(np.float32)
    np.savez(folder / "data.npz", image=pixels)
    words = ["--preset", "tiny", "--width", 8, "--train.steps", 1, "--range", -3, 3]
    command = ["train", "ddpm", "--data", folder / "data.npz", "--out", folder / "run", *words]
    assert cli.main([str(word) for word in command]) == 0
    opened = open_run(folder / "run")
    torch.manual_seed(0)
    for parameter in opened.objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model = folder / "run" / "model.safetensors"
    record = partial(record_model, folder / "run", opened.manifest)
    checkpoint.save_model(opened.objective, model, method="ddpm", step=1, record=record)
    return folder / "run"


def sampled(run, out, *words):
    command = ["sample", run, "--out", out, "--steps", 5, *words]
    assert cli.main([str(word) for word in command]) == 0
    return [path.read_bytes() for path in sorted(out.glob("sample-*.png"))]


def test_alone_a_sample_is_the_same_to_the_bit_whatever_else_is_drawn(run, tmp_path, monkeypatch):
    """In a smaller number, in two goes, and as the share of the second of two processes."""
    whole = sampled(run, tmp_path / "whole", "--count", 5, "--batch", 1)
    assert len(set(whole)) == 5
    assert sampled(run, tmp_path / "few", "--count", 2, "--batch", 1) == whole[:2]
    assert sampled(run, tmp_path / "few", "--count", 5, "--batch", 1) == whole
    words = ("--count", 5, "--batch", 1)
    monkeypatch.setattr(processes, "start", lambda: None)
    monkeypatch.setattr(processes, "agree", list)
    monkeypatch.setattr(processes, "world", lambda: 2)
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert sampled(run, tmp_path / "two", *words) == whole[2:]


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_in_a_batch_a_sample_differs_by_rounding_alone(run, tmp_path, batch):
    sampled(run, tmp_path / "alone", "--count", 5, "--batch", 1)
    sampled(run, tmp_path / "batch", "--count", 5, "--batch", batch)
    for k in range(5):
        one, other = (
            np.asarray(Picture.open(tmp_path / name / f"sample-{k:05d}.png")).astype(int)
            for name in ("alone", "batch")
        )
        assert np.ptp(one) > 1000 and abs(one - other).max() <= 1
