"""Exported networks give the numbers of the run, in ONNX Runtime and as torch.export wrote them."""

import itertools
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch

import radiffuse as rd
from radiffuse import cli
from radiffuse.commands import export
from radiffuse.diffusion import filtered

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def trained(method, out, *words):
    data = ["--data", "brains:count=12,size=32", "--preset", "tiny", "--train.steps", "2"]
    assert cli.main(["train", method, *data, "--map", "image=t1", *words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    run = trained("ddpm", folder / "run")
    filtered.wiener_of.cache_clear()  # as in a process that trained nothing
    assert cli.main(["export", str(run), "--out", str(folder / "x"), "--batch", "2"]) == 0
    return run, folder / "x"


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 1, 32, 32, generator=generator), torch.tensor(
        [0.15, 0.9], dtype=torch.float64
    )


def test_both_files_give_what_the_denoiser_gives(exported):
    run, folder = exported
    x, t = inputs()
    with torch.no_grad():
        ours = rd.load(run).denoiser(x, t)
    session = onnxruntime.InferenceSession(folder / "denoiser.onnx")
    (theirs,) = session.run(None, {"x_t": x.numpy(), "t": t.numpy()})
    assert np.abs(theirs - ours.numpy()).max() <= 1e-4 * float(ours.abs().max())
    again = torch.export.load(folder / "denoiser.pt2").module()(x, t)
    torch.testing.assert_close(again, ours, rtol=1e-5, atol=1e-5)


def test_a_chain_without_radiffuse_is_that_of_its_sampler(exported):
    """DDIM in ten lines of NumPy, from the files alone."""
    run, folder = exported
    about = json.loads((folder / "denoiser.json").read_text())
    at = {round(t, 3): k for k, t in enumerate(about["times"])}
    session = onnxruntime.InferenceSession(folder / "denoiser.onnx")
    grid = [0.9, 0.6, 0.3, 0.1, 0.05]
    start = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    x = start.numpy()
    for now, then in itertools.pairwise(grid):
        (a, s), (b, r) = ((about["alpha"][at[t]], about["sigma"][at[t]]) for t in (now, then))
        (clean,) = session.run(None, {"x_t": x.astype(np.float32), "t": np.full(2, now)})
        x = b * clean + r / s * (x - a * clean)
    (x,) = session.run(None, {"x_t": x.astype(np.float32), "t": np.full(2, grid[-1])})
    denoiser = rd.load(run).denoiser
    with torch.no_grad():
        ours = rd.DDIM(denoiser, None)(start, torch.tensor(grid, dtype=torch.float64)).numpy()
    assert np.abs(x - ours).max() <= 1e-4 * np.abs(ours).max()


def test_priors_of_reconstructions_are_exported_too(tmp_path, capsys):
    run = trained("score-mri", tmp_path / "run", "--multiples", "1")
    assert cli.main(["export", str(run), "--out", str(tmp_path / "x")]) == 0
    assert "a chain of 8" in capsys.readouterr().out


def test_nothing_of_it_is_a_pickle(exported):
    _, folder = exported
    with zipfile.ZipFile(folder / "denoiser.pt2") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith((".pkl", ".pt")))
        assert archive.read(name) == b"", "of example inputs: there are none"


def test_at_time_zero_an_image_is_its_own_estimate(exported):
    x, t = inputs()
    session = onnxruntime.InferenceSession(exported[1] / "denoiser.onnx")
    (made,) = session.run(None, {"x_t": x.numpy(), "t": torch.zeros_like(t).numpy()})
    assert np.allclose(made, x.numpy(), atol=1e-5)


@pytest.mark.parametrize("at", [0, 1], ids=["call", "chain"])
def test_what_is_no_number_is_refused(exported, at, tmp_path, monkeypatch, capsys):
    found = [1e-6, 1e-6]
    found[at] = float("nan")
    monkeypatch.setattr(export, "_differences", lambda *told: tuple(found))
    out = str(tmp_path / "x")
    assert cli.main(["export", str(exported[0]), "--out", out, "--batch", "2"]) == 1
    assert "or none" in capsys.readouterr().err


def test_other_numbers_are_refused(exported, tmp_path, monkeypatch, capsys):
    run, made = exported

    def written(denoiser, x, t, out):
        """The file of the run, whose network is then another one."""
        shutil.copy(made / "denoiser.onnx", out)
        for weights in denoiser.parameters():
            weights.mul_(1.1)

    monkeypatch.setattr(export, "_write", written)
    assert cli.main(["export", str(run), "--out", str(tmp_path / "x"), "--batch", "2"]) == 1
    assert "gives other numbers" in capsys.readouterr().err
    assert not (tmp_path / "x" / "denoiser.json").exists()


def test_networks_that_are_told_more_are_refused(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--data", "brains:count=12,size=32", "--map", "source=t1", "target=t2"]
    small = ["--preset", "tiny", "--train.steps", "1", "--out", str(run)]
    assert cli.main(["train", "ddpm-conversion", *words, *small]) == 0
    assert cli.main(["export", str(run), "--out", str(tmp_path / "x")]) == 1
    assert "is told more than an image and a time" in capsys.readouterr().err
