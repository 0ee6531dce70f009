"""Networks that learn from a later step on, and mirroring of left and right whatever the storage order."""

import json

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.generation.brain_ldm import BrainLDM
from radiffuse.commands.begins import begun_too_late
from radiffuse.commands.sides import left_right
from radiffuse.commands.train_flags import order
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.nifti import write_nifti
from radiffuse.data.image import Image


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    draw = np.random.default_rng(0)
    label = np.arange(12) % 2
    image = draw.integers(0, 80, (12, 16, 16), dtype=np.uint8) + 100 * label[:, None, None]
    path = tmp_path_factory.mktemp("data") / "two.npz"
    np.savez(path, image=image.astype(np.uint8), label=label, patient=np.arange(12).astype(str))
    return path


def trained(data, out, *words):
    words = ("--preset", "tiny", "--train.batch", "4", *words)
    return cli.main(["train", "diffmic", "--data", str(data), "--out", str(out), *words])


def test_steps_that_end_before_the_denoiser_learns_are_refused(classes, tmp_path, capsys):
    assert trained(classes, tmp_path / "a", "--train.steps", "3", "--alone", "3") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the denoiser learns from step 3 on (--alone), and 3 steps end before" in line


def test_a_run_whose_denoiser_has_learned_nothing_says_so_and_predicts_nothing(
    classes, tmp_path, capsys
):
    run = tmp_path / "a"
    assert trained(classes, run, "--train.minutes", "0.01", "--alone", "100000") == 0
    assert "note: the denoiser learns from step 100000 on" in capsys.readouterr().err
    words = ["predict", str(run), "--data", str(classes), "--out", str(tmp_path / "p")]
    assert cli.main(words) == 1
    assert "has learned nothing" in capsys.readouterr().err


def test_a_run_that_came_to_its_denoiser_predicts(classes, tmp_path, capsys):
    assert trained(classes, tmp_path / "a", "--train.steps", "4", "--alone", "3") == 0
    assert "learns from step" not in capsys.readouterr().err
    words = ["predict", str(tmp_path / "a"), "--data", str(classes), "--out", str(tmp_path / "p")]
    assert cli.main(words) == 0


def test_a_critic_that_was_never_heard_is_told():
    recipe = BrainLDM.tiny()
    recipe = recipe.fitted(open_cases("brains3d:count=2,size=16").facts())
    objective = recipe.first_objective(None)
    objective.coder.seen.fill_(objective.after)
    (line,) = begun_too_late(objective)
    assert "the critic of patches" in line and "--adversarial-after" in line
    objective.coder.seen.fill_(objective.after + 1)
    assert not begun_too_late(objective)


# ------------------------------------------------------------------------------- left and right
def asked(*words, method="brain-ldm", preset="paper"):
    words = (method, "--preset", preset, "--data", "x", "--out", "y", *words)
    return order(words), words


@pytest.mark.parametrize(("codes", "axis"), [("RAS", 0), ("PSR", 2), ("PLS", 1), ("LPS", 0)])
def test_a_preset_mirrors_volumes_left_and_right_whatever_their_order(codes, axis):
    for method, stages in (("brain-ldm", ("train", "first")), ("ddpm", ("train",))):
        given, words = asked(method=method)
        turned, lines = left_right(given, words, codes, 3)
        assert all(getattr(turned, stage).mirror == (axis,) for stage in stages)
        assert f"axis {axis} of {codes}" in lines[0]


def test_axes_that_are_asked_for_and_pictures_are_mirrored_as_said():
    given, words = asked("--train.mirror", "1", "--first.mirror", "2")
    turned, lines = left_right(given, words, "PSR", 3)
    assert (turned.train.mirror, turned.first.mirror, lines) == ((1,), (2,), [])
    given, words = asked(method="ddpm")
    assert left_right(given, words, "PLS", 2) == (given, [])
    turned, (line,) = left_right(given, words, "", 3)
    assert turned == given and "do not say where left and right are" in line


def test_training_mirrors_the_axis_that_the_volumes_call_left_and_right(tmp_path):
    affine = torch.tensor([[0.0, 0, 2, 0], [-2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]).double()
    for k in range(4):
        data = torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(k))
        write_nifti(Image(data, affine), tmp_path / "in" / f"p{k}00.nii.gz")
    cases = open_cases(tmp_path / "in")
    assert cases.orientation == "PSR"
    words = [
        "--preset",
        "paper",
        "--width",
        "8",
        "--multiples",
        "1",
        "--attention",
        "--blocks",
        "1",
    ]
    words += ["--train.steps", "1", "--train.batch", "2", "--train.warmup", "0"]
    out = tmp_path / "run"
    argv = ["train", "ddpm", "--data", str(tmp_path / "in"), "--out", str(out), *words]
    assert cli.main(argv) == 0
    (state,) = out.glob("checkpoint/*/state.json")
    assert json.loads(state.read_text())["settings"]["--train.mirror"] == [2]
