"""DICOM segmentation objects as masks: slices that writers left out, and what segments are."""

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
