"""A run predicts from images alone, whatever columns its training named."""

import numpy as np
import pytest

from radiffuse import cli
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A segmentation whose training names its columns, and the data it was trained on."""
    root = tmp_path_factory.mktemp("truth")
    np.savez(root / "train.npz", **some(12))
    words = ["--map", "image=image", "mask=mask", "--preset", "tiny", "--train.steps", "1"]
    where = ["--data", root / "train.npz", "--out", root / "run"]
    assert not cli.main([str(word) for word in ("train", "segmentation-ensembles", *where, *words)])
    return root / "run"


def some(count, seed=0):
    image = np.random.default_rng(seed).integers(0, 255, (count, 16, 16), dtype=np.uint8)
    return {"image": image, "mask": (image > 128).astype(np.uint8)}


def test_masks_that_are_to_be_predicted_need_not_be_there(run, tmp_path, capsys):
    np.savez(tmp_path / "new.npz", image=some(2, 1)["image"])
    words = ("predict", run, "--data", tmp_path / "new.npz", "--out", tmp_path / "out")
    assert not cli.main([str(word) for word in words])
    assert len(list((tmp_path / "out").glob("*-mask.png"))) == 2
    assert "has no column mask" in capsys.readouterr().err


def test_what_is_predicted_from_has_to_be_there(run, tmp_path, capsys):
    np.savez(tmp_path / "new.npz", mask=some(2)["mask"])
    words = ("predict", run, "--data", tmp_path / "new.npz", "--out", tmp_path / "out")
    assert cli.main([str(word) for word in words]) == 1
    assert "predicts from image" in capsys.readouterr().err.splitlines()[-1]


def test_columns_named_for_this_prediction_have_to_be_there(run, tmp_path, refused):
    np.savez(tmp_path / "new.npz", image=some(2, 1)["image"])
    words = ("predict", run, "--data", tmp_path / "new.npz", "--out", tmp_path / "out")
    assert "has no column 'mask'" in refused(*words, "--map", "image=image", "mask=mask")


def test_masks_are_needed_where_a_run_is_measured(run, tmp_path, refused):
    np.savez(tmp_path / "new.npz", image=some(2, 1)["image"])
    assert "has no column 'mask'" in refused("evaluate", run, "--data", tmp_path / "new.npz")


def test_joined_columns_are_there_where_all_of_them_are(tmp_path):
    np.savez(tmp_path / "a.npz", ed_image=some(4)["image"], es_image=some(4, 1)["image"])
    wanted = {"image": "ed_image+es_image", "mask": "ed_mask+es_mask"}
    cases = open_cases(tmp_path / "a.npz", where_there=wanted)
    assert len(cases.all_ids) == 8 and cases.image_keys == ("image",)
    with pytest.raises(UserError, match="has none of the columns"):
        open_cases(tmp_path / "a.npz", where_there={"image": "ed_image+other"})
