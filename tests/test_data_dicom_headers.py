"""DICOM as it comes: whatever a header lacks, the file is left out by name or the series refused."""

import shutil

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.data.formats.dicom import read_series
from radiffuse.data.formats.dicom_values import floats, number, said, text, whole
from radiffuse.data.formats.series_list import listed
from radiffuse.errors import UserError
from test_data_dicom import NORMAL, VOLUME, write_enhanced, write_slice

TAGS = {
    "NumberOfFrames": 1, "RescaleSlope": "1", "RescaleIntercept": "0", "SliceThickness": "3", "StudyID": "s",
    "SpacingBetweenSlices": "3", "PixelPaddingValue": 5, "SeriesDescription": "t1", "AcquisitionNumber": 1,
}  # fmt: skip
"""What the slices here say beyond what every slice must."""


def slices(folder, people=3, count=3, **tags):
    """Series of `count` slices, one a person."""
    rng = np.random.default_rng(0)
    for person in range(people):
        for k in range(count):
            write_slice(
                folder / f"{person}{k}.dcm",
                rng.integers(0, 1000, (8, 8)).astype(np.uint16),
                (0, 0, 3.0 * k),
                series=f"1.2.{person + 1}",
                **{"PatientID": f"P{person}", "InstanceNumber": k + 1, **TAGS, **tags},
            )
    return folder


def opened(folder):
    """Cases, or the line that refuses them."""
    try:
        return open_cases(folder, range=(0, 1000))
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)


DAMAGES = {
    "absent": lambda element: None,
    "empty": lambda element: DataElement(element.tag, element.VR, None),
    "text": lambda element: DataElement(element.tag, "LO", "wrong"),
    "huge": lambda element: DataElement(element.tag, "FD", 1e300),
    "many": lambda element: DataElement(element.tag, "FD", [np.nan, -1.0, 2.0, np.inf, 5.0, 7.0]),
    "bytes": lambda element: DataElement(element.tag, "OB", b"\xff\xfe\x00\x01\x80\x00"),
    "items": lambda element: DataElement(element.tag, "SQ", [Dataset()]),
}
WITHOUT_IT_NO_PICTURE = (
    *(
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
    ),
    *("PixelRepresentation", "PixelData"),
)
MAY_BE_LEFT_OUT = (
    *(*WITHOUT_IT_NO_PICTURE, "ImagePositionPatient", "ImageOrientationPatient"),
    *("RescaleSlope", "RescaleIntercept"),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_attribute_of_one_slice_may_be_absent_empty_or_of_another_type(tmp_path, damage):
    folder = slices(tmp_path, people=2, count=3)
    last = folder / "12.dcm"
    good = last.read_bytes()
    for element in list(pydicom.dcmread(last)):
        header = pydicom.dcmread(last)
        del header[element.tag]
        if (other := DAMAGES[damage](element)) is not None:
            header.add(other)
        header.save_as(last)
        found, name = opened(folder), element.keyword
        if isinstance(found, str):
            assert "12.dcm" in found or "images of 'image' differ in shape" in found, name
        elif name in MAY_BE_LEFT_OUT and found.image(1, "image").size != (8, 8, 3):
            assert [len(found), found.image(1, "image").size] == [2, (8, 8, 2)], name
            assert any("12.dcm" in line and "left out" in line for line in found.notices), name
        else:
            assert [len(found), found.image(1, "image").size] == [2, (8, 8, 3)], name
        if name in WITHOUT_IT_NO_PICTURE:
            assert not isinstance(found, str) and found.image(1, "image").size == (8, 8, 2), name
        last.write_bytes(good)


@pytest.mark.parametrize("name", WITHOUT_IT_NO_PICTURE)
def test_a_slice_that_cannot_be_used_amid_a_series_refuses_it_even_where_two_are_left(
    tmp_path, name
):
    told = opened(_without(slices(tmp_path / "several"), "01.dcm", name))
    assert "01.dcm" in told and "lies between other slices of its series" in told
    with pytest.raises(UserError, match="lies between other slices"):
        read_image(
            slices(tmp_path / "one", people=1) and _without(tmp_path / "one", "01.dcm", name)
        )


def _without(folder, file, name):
    header = pydicom.dcmread(folder / file)
    delattr(header, name)
    header.save_as(folder / file)
    return folder


def test_a_slice_without_place_amid_a_series_is_found_by_its_number(tmp_path):
    _without(slices(tmp_path), "01.dcm", "ImagePositionPatient")
    assert "does not say where it lies" in opened(tmp_path)
    assert "lies between other slices of its series" in opened(tmp_path)


def test_every_cut_of_a_file_is_left_out_or_refused(tmp_path):
    folder = slices(tmp_path, people=2, count=1)
    good = (folder / "10.dcm").read_bytes()
    for length in range(0, len(good), 13):
        (folder / "10.dcm").write_bytes(good[:length])
        cases = opened(folder)
        assert len(cases) == 1, length
        assert "10.dcm" in cases.notices[0] and "left out" in cases.notices[0]


def test_every_changed_byte_is_read_or_told(tmp_path):
    folder = slices(tmp_path, people=2, count=1)
    good = (folder / "10.dcm").read_bytes()
    for place in range(132, len(good) - 128, 19):
        for value in (0, 255):
            changed = bytearray(good)
            changed[place] = value
            (folder / "10.dcm").write_bytes(changed)
            found = opened(folder)
            assert isinstance(found, str) or len(found) in (1, 2)


def test_headers_without_pixels_and_objects_without_images_are_left_out_by_name(tmp_path):
    folder = slices(tmp_path, people=3, count=1)
    header = pydicom.dcmread(folder / "00.dcm")
    header.SeriesInstanceUID, header.PixelData = "1.2.99", None
    header.save_as(folder / "empty.dcm")
    del header.PixelData
    header.save_as(folder / "bare.dcm")
    for name in ("rtstruct.dcm", "liver_1frame.dcm", "DICOMDIR"):
        source = pydicom.data.get_testdata_file(name)
        shutil.copy(source, folder / name)
    (folder / "notes.txt").write_text("not an image")
    (folder / "broken.dcm").write_bytes(b"no DICOM at all")
    cases = open_cases(folder, range=(0, 1000), names="plain")
    assert cases.patients == ("P0", "P1", "P2")
    told = "\n".join(cases.lines)
    for line in (
        "empty.dcm: holds no pixels (MR); it is left out",
        "bare.dcm: holds no pixels (MR); it is left out",
        "rtstruct.dcm: holds no pixels (RTSTRUCT); it is left out",
        "liver_1frame.dcm: is a segmentation object",
        "broken.dcm: is no DICOM file, whatever its name says; it is left out",
    ):
        assert line in told
    assert "DICOMDIR" not in told and "notes.txt" not in told


def test_where_no_file_can_be_used_the_first_is_named(tmp_path):
    folder = slices(tmp_path, people=2, count=1)
    for name in ("00.dcm", "10.dcm"):
        _without(folder, name, "PixelData")
    assert opened(folder) == f"{folder / '00.dcm'}: holds no pixels (MR) (and 1 more files)"
    assert opened(folder / "00.dcm") == f"{folder / '00.dcm'}: holds no pixels (MR)"


def test_frames_position_and_spacing_that_say_nothing_do_not_stop_a_picture(tmp_path):
    for name, value in (("NumberOfFrames", None), ("NumberOfFrames", 0), ("SliceThickness", None),
                        ("RescaleSlope", None), ("ImagePositionPatient", None)):  # fmt: skip
        folder = slices(tmp_path / f"{name}{value}", count=1, **{name: value})
        cases = open_cases(folder, range=(0, 1000))
        stored = np.frombuffer(pydicom.dcmread(folder / "20.dcm").PixelData, "<u2")
        np.testing.assert_array_equal(cases.image(2, "image").data.flatten().numpy(), stored)
    assert cases.image(2, "image").affine is None


def test_without_the_size_of_pixels_there_is_no_geometry_and_a_notice(tmp_path):
    folder = slices(tmp_path, people=1, PixelSpacing=None)
    lines = []
    image = read_image(folder, notice=lines.append)
    assert image.size == (8, 8, 3) and image.affine is None
    assert any("does not say the size of its pixels (PixelSpacing)" in line for line in lines)
    _without(slices(tmp_path / "b", people=1), "01.dcm", "PixelSpacing")
    with pytest.raises(
        UserError, match=r"01.dcm has pixels of no known size, 00.dcm of 2 x 0.5 mm"
    ):
        read_image(tmp_path / "b")


@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
def test_files_without_preamble_or_meta_information_are_read(tmp_path, name):
    folder = slices(tmp_path / "source", people=2, count=1)
    for n in range(2):
        header = pydicom.dcmread(folder / f"{n}0.dcm")
        bare = Dataset({element.tag: element for element in header})
        path = tmp_path / "bare" / f"{n}{name}"
        path.parent.mkdir(exist_ok=True)
        bare.save_as(path, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    cases = open_cases(tmp_path / "bare", range=(0, 1000), names="plain")
    assert cases.patients == ("P0", "P1")
    np.testing.assert_array_equal(cases.image(1, "image").data[0].numpy(), header.pixel_array)


def test_what_a_header_declares_is_looked_at_before_pixels_are_decoded(tmp_path):
    folder = slices(tmp_path, people=2, count=1)
    header = pydicom.dcmread(folder / "10.dcm")
    header.Rows = header.Columns = 60000
    header.save_as(folder / "10.dcm")
    assert (
        "10.dcm: declares 1 x 60000 x 60000 pixels and holds 128 bytes; it is cut short"
        in (opened(folder).lines[0])
    )
    header = pydicom.dcmread(folder / "00.dcm")
    header.compress(RLELossless)
    header.Rows = header.Columns = 60000
    header.save_as(folder / "00.dcm")
    with pytest.raises(UserError, match=r"00.dcm: would unpack to 6.71 GiB from \d+ bytes"):
        read_image(folder / "00.dcm")


def test_numbers_of_a_header_are_finite_counted_and_in_range():
    header = Dataset()
    header.PixelSpacing = [1.5, 2]
    header.SliceThickness = ""
    header.add(DataElement(tag_for_keyword("Rows"), "FD", float("nan")))
    header.add(DataElement(tag_for_keyword("Columns"), "LO", "wide"))
    header.PatientID = "  a  b "
    assert floats(header, "PixelSpacing", 2) == (1.5, 2.0)
    assert floats(header, "PixelSpacing", 3) is None
    assert number(header, "PixelSpacing") is None
    assert number(header, "SliceThickness") is None and said(header, "SliceThickness") is None
    assert number(header, "Rows") is None and number(header, "Columns") is None
    header.InstanceNumber = 7
    assert (
        whole(header, "InstanceNumber", 0, 10) == 7
        and whole(header, "InstanceNumber", 8, 9) is None
    )
    assert text(header, "PatientID") == "a b" and text(header, "StudyID") == ""


# --------------------------------------------------------------------------- who is the same person
def study(folder, number, part, **tags):
    array = np.random.default_rng(10 * number + part).integers(0, 1000, (8, 8)).astype(np.uint16)
    tags = {"PatientID": "", "StudyInstanceUID": f"1.3.{number}", **tags}
    write_slice(
        folder / f"{number}_{part}.dcm", array, (0, 0, 0), series=f"1.2.{number}.{part}", **tags
    )


def sides(cases):
    """Splits of each patient."""
    found = {}
    for patient, split in zip(cases.all_patients, cases.all_splits, strict=True):
        found.setdefault(patient, set()).add(split)
    return found


def test_without_patient_id_a_study_is_a_person_and_that_is_said(tmp_path):
    for n in range(12):
        for part in range(3):
            study(tmp_path, n, part)
    cases = open_cases(tmp_path, range=(0, 1000), names="plain")
    assert len(cases.all_ids) == 36 and sorted(sides(cases)) == sorted(
        f"1.3.{n}" for n in range(12)
    )
    assert all(len(splits) == 1 for splits in sides(cases).values())
    assert (
        "no patient is named (PatientID) in 36 of 36 series; series of one study "
        "(StudyInstanceUID) count as one person (12 people)"
    ) in cases.notices[0]


def test_a_table_without_patients_takes_people_from_the_headers_of_its_files(tmp_path):
    for n in range(24):
        study(tmp_path / f"s{n}", n, 0, PatientID=f"Ann{n // 2}")
    rows = [f"c{n},s{n}" for n in range(24)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,image", *rows]))
    cases = open_cases(tmp_path, range=(0, 1000))
    assert len(sides(cases)) == 12 and all(len(splits) == 1 for splits in sides(cases).values())
    assert len({split for splits in sides(cases).values() for split in splits}) > 1
    assert not any("Ann" in patient for patient in cases.all_patients)
    told = "no column says whose a case is; the headers of its DICOM files do (12 people)"
    assert any(told in line for line in cases.notices)


def test_a_table_that_names_patients_is_believed(tmp_path):
    for n in range(2):
        study(tmp_path, n, 0, PatientID="Ann")
    rows = ["c0,x,0_0.dcm", "c1,y,1_0.dcm"]
    (tmp_path / "cases.csv").write_text("\n".join(["case,patient,image", *rows]))
    assert open_cases(tmp_path, range=(0, 1000)).all_patients == ("x", "y")


def test_two_patient_ids_of_one_study_are_told(tmp_path):
    study(tmp_path, 1, 0, PatientID="A")
    study(tmp_path, 1, 1, PatientID="B")
    lines = " ".join(open_cases(tmp_path, range=(0, 1000)).notices)
    assert "name several PatientIDs, in 1 of 1 studies" in lines


@pytest.mark.parametrize("inside", ["masks", "labels/p1"])
def test_series_in_a_folder_of_masks_are_no_images(tmp_path, inside):
    study(tmp_path / "images", 1, 0)
    study(tmp_path / inside, 2, 0)
    with pytest.raises(UserError, match=r"folders called masks .* cases.csv"):
        open_cases(tmp_path)


def test_a_series_without_patient_id_is_of_the_person_its_study_names(tmp_path):
    study(tmp_path, 1, 0, PatientID="Anna")
    study(tmp_path, 1, 1)
    study(tmp_path, 2, 0, PatientID="Ben")
    cases = open_cases(tmp_path, range=(0, 1000), names="plain")
    assert cases.patients == ("Anna", "Anna", "Ben")


def test_a_series_is_of_the_person_that_any_of_its_slices_names(tmp_path):
    folder = _without(slices(tmp_path, people=2), "00.dcm", "PatientID")
    cases = open_cases(folder, range=(0, 1000), names="plain")
    assert cases.all_patients == ("P0", "P1") and cases.image(0, "image").size == (8, 8, 3)


def test_without_patient_and_study_each_series_is_a_person_and_that_is_said(tmp_path):
    for n in range(3):
        study(tmp_path, n, 0, StudyInstanceUID="")
    cases = open_cases(tmp_path, range=(0, 1000))
    assert len(set(cases.patients)) == 3
    assert (
        "neither patient nor study is named in 3 of 3 series; each counts as one"
        in cases.notices[0]
    )


def test_one_patient_id_for_everything_is_one_person_and_that_is_said(tmp_path):
    for n in range(3):
        study(tmp_path, n, 0, PatientID="ANON")
    cases = open_cases(tmp_path, range=(0, 1000))
    assert set(cases.all_splits) == {"train"}
    assert "every series is of one PatientID, and all count as one person" in cases.notices[0]


def test_one_series_identifier_for_several_patients_makes_no_series_of_them(tmp_path):
    for n in range(3):
        array = np.random.default_rng(n).integers(0, 1000, (8, 8)).astype(np.uint16)
        write_slice(tmp_path / f"{n}.dcm", array, (0, 0, 3.0 * n), PatientID=f"P{n}")
    cases = open_cases(tmp_path, range=(0, 1000), names="plain")
    assert cases.patients == ("P0", "P1", "P2")
    assert "its series is of several patients; each has its own" in cases.notices[0]


def test_folders_named_like_splits_are_the_splits_of_series(tmp_path):
    for n, part in enumerate(("train", "train", "test")):
        study(tmp_path / part, n, 0)
    assert open_cases(tmp_path, range=(0, 1000)).split_of == ("test", "train", "train")


def test_a_stream_of_another_kind_than_its_syntax_says_is_left_to_no_decoder(tmp_path, capfd):
    """JPEG-LS called JPEG: the decoder of last resort would print of it on stderr."""
    slices(tmp_path, people=2, count=1)
    header = pydicom.dcmread(tmp_path / "00.dcm")
    header.compress(JPEGLSLossless)
    header.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    header.save_as(tmp_path / "00.dcm")
    capfd.readouterr()
    with pytest.raises(UserError, match=r"00\.dcm: its pixels cannot be decoded"):
        read_image(tmp_path / "00.dcm")
    assert capfd.readouterr() == ("", "")


def test_an_enhanced_object_that_places_some_of_its_frames_is_refused(tmp_path):
    """A stack of those that are placed would hide the others."""
    write_enhanced(tmp_path / "a.dcm", VOLUME, np.array([10.0, -20.0, 30.0]), 3 * NORMAL, range(5))
    header = pydicom.dcmread(tmp_path / "a.dcm")
    for lost in (0, 3):
        place = header.PerFrameFunctionalGroupsSequence[lost].PlanePositionSequence[0]
        del place.ImagePositionPatient
        header.save_as(tmp_path / "a.dcm")
        with pytest.raises(
            UserError, match=r"of its 5 frames .the first is 1. do not say where they lie"
        ):
            read_image(tmp_path / "a.dcm")


# ------------------------------------------------------------------------------- copies, and no grid
def stack(folder, count=5, **tags):
    for k in range(count):
        array = np.random.default_rng(k).integers(0, 1000, (6, 7)).astype(np.uint16)
        write_slice(folder / f"{k}.dcm", array, (0, 0, 3.0 * k), **tags)
    return folder


def test_a_slice_beside_the_line_of_the_others_is_refused(tmp_path):
    stack(tmp_path)
    array = np.random.default_rng(9).integers(0, 1000, (6, 7)).astype(np.uint16)
    write_slice(tmp_path / "2.dcm", array, (0.05, 0, 6.0))
    assert read_series(tmp_path).size == (6, 7, 5), "rounded places are no fault"
    write_slice(tmp_path / "2.dcm", array, (20.0, 0, 6.0))
    with pytest.raises(UserError, match=r"2\.dcm lies 20 mm beside the line"):
        read_series(tmp_path)
    for k in range(5):
        write_slice(tmp_path / f"{k}.dcm", array, (2.0 * k, 0, 3.0 * k))
    assert read_series(tmp_path).affine[:3, 2].tolist() == [-2, 0, 3], "a tilted gantry is a grid"


def test_files_that_were_copied_count_once(tmp_path):
    stack(tmp_path / "study")
    shutil.copytree(tmp_path / "study", tmp_path / "study" / "study")
    notices = []
    assert read_series(tmp_path / "study", notice=notices.append).size == (6, 7, 5)
    assert "is a copy of" in notices[0] and "and 4 more such" in notices[0] and len(notices) == 1
    cases = open_cases(tmp_path)
    assert len(cases) == 1 and cases.image(0, "image").size == (6, 7, 5)
    assert listed(tmp_path).series[0].cases == 1


def test_two_versions_of_one_image_are_called_so(tmp_path):
    stack(tmp_path)
    header = pydicom.dcmread(tmp_path / "3.dcm")
    header.InstanceNumber = 17
    header.save_as(tmp_path / "again.dcm")
    with pytest.raises(UserError, match="two versions of one image"):
        read_series(tmp_path)


def test_what_every_slice_says_is_told_once(tmp_path):
    notices = []
    read_series(stack(tmp_path, PhotometricInterpretation="MONOCHROME1"), notice=notices.append)
    assert len(notices) == 1 and "MONOCHROME1" in notices[0]


def test_one_patient_id_of_two_institutions_is_one_person_and_that_is_said(tmp_path):
    for n in range(6):
        study(tmp_path, n, 0, PatientID=f"{n // 2}", IssuerOfPatientID=f"SITE{n % 2}")
    cases = open_cases(tmp_path)
    assert len(set(cases.patients)) == 3
    (line,) = [line for line in cases.lines if "IssuerOfPatientID" in line]
    assert "for 3 of 3 people" in line and "SITE" not in line


def test_slices_of_several_frames_of_reference_are_stacked_and_that_is_said(tmp_path):
    for k in range(4):
        array = np.full((6, 7), k, np.uint16)
        write_slice(
            tmp_path / f"{k}.dcm", array, (0, 0, 3.0 * k), FrameOfReferenceUID=f"1.2.{k % 2}"
        )
    said = []
    assert read_series(tmp_path, notice=said.append).size == (6, 7, 4)
    assert [line for line in said if "2 frames of reference" in line]


@pytest.mark.parametrize("other, told", [("1.9.1", False), ("1.9.2", True), (None, False)])
def test_image_and_mask_of_two_frames_of_reference_are_paired_by_place_and_that_is_said(
    tmp_path, other, told
):
    for n in range(3):
        for key, world in (("image", "1.9.1"), ("mask", other)):
            for k in range(3):
                array = np.random.default_rng(k).integers(0, 2, (6, 7)).astype(np.uint16)
                about = {} if world is None else {"FrameOfReferenceUID": world}
                path = tmp_path / f"{key}{n}" / f"{k}.dcm"
                write_slice(path, array, (0, 0, 3.0 * k), series=f"1.2.{n}", **about)
    lines = [f"image{n},mask{n}" for n in range(3)]
    (tmp_path / "cases.csv").write_text("\n".join(["image,mask", *lines]))
    lines = open_cases(tmp_path, range=(0, 1)).lines
    found = [line for line in lines if "another frame of reference" in line]
    assert bool(found) == told
    assert all("and 2 more is in" in line for line in found)


def test_pixels_in_the_upper_bits_and_mosaics_are_refused_by_name(tmp_path):
    """Decoders cut the one to other numbers, and the other is a picture of nobody."""
    slices(tmp_path / "high", people=1, BitsStored=12, HighBit=15)
    assert "12 bits end at bit 15 and not at 11" in opened(tmp_path / "high")
    slices(tmp_path / "tiles", people=1, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    assert "is a mosaic" in opened(tmp_path / "tiles")


def test_a_place_that_cannot_be_is_told(tmp_path):
    slices(tmp_path, people=1, ImageOrientationPatient=[2, 0, 0, 0, 2, 0])
    cases = opened(tmp_path)
    assert len(cases) == 3 and cases.image(0, "image").affine is None
    assert any("place it nowhere" in line for line in cases.lines)
