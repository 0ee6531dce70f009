"""What a model was trained on, and the notice where images to predict are of another kind."""

import nibabel
import numpy as np
import pytest

from radiffuse import cli
from radiffuse.data.dataset import open_cases
from radiffuse.data.seen import outside, seen


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("seen") / "run"
    words = ["--data", "brains:count=30,size=32", "--map", "source=t1", "target=t2"]
    small = ["--preset", "tiny", "--train.steps", "1"]
    assert cli.main(["train", "ddpm-conversion", *words, *small, "--out", str(out)]) == 0
    return out


def volume(path, side=32, step=6.5, factor=1.0):
    """A slice of an embedded brain as a NIfTI, with pixels of `step` mm and values times `factor`."""
    data = open_cases(f"brains:count=3,size={side}").image(2, "image").data[0].double().numpy()
    affine = np.diag([step, step, 1.0, 1.0])
    image = nibabel.Nifti1Image((factor * data)[..., None].astype(np.float32), affine)
    nibabel.save(image, path)


def test_ranges_are_those_of_the_images():
    cases = open_cases("brains:count=12,size=32")
    found = seen(cases)["image"]
    assert found["spacing_mm"] == pytest.approx((6.5, 6.5))
    assert found["extent_mm"] == pytest.approx((208, 208))
    values = [np.percentile(cases.image(row, "image").data.numpy(), 99) for row in range(12)]
    assert found["bright"] == pytest.approx((min(values), max(values)))


def test_what_was_seen_is_not_outside():
    cases = open_cases("brains:count=30,size=32")
    assert outside(seen(cases), cases, range(30)) == []


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"step": 3.0}, ["voxels of 3 mm", "trained on 6.5 mm", "a field of view of 96 mm"]),
        ({"factor": 20.0}, ["other grey values", "99th percentile"]),
        ({"factor": 1 / 255}, ["other grey values"]),
        ({"step": 6.6}, []),
        ({"factor": 1.1}, []),
    ],
)
def test_predict_says_what_lies_outside(trained, told, says, tmp_path, capsys):
    volume(tmp_path / "case.nii.gz", **told)
    words = ["--data", str(tmp_path / "case.nii.gz"), "--map", "source=image", "--slices", "2"]
    assert cli.main(["predict", str(trained), *words, "--out", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err
    for words in says:
        assert words in err
    if not says:
        assert "trained on" not in err and "grey values" not in err


def test_images_without_geometry_are_told():
    known = seen(open_cases("brains:count=6,size=32"))
    cases = open_cases("brains:count=3,size=32")
    bare = type(cases.columns["image"])(
        cases.columns["image"].data, "image", "bare", None, "MR", (0.0, 255.0)
    )
    without = type(cases)(**{**vars(cases), "columns": {"image": bare}})
    (line,) = outside(known, without, [0, 1, 2])
    assert "no geometry" in line and "2 others" in line
