"""What the cases of a Decathlon or MONAI `dataset.json` say beside their images and masks."""

import json

import nibabel
import numpy as np
import pytest

from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError


@pytest.fixture
def listed(tmp_path):
    """A function that opens six cases, each with what a function of its number says."""
    draw = np.random.default_rng(0)
    for k in range(6):
        for part, array in (
            ("i", draw.normal(size=(4, 5, 6))),
            ("m", draw.random((4, 5, 6)) > 0.5),
        ):
            kind = np.float32 if part == "i" else np.uint8
            (tmp_path / "sub").mkdir(exist_ok=True)
            nibabel.save(
                nibabel.Nifti1Image(array.astype(kind), np.eye(4)),
                tmp_path / f"sub/{part}{k}.nii.gz",
            )

    def open_(of, **content):
        cases = [of(k) for k in range(6)]
        (tmp_path / "dataset.json").write_text(json.dumps({"training": cases, **content}))
        return open_cases(tmp_path)

    return open_


def image(k):
    return f"sub/i{k}.nii.gz"


def mask(k):
    return f"sub/m{k}.nii.gz"


@pytest.mark.parametrize("kind", [int, str, float, bool])
def test_a_label_that_is_a_number_is_the_class_of_its_case(listed, kind):
    cases = listed(lambda k: {"image": image(k), "label": kind(k % 2)})
    assert cases.keys == ("image", "label")
    assert [int(x) for x in cases.columns["label"].stack(range(6))] == [0, 1, 0, 1, 0, 1]


def test_a_label_that_is_a_word_is_the_class_of_its_case(listed):
    cases = listed(lambda k: {"image": image(k), "label": ["sick", "healthy"][k % 2]})
    assert cases.class_names == ("healthy", "sick")
    assert [int(x) for x in cases.columns["label"].stack(range(6))] == [1, 0, 1, 0, 1, 0]


def test_numbers_of_classes_are_named_by_labels(listed):
    cases = listed(
        lambda k: {"image": image(k), "label": k % 2}, labels={"0": "healthy", "1": "sick"}
    )
    assert cases.class_names == ("healthy", "sick")


def test_files_of_any_key_are_columns(listed):
    cases = listed(lambda k: {"t1": image(k), "t2": image(k), "seg": mask(k)})
    assert set(cases.keys) == {"t1", "t2", "seg"} and cases.columns["seg"].kind == "mask"
    cases = listed(lambda k: {"image": image(k), "mask": mask(k)})
    assert set(cases.keys) == {"image", "mask"}


def test_several_files_of_an_image_are_to_be_keys_of_their_own(listed):
    with pytest.raises(UserError, match="give each contrast a key of its own"):
        listed(lambda k: {"image": [image(k), image(k)]})


def test_several_labels_of_a_case_are_refused(listed):
    with pytest.raises(UserError, match="is no number or word"):
        listed(lambda k: {"image": image(k), "label": [0, 1]})


def test_keys_that_are_not_used_are_told_once(listed):
    cases = listed(
        lambda k: {"image": image(k), "label": mask(k), "fold": k % 2, "age": 60.5, "box": [1, 2]}
    )
    (line,) = [line for line in cases.notices if "passed over" in line]
    assert "fold, age, box of cases are passed over" in line


def test_paths_of_windows_are_understood(listed):
    cases = listed(lambda k: {"image": f".\\sub\\i{k}.nii.gz", "label": f".\\sub\\m{k}.nii.gz"})
    assert cases.keys == ("image", "mask") and cases.ids[0] == "i0"


def test_the_patient_that_a_case_names_is_its_patient(listed):
    cases = listed(lambda k: {"image": image(k), "subject": f"P{k // 2}"})
    assert cases.patients == ("P0", "P0", "P1", "P1", "P2", "P2")


def test_cases_without_a_class_are_left_out_where_others_have_one(listed):
    cases = listed(lambda k: {"image": image(k), **({"label": k % 2} if k < 5 else {})})
    assert len(cases) == 5 and any("1 cases without a label" in line for line in cases.notices)
