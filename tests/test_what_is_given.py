"""What a prediction is made from: what is assumed of it is said, and what it cannot be made from is refused."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

import radiffuse as rd
from radiffuse import cli
from radiffuse.data.apart import check_apart
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.errors import UserError
from radiffuse.operators import Fourier

SHAPE = (32, 32)
GENERAL = ("--steps", "2", "--set", "solver=probed", "highest=5")


def grey(count=1, seed=0):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    spot = 150 * np.exp(-((rows - 16) ** 2 + (columns - 14) ** 2) / 60)
    return spot + 30 * np.random.default_rng(seed).random((count, *SHAPE))


def trained(method, out, **columns):
    np.savez(out.parent / "train.npz", **columns)
    words = ["--data", out.parent / "train.npz", "--preset", "tiny", "--train.steps", "1"]
    assert not cli.main([str(word) for word in ("train", method, *words, "--out", out)])
    return out


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    out = tmp_path_factory.mktemp("denoiser") / "run"
    return trained("oct-ddpm", out, clean=grey(8).astype(np.uint8))


@pytest.fixture(scope="module")
def scanner(tmp_path_factory):
    out = tmp_path_factory.mktemp("scanner") / "run"
    return trained("score-mri", out, image=grey(8).astype(np.uint8))


def predicted(run, data, out, *words):
    told = ("predict", run, "--data", data, "--out", out, *words)
    return cli.main([str(word) for word in told])


def scan(path, value=None):
    image = grey()[0] if value is None else value
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), np.diag([2.0, 3, 1, 1])), path)
    return path


# ------------------------------------------------------------------------------------- which image
def test_the_only_image_is_what_is_predicted_from_and_that_is_said(denoiser, tmp_path, capsys):
    assert predicted(denoiser, scan(tmp_path / "a.nii.gz"), tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "image, the only image, is taken for noisy" in said and "noise is added" not in said


def test_a_column_called_as_it_should_be_is_taken_whatever_the_training_named(
    tmp_path_factory, tmp_path
):
    folder = tmp_path_factory.mktemp("named")
    np.savez(folder / "train.npz", t1=grey(8).astype(np.uint8))
    words = ["--map", "clean=t1", "--preset", "tiny", "--train.steps", "1", "--out", folder / "run"]
    told = ("train", "oct-ddpm", "--data", folder / "train.npz", *words)
    assert not cli.main([str(word) for word in told])
    one, other = grey(1, 1).astype(np.uint8), grey(1, 2).astype(np.uint8)
    np.savez(tmp_path / "new.npz", other=other, noisy=one)
    np.savez(tmp_path / "alone.npz", noisy=one)
    for name in ("new", "alone"):
        assert predicted(folder / "run", tmp_path / f"{name}.npz", tmp_path / name) == 0
    first, second = (next((tmp_path / name).glob("*denoised.png")) for name in ("new", "alone"))
    assert torch.equal(read_image(first).data, read_image(second).data)


def test_an_image_of_another_name_than_the_training_named_is_told(tmp_path, capsys):
    np.savez(tmp_path / "train.npz", flair=grey(8).astype(np.uint8), t1=grey(8, 1).astype(np.uint8))
    words = ["--map", "image=flair", "--preset", "tiny", "--train.steps", "1"]
    told = ("train", "anoddpm", "--data", tmp_path / "train.npz", *words, "--out", tmp_path / "run")
    assert not cli.main([str(word) for word in told])
    np.savez(tmp_path / "new.npz", t1=grey().astype(np.uint8))
    assert predicted(tmp_path / "run", tmp_path / "new.npz", tmp_path / "a") == 0
    assert "t1, the only image, is taken for image" in capsys.readouterr().err
    # a file has no name of its own for what it shows
    assert predicted(tmp_path / "run", scan(tmp_path / "a.nii.gz"), tmp_path / "b") == 0
    assert "the only image" not in capsys.readouterr().err


def test_measured_k_space_is_used_whatever_the_image_beside_it_is_called(scanner, tmp_path, capsys):
    image = torch.as_tensor(grey()[0], dtype=torch.complex64)[None]
    kspace = Fourier(2)(image[None])[0] * torch.ones(2, 1, 1)
    np.savez(tmp_path / "k.npz", kspace=kspace[None].numpy(), reference=grey().astype(np.uint8))
    assert predicted(scanner, tmp_path / "k.npz", tmp_path / "out") == 0
    assert "simulated" not in capsys.readouterr().err
    assert list((tmp_path / "out").glob("*-magnitude.*"))


def test_what_lies_beside_the_only_image_stays(tmp_path):
    np.savez(
        tmp_path / "v.npz", photo=grey(3).astype(np.uint8), fov_mask=np.ones((3, *SHAPE), "u1")
    )
    for wanted in ({}, {"image": "picture", "mask": "vessel"}):
        roles = ("image", "mask", "fov_mask")
        cases = open_cases(tmp_path / "v.npz", where_there=wanted, suited=("image",), roles=roles)
        assert set(cases.keys) == {"image", "fov_mask"}


def test_of_several_images_one_has_to_be_named_as_what_is_given(tmp_path, denoiser, refused):
    np.savez(tmp_path / "two.npz", a=grey().astype(np.uint8), b=grey().astype(np.uint8))
    line = refused("predict", denoiser, "--data", tmp_path / "two.npz", "--out", tmp_path / "out")
    assert "--map noisy=" in line


# --------------------------------------------------------------------------- what is simulated
def test_that_noise_is_added_to_clean_images_is_said(denoiser, tmp_path, capsys):
    words = ("--map", "clean=image")
    assert predicted(denoiser, scan(tmp_path / "a.nii.gz"), tmp_path / "out", *words) == 0
    assert "noise is added to them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "mri (gaussian-columns, R = 4) is simulated from them"),
        ((*GENERAL, "measurement=super-resolution"), "takes the images themselves for small ones"),
        ((*GENERAL, "measurement=noise", "simulated=false"), ""),
    ],
    ids=["mri", "small", "as it is"],
)
def test_that_a_measurement_is_simulated_is_said(scanner, words, said, tmp_path, capsys):
    assert predicted(scanner, scan(tmp_path / "a.nii.gz"), tmp_path / "out", *words) == 0
    told = capsys.readouterr().err
    assert said in told and ("taken for the truth" in told) == bool(said)


def test_a_card_says_what_images_are_taken_for(capsys):
    assert cli.main(["models", "brains-finer"]) == 0
    assert "--set simulated=false takes the images themselves for small ones" in (
        capsys.readouterr().out
    )


# ------------------------------------------------------------------------------------ from Python
def test_an_array_is_what_the_method_predicts_from(denoiser, scanner):
    image = grey()[0].astype(np.float32)
    run = rd.load(denoiser)
    alone, named = run.predict(image)[0], run.predict({"noisy": image})[0]
    assert torch.equal(alone["denoised"].data, named["denoised"].data)
    assert "image" in rd.load(scanner).predict(image)[0].outputs


def test_a_complex_array_is_k_space_where_the_method_reads_it(scanner, denoiser):
    coils = np.exp(1j * np.linspace(0, 2, 4))[:, None, None] * np.linspace(0.5, 1, 4)[:, None, None]
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(coils * grey()[0], (1, 2))), (1, 2))
    kspace = (spectrum / 32).astype(np.complex64)
    assert "magnitude" in rd.load(scanner).predict(kspace)[0].outputs
    with pytest.raises(UserError, match="is complex"):
        rd.load(denoiser).predict(kspace[0])


def test_what_lies_beside_an_array_is_read_as_in_a_file(denoiser):
    image = grey()[0].astype(np.float32)
    run = rd.load(denoiser)
    alone = run.predict(image)[0]["denoised"].data
    beside = run.predict({"noisy": image, "mask": None, "label": 1, "case": "a"})[0]
    assert torch.equal(beside["denoised"].data, alone) and beside.case == "a"


def test_a_denoiser_of_one_case_is_none_of_images_alone(denoiser):
    with pytest.raises(UserError, match="more than an image and a time"):
        _ = rd.load(denoiser).denoiser


# ------------------------------------------------------------------------- what it is written like
def test_an_image_of_two_axes_comes_back_with_two(denoiser, tmp_path):
    scan(tmp_path / "a.nii.gz")
    scan(tmp_path / "b.nii.gz", grey()[0][..., None])
    for name, axes in (("a", 2), ("b", 3)):
        assert predicted(denoiser, tmp_path / f"{name}.nii.gz", tmp_path / name) == 0
        made = tmp_path / name / f"{name}-denoised.nii.gz"
        assert SimpleITK.ReadImage(str(made)).GetDimension() == axes
        given = nibabel.load(tmp_path / f"{name}.nii.gz")
        assert nibabel.load(made).shape == given.shape
        assert np.allclose(nibabel.load(made).affine, given.affine)


def test_equal_answers_have_no_deviation_and_that_is_said(denoiser, tmp_path, capsys):
    assert predicted(denoiser, scan(tmp_path / "a.nii.gz"), tmp_path / "out", "--samples", "3") == 0
    assert "oct-ddpm draws nothing of a case: its 3 answers are equal" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "out").glob("a-*")}
    assert names == {"a-denoised-mean.nii.gz"}


def test_draws_that_differ_have_one(scanner, tmp_path, capsys):
    assert predicted(scanner, scan(tmp_path / "a.nii.gz"), tmp_path / "out", "--samples", "2") == 0
    assert "draws nothing" not in capsys.readouterr().err
    assert (tmp_path / "out" / "a-image-std.nii.gz").is_file()
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert "residual-std" in entry["values"]


# ------------------------------------------------------------------------------- what is refused
def test_colour_for_a_model_of_grey_images_is_refused_before_anything(denoiser, tmp_path, refused):
    np.savez(tmp_path / "c.npz", noisy=np.repeat(grey().astype(np.uint8)[:, None], 3, 1))
    line = refused("predict", denoiser, "--data", tmp_path / "c.npz", "--out", tmp_path / "out")
    assert "noisy of case" in line and "has 3 channels" in line and "convert it to grey" in line


def test_colour_for_a_prior_of_grey_images_is_refused(scanner, tmp_path, capsys):
    np.savez(tmp_path / "c.npz", image=np.repeat(grey().astype(np.uint8)[:, None], 3, 1))
    assert predicted(scanner, tmp_path / "c.npz", tmp_path / "out") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "MRI is simulated from grey images, not 3 channels" in line
    words = (*GENERAL, "measurement=super-resolution")
    assert predicted(scanner, tmp_path / "c.npz", tmp_path / "out", *words) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "images have 3 channels, and the prior was trained on 1; convert them" in line
    assert "values=channels" not in line


@pytest.mark.parametrize("name", ["derivatives/radiffuse", "brains/run2"])
def test_places_that_are_not_read_may_be_written(name, tmp_path, monkeypatch):
    """Results of BIDS lie below its derivatives; "brains" is what is made here, whatever folder is called so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub-1" / "anat").mkdir(parents=True)
    scan(tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz")
    (tmp_path / "brains").mkdir()
    data = "brains" if name.startswith("brains") else str(tmp_path)
    check_apart(name, data)
    if data != "brains":
        with pytest.raises(UserError, match="lies in the folder"):
            check_apart("sub-1/out", data)


@pytest.mark.parametrize("inside", ["", "made", "made/here"])
def test_nothing_is_written_into_the_folder_of_the_data(denoiser, inside, tmp_path, refused):
    (tmp_path / "scans").mkdir()
    scan(tmp_path / "scans" / "a.nii.gz")
    out = tmp_path / "scans" / inside
    for words in (["predict", denoiser], ["train", "oct-ddpm"]):
        line = refused(*words, "--data", tmp_path / "scans", "--out", out)
        assert "lies in the folder of the data" in line
    assert [path.name for path in (tmp_path / "scans").rglob("*")] == ["a.nii.gz"]


def test_going_on_with_other_data_names_the_data(denoiser, tmp_path, refused):
    np.savez(tmp_path / "other.npz", clean=grey(8, 5).astype(np.uint8) // 2)
    words = ["--preset", "tiny", "--train.steps", "2", "--resume", "--out", denoiser]
    line = refused("train", "oct-ddpm", "--data", tmp_path / "other.npz", *words)
    assert "data of other contents" in line
