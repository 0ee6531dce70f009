"""Enhanced CT, MR and PET: many frames in one object, one volume or several, judged by SimpleITK."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.data.image import oriented
from radiffuse.errors import UserError
from test_data_dicom import NORMAL, OBLIQUE, VOLUME, write_enhanced, write_slice

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "PT": "1.2.840.10008.5.1.4.1.1.130",
}
PLACE = np.array([10.0, -20.0, 30.0])
AXIAL, CORONAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1)


def group(**values):
    found = Dataset()
    for name, value in values.items():
        setattr(found, name, value)
    return found


def frame(array, place, axes=AXIAL, **content):
    """One frame: its pixels and its functional groups."""
    groups = Dataset()
    groups.PlanePositionSequence = [group(ImagePositionPatient=[float(v) for v in place])]
    groups.PlaneOrientationSequence = [group(ImageOrientationPatient=list(axes))]
    groups.FrameContentSequence = [group(**content)]
    return array, groups


def write_frames(path, frames, modality="MR", slope="1", intercept="0", **tags):
    """An enhanced object of these frames."""
    write_slice(path, frames[0][0], None, Modality=modality, **tags)
    header = pydicom.dcmread(path)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = CLASSES[modality]
    del header.PixelSpacing
    shared = Dataset()
    shared.PixelMeasuresSequence = [group(PixelSpacing=[2.0, 0.5], SliceThickness=3.0)]
    shared.PixelValueTransformationSequence = [
        group(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
    ]
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = [groups for _, groups in frames]
    header.NumberOfFrames = len(frames)
    header.PixelData = np.stack([array for array, _ in frames]).tobytes()
    header.save_as(path)
    return path


def stack(volume, place=PLACE, axes=AXIAL, step=3.0, **content):
    """Frames of a volume (rows, columns, slices); what differs from frame to frame comes as lists."""
    normal = np.cross(axes[:3], axes[3:])
    return [
        frame(volume[..., k], place + step * k * normal, axes, **content)
        for k in range(volume.shape[-1])
    ]


def volumes(count, shape=(4, 6, 5)):
    return [
        np.random.default_rng(k).integers(0, 1000, shape).astype(np.uint16) for k in range(count)
    ]


def opened(path):
    return open_cases(path, range=(0, 1000), names="plain")


def stored(cases, k):
    """The image of a case as it lies in the file, not as all are turned inside."""
    image = cases.image(k, "image")
    return oriented(image, image.own) if image.own else image


@pytest.mark.parametrize("modality", CLASSES)
def test_an_enhanced_object_of_each_modality_is_what_simpleitk_reads(tmp_path, modality):
    frames = stack(VOLUME, PLACE, OBLIQUE)
    path = write_frames(
        tmp_path / "a.dcm", [frames[k] for k in (3, 0, 4, 1, 2)], modality, "0.5", "-24"
    )
    image = read_image(path)
    np.testing.assert_allclose(image.data[0].numpy(), VOLUME * 0.5 - 24)
    assert image.modality == modality
    write_frames(tmp_path / "sorted.dcm", frames, modality, "0.5", "-24")
    truth = sitk.ReadImage(str(tmp_path / "sorted.dcm"))
    for r, c, s in [(0, 0, 0), (3, 5, 4), (1, 2, 3)]:
        lps = truth.TransformIndexToPhysicalPoint((c, r, s))
        mine = image.affine.numpy() @ [r, c, s, 1]
        np.testing.assert_allclose(mine[:3], [-lps[0], -lps[1], lps[2]], atol=1e-3)
        assert truth[c, r, s] == image.data[0, r, c, s]


def test_stacks_of_one_object_are_cases_each_with_its_own_place(tmp_path):
    """A localizer: an axial and a coronal stack, their frames in turns."""
    axial, coronal = volumes(2)
    frames = [*stack(axial, StackID="1"), *stack(coronal, axes=CORONAL, StackID="2")]
    path = write_frames(tmp_path / "a.dcm", [frames[k] for k in (0, 5, 1, 6, 2, 7, 3, 8, 4, 9)])
    with pytest.raises(UserError, match="is tilted against"):
        read_image(path)
    cases = opened(tmp_path)
    assert cases.ids == ("P7_series_StackID-1", "P7_series_StackID-2")
    assert "its series holds 2 volumes (StackID-1, StackID-2); each is a case" in cases.lines[0]
    assert (
        len(set(cases.split_of)) == 1
        and len({cases.columns["image"].hashed(k) for k in range(2)}) == 2
    )
    for k, (one, volume, axes) in enumerate(((1, axial, AXIAL), (2, coronal, CORONAL))):
        write_frames(tmp_path / "alone" / f"{one}.dcm", stack(volume, axes=axes))
        truth, image = sitk.ReadImage(str(tmp_path / "alone" / f"{one}.dcm")), stored(cases, k)
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(truth), np.moveaxis(image.data[0].numpy(), -1, 0)
        )
        lps = truth.TransformIndexToPhysicalPoint((5, 3, 4))
        mine = image.affine.numpy() @ [3, 5, 4, 1]
        np.testing.assert_allclose(mine[:3], [-lps[0], -lps[1], lps[2]], atol=1e-3)


@pytest.mark.parametrize(
    ("sequence", "name", "values"),
    [
        ("MREchoSequence", "EffectiveEchoTime", (10.0, 80.0)),
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 1000.0)),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2)),
    ],
)
def test_echoes_b_values_and_times_of_one_object_are_cases(tmp_path, sequence, name, values):
    several = volumes(2)
    frames = []
    for value, volume in zip(values, several, strict=True):
        for array, groups in stack(volume, StackID="1"):
            if sequence not in groups:
                setattr(groups, sequence, [Dataset()])
            setattr(groups[sequence].value[0], name, value)
            frames.append((array, groups))
    write_frames(tmp_path / "a.dcm", frames)
    cases = opened(tmp_path)
    assert cases.ids == tuple(f"P7_series_{name}-{value}" for value in values)
    for k, volume in enumerate(several):
        np.testing.assert_array_equal(stored(cases, k).data[0].numpy(), volume)


def test_stacks_that_hold_echoes_are_parted_by_both(tmp_path):
    several = volumes(4)
    frames = []
    for k, volume in enumerate(several):
        axes = AXIAL if k < 2 else CORONAL
        frames += stack(volume, axes=axes, StackID=str(k // 2), TemporalPositionIndex=k % 2 + 1)
    write_frames(tmp_path / "a.dcm", frames)
    cases = opened(tmp_path)
    assert cases.ids[1] == "P7_series_StackID-0_TemporalPositionIndex-2" and len(cases) == 4
    for k, volume in enumerate(several):
        np.testing.assert_array_equal(stored(cases, k).data[0].numpy(), volume)


def test_stack_ids_do_not_part_what_is_one_volume(tmp_path):
    """Some scanners number the halves of a volume."""
    frames = stack(VOLUME)
    for k, (_, groups) in enumerate(frames):
        groups.FrameContentSequence[0].StackID = str(k // 3)
    write_frames(tmp_path / "a.dcm", frames)
    cases = opened(tmp_path)
    assert len(cases) == 1 and cases.image(0, "image").size == (4, 6, 5)


def test_enhanced_objects_of_one_series_are_a_case_each(tmp_path):
    several = volumes(2)
    for k, volume in enumerate(several):
        write_frames(tmp_path / f"{k}.dcm", stack(volume))
    cases = opened(tmp_path)
    assert cases.ids == ("P7_series_object-1", "P7_series_object-2")
    for k, volume in enumerate(several):
        np.testing.assert_array_equal(stored(cases, k).data[0].numpy(), volume)


def test_halves_of_a_volume_in_two_objects_are_one(tmp_path):
    frames = stack(VOLUME)
    write_frames(tmp_path / "0.dcm", frames[:2])
    write_frames(tmp_path / "1.dcm", frames[2:])
    cases = opened(tmp_path)
    assert len(cases) == 1
    np.testing.assert_array_equal(cases.image(0, "image").data[0].numpy(), VOLUME)


@pytest.mark.parametrize("apart", ["TemporalPositionIndex", "FrameAcquisitionNumber"])
def test_a_missing_slice_is_not_taken_for_several_volumes(tmp_path, apart):
    """Every frame has its own number, by which each would be a volume of one slice."""
    frames = [one for k, one in enumerate(stack(VOLUME)) if k != 2]
    for k, (_, groups) in enumerate(frames, 1):
        setattr(groups.FrameContentSequence[0], apart, k)
    write_frames(tmp_path / "a.dcm", frames)
    with pytest.raises(
        UserError, match=r"1 slice is missing between a.dcm frame 2 and a.dcm frame 3"
    ):
        opened(tmp_path)


def test_two_echoes_of_which_one_lacks_a_slice_are_refused(tmp_path):
    place = np.zeros(3)
    echoes = ("MREchoSequence", "EffectiveEchoTime", [10.0, 80.0, 10.0, 80.0, 10.0])
    write_enhanced(tmp_path / "a.dcm", VOLUME, place, 0 * NORMAL, range(5), per_frame=[echoes])
    with pytest.raises(UserError, match="lie in the same place"):
        opened(tmp_path)
