"""DICOM segmentation objects as masks: slices that writers left out, and what segments are."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

import scanned
from radiffuse import cli
from radiffuse.commands import parsing, predict, serve
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.data.formats.dicom_frames import Frame
from radiffuse.data.formats.dicom_seg import _called, _filled
from radiffuse.data.segments import same_labels
from radiffuse.errors import UserError

SIDE, SLICES = 16, 14
KINDS = {"oedema": codes.SCT.Edema, "tumour": codes.SCT.Lesion}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series") / "t1"
    scanned.series(folder, study="one", slices=SLICES, size=SIDE)
    return folder


def segmented(series, path, marked, names=("tumour",)):
    """A SEG of the series as highdicom writes it, empty frames left out; its labels by slice, from the lowest."""
    files = [pydicom.dcmread(file) for file in read_image(series).files]
    stack = np.zeros((len(files), SIDE, SIDE, len(names)), np.uint8)
    for slice_ in marked:
        for k in range(len(names)):
            stack[slice_, 4 + 4 * k : 7 + 4 * k, 5:9, k] = 1
    about = [
        highdicom.seg.SegmentDescription(
            k, name, codes.SCT.MorphologicallyAbnormalStructure, KINDS[name], "MANUAL"
        )
        for k, name in enumerate(names, 1)
    ]
    uid = highdicom.UID
    kind = highdicom.seg.SegmentationTypeValues.BINARY
    told = (uid(), 900, uid(), 1, "maker", "model", "1", "serial")
    highdicom.seg.Segmentation(files, stack, kind, about, *told).save_as(path)
    return (stack * np.arange(1, len(names) + 1)).sum(-1)


def opened(folder, series, masks):
    rows = [f"c{k},p{k},{series},{mask}" for k, mask in enumerate(masks)]
    (folder / "cases.csv").write_text("\n".join(["case,patient,image,mask", *rows]))
    return open_cases(folder)


@pytest.mark.parametrize("marked", [range(5, 9), (5, 12), (4, 8, 12), (4, 5, 6, 12), (7,)], ids=str)
def test_slices_without_a_frame_are_empty_and_the_others_lie_where_they_lay(
    series, tmp_path, marked
):
    truth = segmented(series, tmp_path / "seg.dcm", marked)
    cases = opened(tmp_path, series, [tmp_path / "seg.dcm"])
    mask, image = cases.image(0, "mask"), cases.image(0, "image")
    assert mask.size == image.size
    assert np.array_equal(np.moveaxis(mask.data[0].numpy(), -1, 0), truth)


def test_segments_that_are_numbered_differently_are_refused(series, tmp_path):
    """Label 1 is oedema in one object and tumour in the next."""
    segmented(series, tmp_path / "a.dcm", (5, 6), ("oedema", "tumour"))
    segmented(series, tmp_path / "b.dcm", (5, 6), ("tumour",))
    with pytest.raises(
        UserError, match=r"label 1 of mask is .*Edema.* in case c0 and .*Lesion.* in case c1"
    ):
        opened(tmp_path, series, [tmp_path / "a.dcm", tmp_path / "b.dcm"])
    assert opened(tmp_path, series, [tmp_path / "a.dcm"] * 2).facts().mask_classes == {"mask": 3}


@pytest.mark.parametrize(
    "line",
    [
        "--series T1 --watch IN RUN --out OUT", "--tile 64 64 --watch IN RUN --out OUT",
        "--set steps=3 --out OUT --watch IN RUN", "RUN --watch IN --out OUT --series T1 T2",
    ],
)  # fmt: skip
def test_a_served_study_is_predicted_as_asked_in_any_order_of_flags(line):
    asked = parsing.parse(serve.Flags, line.split(), "radiffuse serve")
    words = [*serve.words_of(line.split()), "--data", "x", "--out", "y"]
    found = parsing.parse(predict.Flags, words, "radiffuse predict")
    assert str(found.run) == "RUN" and found.data == "x"
    same = ("tile", "set", "samples")
    assert all(getattr(found, name) == getattr(asked, name) for name in same)
    assert found.chosen.series == asked.chosen.series


def test_a_segmentation_of_one_slice_is_trained_on(series, tmp_path):
    segmented(series, tmp_path / "a.dcm", (7,))
    segmented(series, tmp_path / "b.dcm", (3, 4))
    opened(tmp_path, series, [tmp_path / "a.dcm", tmp_path / "b.dcm"])
    assert cli.main(["inspect", str(tmp_path)]) == 0


def coded(value, scheme, meaning, modifier=None):
    found = pydicom.Dataset()
    found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = value, scheme, meaning
    if modifier is not None:
        found.SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return found


def segment(label, code):
    found = pydicom.Dataset()
    found.SegmentLabel, found.SegmentedPropertyTypeCodeSequence = label, [code]
    return found


LEFT, RIGHT = coded("7771000", "SCT", "Left"), coded("24028007", "SCT", "Right")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (["left", "right"], ["right", "left"], False), (["left", "right"], ["left", "right"], True),
        (["liver", "tumour"], ["tumour", "liver"], False), (["liver", "tumour"], ["liver"], True),
        (["liver", "tumour"], ["tumour"], False), (["old mass"], ["mass"], True), (["mass"], ["oedema"], False),
    ],
)  # fmt: skip
def test_segments_are_what_their_codes_sides_and_labels_say(one, other, alike):
    known = {
        "left": coded("64033007", "SCT", "Kidney", LEFT), "right": coded("64033007", "SCT", "Kidney", RIGHT),
        "liver": coded("85756007", "SCT", "Tissue"), "tumour": coded("85756007", "SCT", "Tissue"),
        "old mass": coded("M-03000", "SRT", "Mass"), "mass": coded("4147007", "SCT", "Mass"),
        "oedema": coded("79654002", "SCT", "Edema"),
    }  # fmt: skip
    names = [tuple(_called(segment(name, known[name])) for name in each) for each in (one, other)]
    if alike:
        return same_labels(names, "mask", "data", ["a", "b"])
    with pytest.raises(UserError, match="number the segments alike"):
        same_labels(names, "mask", "data", ["a", "b"])


@pytest.mark.parametrize(
    ("places", "spacing", "thickness", "slices"),
    [
        ((0, 10, 20, 30), None, 5.0, 7), ((10, 14), None, 2.0, 3), ((0, 5, 20), -5.0, 5.0, 5),
        ((0, 5, 10), None, 3.0, 3), ((0, 6, 12), None, 5.0, 3), ((0, 5, 10), None, 0.0, 3),
        ((0, 3.02, 33.22), 3.0, 3.0, 12), ((0, 30), 1e-4, 1.0, 2),
    ],
)  # fmt: skip
def test_slices_without_a_frame_are_filled_by_their_spacing_or_thickness(
    places, spacing, thickness, slices
):
    frames = frames_at(places, spacing, thickness)
    assert len(_filled(frames, Path("seg.dcm"))) == slices


def frames_at(places, spacing, thickness):
    header = pydicom.Dataset()
    header.SliceThickness = thickness
    if spacing is not None:
        header.SpacingBetweenSlices = spacing
    axes = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    return [
        Frame(
            None,
            header,
            k,
            np.array([0, 0, place]),
            axes,
            (1.0, 1.0),
            spacing or thickness,
            1.0,
            0.0,
            (header,),
        )
        for k, place in enumerate(places)
    ]


def test_frames_that_may_have_left_others_out_are_refused():
    with pytest.raises(UserError, match=r"SpacingBetweenSlices.*5 mm apart, 3 mm thick"):
        _filled(frames_at((0, 5, 20), None, 3.0), Path("seg.dcm"))


def test_a_segmentation_that_says_the_thickness_alone_leaves_slices_between_empty(series, tmp_path):
    truth = segmented(series, tmp_path / "a.dcm", (4, 10))
    header = pydicom.dcmread(tmp_path / "a.dcm")
    (measures,) = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SliceThickness and measures.SpacingBetweenSlices
    del measures.SpacingBetweenSlices
    header.save_as(tmp_path / "a.dcm")
    mask = opened(tmp_path, series, ["a.dcm"] * 2).image(0, "mask").data[0].numpy()
    assert np.flatnonzero(mask.any((0, 1))).tolist() == [4, 10]
    np.testing.assert_array_equal(np.moveaxis(mask, 2, 0) > 0, truth > 0)
