"""Segmentations of 3D Slicer (.seg.nrrd): what their labels show stands in their headers."""

import numpy as np
import pytest
import SimpleITK as sitk

from radiffuse.data.classes import named_alike
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.errors import UserError

TISSUE = "SCT^85756007^Tissue"
LIVER = "SCT^10200004^Liver"


def tags(kind):
    """As Slicer 5 writes them."""
    return (
        "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy "
        f"list~SCT^85756007^Tissue~{kind}~^^~Anatomic codes - DICOM master list~^^~^^|"
    )


def seg(path, segments, array=None):
    """A label map with segments (name, label value, terminology)."""
    array = np.zeros((8, 8, 8), np.uint8) if array is None else array
    if not array.any():
        for place, (_, value, _) in enumerate(segments):
            array[place * 2 : place * 2 + 2] = value
    image = sitk.GetImageFromArray(array)
    for n, (name, value, kind) in enumerate(segments):
        said = {"ID": f"Segment_{n + 1}", "Name": name, "LabelValue": str(value), "Layer": "0"}
        said |= {"Tags": tags(kind)} if kind else {}
        for key, word in said.items():
            image.SetMetaData(f"Segment{n}_{key}", word)
    sitk.WriteImage(image, str(path))
    return path


def folder(path, cases):
    """Cases with an image and the segments of its mask."""
    lines = ["case,image,mask"]
    for n, segments in enumerate(cases):
        values = np.random.default_rng(n).integers(0, 900, (8, 8, 8)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path / f"i{n}.nrrd"))
        seg(path / f"m{n}.seg.nrrd", segments)
        lines.append(f"c{n},i{n}.nrrd,m{n}.seg.nrrd")
    (path / "cases.csv").write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ([("Liver", 1, ""), ("Tumor", 2, "")], [("Tumor", 1, ""), ("Liver", 2, "")], False),
        ([("Liver", 1, ""), ("Tumor", 2, "")], [("Tumor", 2, ""), ("liver", 1, "")], True),
        ([("Liver", 1, ""), ("Tumor", 5, "")], [("Tumor", 5, "")], True),
        ([("Liver", 1, ""), ("Tumor", 5, "")], [("Liver", 5, "")], False),
        ([("Liver", 1, TISSUE)], [("Tumor", 1, TISSUE)], False),
        ([("Leber", 1, LIVER)], [("Liver", 1, LIVER)], True),
        ([("Leber", 1, LIVER)], [("Liver", 1, TISSUE)], True),
        ([("Leber", 1, LIVER)], [("Tumor", 1, "")], False),
        ([("Segment_1", 1, TISSUE)], [("Tumor", 1, TISSUE)], True),
    ],
)
def test_segments_of_slicer_are_one_thing_in_all_cases(tmp_path, one, other, alike):
    folder(tmp_path, [one, other])
    if alike:
        assert len(open_cases(tmp_path)) == 2
        return
    with pytest.raises(UserError, match="number the segments alike"):
        open_cases(tmp_path)


def test_a_label_of_slicer_is_named_by_its_value_not_by_its_place(tmp_path):
    path = seg(tmp_path / "m.seg.nrrd", [("Tumor", 5, ""), ("Å und B", 2, LIVER)])
    nothing = ("", "", "")
    named = ("SCT 10200004", "Å und B", "Liver")
    assert read_image(path).labels == (nothing, named, nothing, nothing, ("", "Tumor", ""))


def test_a_header_of_a_hundred_segments_is_read_to_its_end(tmp_path):
    """As TotalSegmentator fills them: 60 KiB of terminology and more."""
    names = [(f"organ {n}", n, LIVER) for n in range(1, 201)]
    array = np.arange(512, dtype=np.uint8).reshape(8, 8, 8) % 201
    image = read_image(seg(tmp_path / "m.seg.nrrd", names, array))
    assert len(image.labels) == 200 and image.labels[199][1] == "organ 200"
    assert np.array_equal(image.data[0].numpy(), array.transpose(2, 1, 0))


def test_other_data_are_compared_with_what_the_labels_of_the_training_show(tmp_path):
    """Leber and Liver have one code; the numbers of the third set are turned around."""
    sets = {
        "training": [("Leber", 1, LIVER), ("Tumor", 2, "")],
        "same": [("tumor", 2, ""), ("Liver", 1, LIVER)],
        "turned": [("Tumor", 1, ""), ("Liver", 2, LIVER)],
        "unsaid": [("Segment_1", 1, ""), ("Segment_2", 2, "")],
    }
    opened = {}
    for name, segments in sets.items():
        (tmp_path / name).mkdir()
        opened[name] = open_cases(folder(tmp_path / name, [segments] * 3) / "cases.csv")
    names = opened["training"].facts().mask_names
    assert names == {"mask": ("", "Liver", "Tumor")}
    named_alike(opened["same"], names)
    named_alike(opened["unsaid"], names)
    with pytest.raises(UserError, match="label 1 of mask is called 'Tumor', and 'Liver' where"):
        named_alike(opened["turned"], names)
