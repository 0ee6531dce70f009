"""DICOM objects that go back to the clinic: valid, beside their source, and where it lies.

Judged by pydicom, highdicom and SimpleITK, by dciodvfy (dicom3tools) and by dcmtk.
"""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk
import torch

import dicom_sources as sources
from dicom_sources import files_of, valid
from radiffuse.clinic.codes import Naming, labels_of, read_codes
from radiffuse.clinic.meanings import meaning
from radiffuse.clinic.measured import Finding
from radiffuse.clinic.source import kept
from radiffuse.clinic.study import NoObject, Study
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image, save_image
from radiffuse.data.formats.dicom import read_files
from radiffuse.data.image import oriented
from radiffuse.data.made import Made
from radiffuse.data.transforms import resized
from radiffuse.errors import UserError

MADE = Made("", "derived", "oct-ddpm", "small", "mine", "ab" * 32, "0.1.0")
NAMING = Naming(names={1: "hippocampus"})
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom_brain" / "PGBM-003"
KINDS = {
    "ct": lambda path: sources.series(path, "CT"),
    "ct tilted": lambda path: sources.series(path, "CT", step=(0, 0.8, 3.0), GantryDetectorTilt="15"),
    "mr oblique": lambda path: sources.series(path, "MR", sources.OBLIQUE),
    "mr feet first": lambda path: sources.series(path, "MR", sources.FEET_FIRST, PatientPosition="FFS"),
    "mr enhanced": lambda path: sources.enhanced(path / "enhanced.dcm"),
    "pet": lambda path: sources.series(path, "PT"),
    "ot volume": lambda path: sources.series(path, "OT"),
    "ot colour": lambda path: sources.series(path, "OT", colour=True),
    "us grey": lambda path: sources.picture(path / "a.dcm", "US"),
    "us colour": lambda path: sources.picture(path / "a.dcm", "US", colour=True),
    "oct colour": lambda path: sources.picture(path / "a.dcm", "OCT", colour=True),
    "oct grey": lambda path: sources.picture(path / "a.dcm", "OCT"),
    "cr dark": lambda path: sources.picture(path / "a.dcm", "CR", PhotometricInterpretation="MONOCHROME1"),
}  # fmt: skip
PLACED = [name for name in KINDS if name.split()[0] in ("ct", "mr", "pet", "ot")]


def written(source, out):
    """All outputs of one case, as predict writes them: (study, image, paths by name)."""
    image = read_image(source)
    lines = []
    study = Study.of([image], MADE, notice=lines.append)
    grey = image.data[:1].float()
    labels = (grey > grey.mean()).to(torch.uint8)
    two = torch.cat([0.75 * labels, 0.25 * labels])
    found = {
        "image": study.image(image, out / "a-denoised.dcm", meaning("denoised")),
        "mask": study.labels(
            replace(image, data=labels), out / "a-mask.dcm", meaning("mask"), NAMING, 2
        ),
        "probability": study.probabilities(
            replace(image, data=two), out / "a-probability.dcm", meaning("probability"), NAMING
        ),
        "report": study.report(
            [Finding({"score": 0.25}, {"class": "pneumonia"})],
            out / "a-report.dcm",
            meaning("report"),
        ),
    }
    if image.affine is not None:
        found["map"] = study.map(
            replace(image, data=grey / 7), out / "a-anomaly.dcm", meaning("anomaly")
        )
    return study, image, found, lines


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Every kind of source and what was written of it, made when it is first asked for."""
    made = {}

    def case(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("clinic")
            stored = KINDS[name](folder / "in")
            source = (
                folder / "in" if len(files_of(folder / "in")) > 1 else files_of(folder / "in")[0]
            )
            made[name] = (source, stored, *written(source, folder / "out"))
        return made[name]

    return case


# -------------------------------------------------------------------------------------- validity
@pytest.mark.parametrize("name", KINDS)
def test_every_object_of_every_modality_is_valid(cases, name):
    *_, paths, _ = cases(name)
    for path in paths.values():
        valid(path)


def test_objects_of_a_real_series_are_valid(tmp_path):
    if not REAL.is_dir():
        pytest.skip("needs shared/data/dicom_brain beside the repository")
    _, image, paths, _ = written(REAL / "t1", tmp_path)
    for path in paths.values():
        valid(path)
    assert torch.equal(read_image(paths["image"]).data, image.data)


def test_dcmtk_renders_images_and_reads_the_report(cases, tmp_path):
    if shutil.which("dcm2pnm") is None:
        pytest.skip("needs Debian's dcmtk")
    for name in ("ct", "pet", "us colour"):
        paths = cases(name)[4]
        window = [] if name == "us colour" else ["+Wm"]
        picture = tmp_path / "a.png"
        words = ["dcm2pnm", *window, "--write-png", files_of(paths["image"])[0], picture]
        done = subprocess.run(words)
        assert done.returncode == 0 and read_image(picture).data.float().std() > 0
        told = subprocess.run(["dsrdump", paths["report"]], capture_output=True, text=True)
        assert '"score")="0.25"' in told.stdout and "pneumonia" in told.stdout


MISSING = {
    "CT": ("KVP", "PatientSex", "StudyDate", "FrameOfReferenceUID", "StudyInstanceUID", "PatientPosition",
           "PatientBirthDate", "ReferringPhysicianName", "BodyPartExamined", "ImageType", "Manufacturer"),
    "MR": ("ScanningSequence", "SequenceVariant", "EchoTime", "RepetitionTime", "AccessionNumber", "PatientID",
           "SeriesDescription", "BodyPartExamined", "SeriesNumber", "InstanceNumber"),
    "PT": ("Units", "DecayCorrection", "CountsSource", "SeriesType", "SeriesDate", "FrameReferenceTime",
           "RadiopharmaceuticalInformationSequence", "PatientName", "CorrectedImage", "AcquisitionTime"),
}  # fmt: skip


@pytest.mark.parametrize("modality", MISSING)
def test_sources_that_lack_what_anonymised_data_lack_give_valid_objects(tmp_path, modality):
    sources.series(tmp_path / "in", modality)
    sources.stripped(tmp_path / "in", *MISSING[modality])
    _, _, paths, lines = written(tmp_path / "in", tmp_path / "out")
    for path in paths.values():
        valid(path)
    expected = {"CT": "a new StudyInstanceUID", "MR": "ScanningSequence = RM", "PT": "Units = NONE"}
    assert expected[modality] in lines[0] and len(set(lines)) == 2


def test_values_that_cannot_be_are_left_out(tmp_path):
    long = "0.12345678901234567890"
    sources.series(tmp_path / "in", "CT")
    for file in (tmp_path / "in").iterdir():
        header = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            header.PatientBirthDate, header.PatientAge = "24.12.1950", "seventy"
            header.add_new("ReconstructionDiameter", "DS", long)
            header.save_as(file)
        file.write_bytes(file.read_bytes().replace(b"DS\x04\x00120 ", b"DS\x04\x00many"))
    _, _, paths, _ = written(tmp_path / "in", tmp_path / "out")
    header = pydicom.dcmread(files_of(paths["image"])[0])
    assert header.PatientBirthDate == "" and "PatientAge" not in header and header.KVP is None
    assert float(header.ReconstructionDiameter) == pytest.approx(float(long))
    for path in paths.values():
        valid(path)


# --------------------------------------------------------------------------------------- geometry
@pytest.mark.parametrize("name", PLACED)
def test_outputs_lie_where_their_source_lies(cases, name):
    source, _, _, image, paths, _ = cases(name)
    for key in ("image", "mask", "probability", "map"):
        again = read_image(paths[key])
        torch.testing.assert_close(again.affine, image.affine, atol=1e-4, rtol=0)
        assert again.size == image.size
    if name in ("ct tilted", "ot volume", "ot colour"):  # ITK knows no tilt, nor places of these
        return
    if name != "mr enhanced":  # whose mixed frames ITK takes as they come
        truth, made = _by_simpleitk(source), _by_simpleitk(paths["image"])
        for about in ("GetSize", "GetSpacing", "GetDirection", "GetOrigin"):
            np.testing.assert_allclose(getattr(made, about)(), getattr(truth, about)(), atol=1e-4)
    for key, reader in (("mask", highdicom.seg.segread), ("map", highdicom.imread)):
        volume = reader(paths[key]).get_volume(
            **({"combine_segments": True} if key == "mask" else {})
        )
        _, affine = upwards(volume, image)
        torch.testing.assert_close(torch.tensor(affine), image.affine, atol=1e-4, rtol=0)


def upwards(volume, image):
    """A volume of highdicom as ours are: (rows, columns, slices), the lowest slice first, RAS."""
    order = [1, 2, 0, 3]
    array, affine = (
        np.moveaxis(volume.array, 0, -1),
        np.diag([-1.0, -1, 1, 1]) @ volume.affine[:, order],
    )
    if affine[:3, 2] @ image.affine[:3, 2].numpy() < 0:
        array = array[..., ::-1]
        affine[:3, 3] += (array.shape[-1] - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
    return array, affine


def _by_simpleitk(path):
    if not path.is_dir():
        return sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()


def test_a_tilted_gantry_stays_tilted_slice_by_slice(cases):
    source, _, _, _, paths, _ = cases("ct tilted")

    def places(folder):
        headers = sorted(
            map(pydicom.dcmread, files_of(folder)), key=lambda h: h.ImagePositionPatient[2]
        )
        return np.array([header.ImagePositionPatient for header in headers], float)

    np.testing.assert_allclose(places(paths["image"]), places(source), atol=1e-6)
    for key in ("mask", "map"):
        frames = pydicom.dcmread(paths[key]).PerFrameFunctionalGroupsSequence
        made = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
        made = np.unique(np.array(made, float), axis=0)
        np.testing.assert_allclose(made[np.argsort(made[:, 2])], places(source), atol=1e-6)


def test_a_volume_that_was_turned_inside_goes_back_to_its_own_axes(tmp_path):
    sources.series(tmp_path / "in", "MR")
    image = read_image(tmp_path / "in")
    inside = replace(oriented(image, "RAS"), own="PLS")
    path = Study.of([inside], MADE).image(inside, tmp_path / "out.dcm", meaning("denoised"))
    again = read_image(path)
    assert torch.equal(again.data, image.data)
    torch.testing.assert_close(again.affine, image.affine, atol=1e-6, rtol=0)


def test_outputs_on_a_coarser_grid_lie_in_the_same_place(tmp_path):
    sources.series(tmp_path / "in", "CT")
    small = resized(read_image(tmp_path / "in"), (6, 5, 5))
    study = Study.of([small], MADE)
    labels = (small.data > small.data.float().mean()).to(torch.uint8)
    made = [
        study.image(small, tmp_path / "a.dcm", meaning("denoised")),
        study.labels(replace(small, data=labels), tmp_path / "b.dcm", meaning("mask"), NAMING),
        study.map(replace(small, data=labels.float()), tmp_path / "c.dcm", meaning("anomaly")),
    ]
    for path in made:
        valid(path)
        torch.testing.assert_close(read_image(path).affine, small.affine, atol=1e-4, rtol=0)
    assert torch.equal(read_image(made[1]).data, labels)


def test_a_picture_without_a_place_goes_back_to_the_pixels_of_its_source(tmp_path):
    sources.picture(tmp_path / "in.dcm", "OCT")
    small = resized(read_image(tmp_path / "in.dcm"), (12, 10), nearest=True)
    lines = []
    study = Study.of([small], MADE, notice=lines.append)
    labels = (small.data > 100).to(torch.uint8)
    path = study.labels(replace(small, data=labels), tmp_path / "m.dcm", meaning("mask"), NAMING)
    valid(path)
    again = read_image(path).data
    assert torch.equal(again, labels.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert "12 x 10 pixels are brought back to the 24 x 20 of the source" in lines[0]


# ----------------------------------------------------------------------------------------- identity
def test_a_derived_series_is_of_the_patient_study_and_frame_of_its_source(cases):
    source, _, _, _, paths, _ = cases("ct")
    of = {h.InstanceNumber: h for h in map(pydicom.dcmread, files_of(source))}
    made = [pydicom.dcmread(file) for file in files_of(paths["image"])]
    assert len({header.SeriesInstanceUID for header in made}) == 1
    assert len({header.SOPInstanceUID for header in made}) == 5
    for header in made:
        own = of[header.InstanceNumber]
        for name in ("PatientID", "PatientBirthDate", "PatientAge", "StudyInstanceUID", "StudyDate", "AccessionNumber",
                     "FrameOfReferenceUID", "ReferringPhysicianName", "KVP", "ConvolutionKernel"):  # fmt: skip
            assert header[name].value == own[name].value, name
        assert str(header.PatientName) == "Müłler^Änne"
        assert header.SeriesInstanceUID != own.SeriesInstanceUID
        assert header.SOPInstanceUID != own.SOPInstanceUID
        reference = header.SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == own.SOPInstanceUID
        assert reference.SpatialLocationsPreserved == "YES"
        assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == own.SeriesInstanceUID
        assert header.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert header.SeriesDescription == "denoised (oct-ddpm): T1 axial"
        assert "SYNTHETIC" not in header.SeriesDescription and "ImageComments" not in header
        assert "ab" * 32 in header.DerivationDescription
        scanner, ours = header.ContributingEquipmentSequence
        assert scanner.Manufacturer == "Scanners Ltd" and ours.DeviceSerialNumber == "ab" * 32
        assert ours.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert ours.SoftwareVersions == "0.1.0" and "oct-ddpm" in ours.ManufacturerModelName
    for key in ("mask", "probability", "map", "report"):
        header = pydicom.dcmread(paths[key])
        own = of[1]
        for name in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber"):
            assert str(header[name].value) == str(own[name].value), (key, name)
        if key != "report":
            assert header.FrameOfReferenceUID == own.FrameOfReferenceUID
        series = (header.get("ReferencedSeriesSequence") or
                  header.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence)  # fmt: skip
        assert series[0].SeriesInstanceUID == own.SeriesInstanceUID


def test_a_frame_of_a_source_of_many_is_named(cases):
    source, _, _, _, paths, _ = cases("mr enhanced")
    header = pydicom.dcmread(files_of(paths["image"])[0])
    reference = header.SourceImageSequence[0]
    assert reference.ReferencedFrameNumber == 2, "the lowest of the frames lies second"
    assert reference.ReferencedSOPInstanceUID == pydicom.dcmread(source).SOPInstanceUID
    assert float(header.EchoTime) == 17.5, "of a functional group"


def test_a_frame_of_a_film_is_the_source_of_what_is_made_of_it(tmp_path):
    film = Path(pydicom.data.get_testdata_file("examples_ybr_color.dcm"))
    image = read_files([film], frames=(3,))
    study = Study.of([image], MADE)
    path = study.image(image, tmp_path / "a.dcm", meaning("denoised"))
    labels = (image.data[:1] > 100).to(torch.uint8)
    mask = study.labels(replace(image, data=labels), tmp_path / "m.dcm", meaning("mask"), NAMING)
    report = study.report([Finding({"score": 1.0}, {})], tmp_path / "r.dcm", meaning("report"))
    for each in (path, mask, report):
        valid(each)
    assert pydicom.dcmread(path).SourceImageSequence[0].ReferencedFrameNumber == 4
    step = pydicom.dcmread(mask).PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    assert step.SourceImageSequence[0].ReferencedFrameNumber == 4
    (group,) = highdicom.sr.srread(report).content.get_image_measurement_groups()
    assert list(group.source_images[0].referenced_frame_numbers) == [4]
    assert torch.equal(read_image(mask).data, labels)


def test_uids_are_random_and_series_numbers_rise(tmp_path):
    sources.series(tmp_path / "in")
    image = read_image(tmp_path / "in")
    uids, numbers = set(), []
    for run in ("one", "two"):
        study = Study.of([image], MADE)
        for key in ("denoised", "healthy"):
            path = study.image(image, tmp_path / run / f"{key}.dcm", meaning(key))
            header = pydicom.dcmread(path / "0001.dcm")
            uids |= {header.SeriesInstanceUID, header.SOPInstanceUID}
            numbers.append(header.SeriesNumber)
    assert len(uids) == 8 and numbers == [4001, 4002, 4001, 4002]
    assert header.ImageComments.startswith("SYNTHETIC content"), "a healthy counterpart"


def test_what_two_series_of_one_case_lack_is_the_same_in_all_outputs(tmp_path):
    for name in ("a", "b"):
        sources.series(tmp_path / name)
        sources.stripped(tmp_path / name, "StudyInstanceUID")
    images = [read_image(tmp_path / name) for name in ("a", "b")]
    study = Study.of(images, MADE)
    one = study.image(images[0], tmp_path / "x.dcm", meaning("denoised"))
    other = study.map(images[0], tmp_path / "y.dcm", meaning("anomaly"))
    header = pydicom.dcmread(one / "0003.dcm")
    assert header.StudyInstanceUID == pydicom.dcmread(other).StudyInstanceUID != ""
    assert len(header.SourceImageSequence) == 2, "the slice of each series at this place"
    assert len(header.ReferencedSeriesSequence) == 2
    valid(one)
    valid(other)


def test_a_series_of_another_study_is_named_as_such(tmp_path):
    for name in ("a", "b"):
        sources.series(tmp_path / name)
    images = [read_image(tmp_path / name) for name in ("a", "b")]
    study = Study.of(images, MADE)
    path = study.image(images[0], tmp_path / "x.dcm", meaning("denoised"))
    labels = replace(images[0], data=(images[0].data > 500).to(torch.uint8))
    mask = study.labels(labels, tmp_path / "m.dcm", meaning("mask"), NAMING)
    valid(path)
    valid(mask)
    header = pydicom.dcmread(path / "0001.dcm")
    (away,) = header.StudiesContainingOtherReferencedInstancesSequence
    assert away.StudyInstanceUID == study.sources[1].header.StudyInstanceUID
    assert len(header.ReferencedSeriesSequence) == 1 and len(header.SourceImageSequence) == 2


def test_where_there_is_no_object_it_is_said(tmp_path):
    sources.series(tmp_path / "in")
    image = read_image(tmp_path / "in")
    sheared = image.affine.clone()
    sheared[0, 0] = 0.5
    with pytest.raises(NoObject, match="rows and columns are not at right angles"):
        Study.of([image], MADE).image(
            replace(image, affine=sheared), tmp_path / "x.dcm", meaning("denoised")
        )


def test_colours_of_16_bits_are_not_cut_to_8(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    header = sources.one("OT", array)
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "a.dcm")
    with pytest.raises(NoObject, match="colours of 8 bits"):
        Study.of([image], MADE).image(image, tmp_path / "x.dcm", meaning("denoised"))


def test_objects_of_one_echo_refer_to_its_frames_alone(tmp_path):
    places = [(0, 0, 3.0 * k) for k in range(4)] * 2
    enhanced_echoes(tmp_path / "e.dcm", places, [10.0] * 4 + [80.0] * 4)
    image = open_cases(tmp_path).image(1, "image")
    assert sorted(image.frames) == [4, 5, 6, 7]
    study = Study.of([image], MADE)
    labels = (image.data > 0).to(torch.uint8)
    mask = study.labels(replace(image, data=labels), tmp_path / "m.dcm", meaning("mask"), NAMING)
    heat = study.map(replace(image, data=image.data / 7.0), tmp_path / "h.dcm", meaning("anomaly"))
    for path in (mask, heat):
        valid(path)
        named = [
            int(one.ReferencedFrameNumber)
            for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
            for one in frame.DerivationImageSequence[0].SourceImageSequence
        ]
        assert sorted(named) == [5, 6, 7, 8]


def enhanced_echoes(path, places, echoes):
    """An Enhanced MR object of a frame at each place and echo time."""
    rows, columns, _ = sources.SIZE
    sources.enhanced(path)
    header = pydicom.dcmread(path)
    frames = []
    for place, echo in zip(places, echoes, strict=True):
        frame, position, timing = (pydicom.Dataset() for _ in range(3))
        position.ImagePositionPatient, timing.EffectiveEchoTime = list(place), echo
        frame.PlanePositionSequence, frame.MREchoSequence = [position], [timing]
        frames.append(frame)
    (orientation,) = header.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    orientation.ImageOrientationPatient = list(sources.AXIAL)
    del header.SharedFunctionalGroupsSequence[0].MREchoSequence
    header.PerFrameFunctionalGroupsSequence, header.NumberOfFrames = frames, len(frames)
    values = np.random.default_rng(0).integers(1, 900, (len(frames), rows, columns))
    header.PixelData = values.astype(np.uint16).tobytes()
    header.save_as(path)


def test_headers_pass_through_the_identity_first(tmp_path):
    sources.series(tmp_path / "in", "CT")
    seen = []

    def other(header):
        seen.append(header)
        header = kept(header)
        header.PatientName, header.PatientID = "Doe^Jane", "X1"
        header.StudyInstanceUID = "1.2.3.4"
        return header

    image = read_image(tmp_path / "in")
    study = Study.of([image], MADE, other)
    paths = [
        study.image(image, tmp_path / "a.dcm", meaning("denoised")) / "0001.dcm",
        study.map(image, tmp_path / "b.dcm", meaning("anomaly")),
        study.labels(replace(image, data=torch.ones_like(image.data)), tmp_path / "c.dcm", meaning("mask"), NAMING),
        study.report([Finding({"score": 1.0}, {})], tmp_path / "d.dcm", meaning("report")),
    ]  # fmt: skip
    assert len(seen) == 5
    for path in paths:
        header = pydicom.dcmread(path)
        assert header.PatientName == "Doe^Jane" and header.StudyInstanceUID == "1.2.3.4"
        assert "P-4711" not in str(header) and "ller" not in str(header)


# ------------------------------------------------------------------------------------------- values
def test_values_scaling_and_window_are_kept(cases):
    for name in ("ct", "pet", "mr oblique", "us grey", "us colour", "ot colour", "oct grey"):
        source, _, _, image, paths, _ = cases(name)
        again = read_image(paths["image"])
        own, made = (pydicom.dcmread(files_of(path)[0]) for path in (source, paths["image"]))
        step = float(made.get("RescaleSlope", 1)) / 2 if name == "pet" else 0
        assert (again.data.double() - image.data.double()).abs().max() <= 1.001 * step, name
        assert made.Modality == own.Modality and made.Rows == own.Rows
        assert made.WindowWidth == own.WindowWidth
    dark = cases("cr dark")
    assert torch.equal(read_image(dark[4]["image"]).data, dark[3].data), "bright is high in both"
    header = pydicom.dcmread(dark[4]["image"])
    assert header.PhotometricInterpretation == "MONOCHROME2" and header.WindowWidth != 400
    header = pydicom.dcmread(files_of(cases("ct")[4]["image"])[0])
    assert (header.RescaleSlope, header.RescaleIntercept, header.RescaleType) == (1, -1024, "HU")
    header = pydicom.dcmread(files_of(cases("pet")[4]["image"])[0])
    assert header.Units == "BQML" and header.RescaleIntercept == 0 and header.NumberOfSlices == 5
    assert header.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose == 370000000


def test_classes_are_those_of_the_source(cases):
    expected = {"ct": "CT", "mr enhanced": "MR", "pet": "Positron", "us colour": "Ultrasound",
                "oct colour": "Secondary", "ot volume": "Multi-frame Grayscale Word",
                "ot colour": "Multi-frame True Color"}  # fmt: skip
    for name, start in expected.items():
        header = pydicom.dcmread(files_of(cases(name)[4]["image"])[0])
        assert header.SOPClassUID.name.startswith(start), name


def test_another_contrast_has_a_window_of_its_own_and_says_what_it_is(tmp_path):
    sources.series(tmp_path / "in", "MR")
    image = read_image(tmp_path / "in")
    hounsfield = replace(image, data=image.data.float() * 1.5 - 1000.25, modality="CT")
    path = Study.of([image], MADE).image(hounsfield, tmp_path / "out.dcm", meaning("target"))
    valid(path)
    header = pydicom.dcmread(path / "0002.dcm")
    assert header.Modality == "CT" and header.RescaleType == "HU" and header.KVP is None
    assert header.WindowWidth != 400 and "EchoTime" not in header
    assert header.ImageComments.startswith("SYNTHETIC content")
    again = read_image(path).data.double()
    assert (again - hounsfield.data.double()).abs().max() <= float(header.RescaleSlope)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda seg: seg.pop("SegmentSequence"), "describes 0 segments, and has frames of segment"),
        (lambda seg: setattr(seg, "Rows", 60000), "declares"),
        (lambda seg: seg.pop("PixelData"), "holds no pixels"),
    ],
    ids=["no segments", "too large", "no pixels"],
)
def test_a_damaged_segmentation_is_one_line(cases, tmp_path, damage, says):
    seg = pydicom.dcmread(cases("ct")[4]["mask"])
    damage(seg)
    seg.save_as(tmp_path / "m.dcm")
    with pytest.raises(UserError, match=says):
        read_image(tmp_path / "m.dcm", labels=True)


def test_highdicom_and_we_read_the_same_labels_and_probabilities(cases):
    for name in ("ct", "mr oblique", "us colour"):
        _, _, _, image, paths, _ = cases(name)
        grey = image.data[:1].float()
        labels = (grey > grey.mean()).to(torch.uint8)
        assert torch.equal(read_image(paths["mask"]).data, labels)
        chances = read_image(paths["probability"]).data
        two = torch.cat([0.75 * labels, 0.25 * labels])
        torch.testing.assert_close(chances, two, atol=1 / 255, rtol=0)
        if image.affine is None:
            continue
        seg = highdicom.seg.segread(paths["mask"])
        volume = seg.get_volume(combine_segments=True)
        np.testing.assert_array_equal(
            upwards(volume, image)[0], labels[0].numpy().reshape((*volume.array.shape[1:3], -1))
        )
        assert [seg.get_segment_description(k).segment_label for k in (1, 2)] == [
            "hippocampus",
            "label 2",
        ]
        assert seg.get_segment_description(1).segmented_property_type.value == "5366008"
        assert (
            seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName
            == "radiffuse oct-ddpm"
        )


def test_a_mask_that_is_empty_here_and_there_lies_on_the_whole_grid(tmp_path):
    sources.series(tmp_path / "in")
    image = read_image(tmp_path / "in")
    empty = replace(image, data=torch.zeros_like(image.data, dtype=torch.uint8))
    uids = set()
    for k in (1, 2):
        study = Study.of([image], MADE)
        path = study.labels(empty, tmp_path / f"{k}.dcm", meaning("mask"), NAMING)
        valid(path)
        uids.add(pydicom.dcmread(path).SOPInstanceUID)
        assert torch.equal(read_image(path).data, empty.data)
    assert len(uids) == 2, "two empty masks are two objects"
    one = empty.data.clone()
    one[..., 3] = 1
    path = Study.of([image], MADE).labels(
        replace(image, data=one), tmp_path / "one.dcm", meaning("mask"), NAMING
    )
    assert torch.equal(read_image(path).data, one)


def test_a_map_holds_its_numbers_and_their_unit(cases, tmp_path):
    _, _, study, image, paths, _ = cases("ct")
    torch.testing.assert_close(read_image(paths["map"]).data, image.data.float() / 7)
    header = pydicom.dcmread(paths["map"])
    mapping = header.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    spread = study.map(
        replace(image, data=image.data.float()), tmp_path / "s.dcm", meaning("denoised-std")
    )
    mapping = (
        pydicom.dcmread(spread).SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    )
    assert mapping.MeasurementUnitsCodeSequence[0].CodeMeaning == "Hounsfield unit"


def test_a_report_holds_classes_scores_and_the_images_they_are_of(tmp_path):
    sources.series(tmp_path / "in")
    image = read_image(tmp_path / "in")
    study = Study.of([image], MADE)
    place = study.sources[0].slices[3].place
    found = [
        Finding({"score": 0.5}, {}, "axial slice 4", place),
        Finding({"score": 0.1}, {"class": "sick"}),
    ]
    path = study.report(found, tmp_path / "r.dcm", meaning("report"))
    valid(path)
    report = highdicom.sr.srread(path)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    one, all_ = report.content.get_image_measurement_groups()
    assert one.get_measurements()[0].value == 0.5
    told = [item.referenced_sop_instance_uid for item in one.source_images]
    assert told == [study.sources[0].slices[3].header.SOPInstanceUID]
    assert len(all_.source_images) == 5
    assert all_.get_qualitative_evaluations()[0].value.meaning == "sick"


# -------------------------------------------------------------------------------------------- codes
HEAD = "value,name,category_code,category_scheme,category_meaning,type_code,type_scheme,type_meaning,colour"
LINE = "1,tumour,49755003,SCT,Morphologically abnormal structure,108369006,SCT,Neoplasm,#ff0000"


def test_codes_of_labels_come_from_a_file(tmp_path):
    (tmp_path / "labels.csv").write_text(f"{HEAD}\n{LINE}\n")
    codes = read_codes(tmp_path / "labels.csv")
    (label,) = labels_of([1], Naming(codes), pytest.fail)
    assert label.type == ("108369006", "SCT", "Neoplasm") and label.colour == "#ff0000"
    with pytest.raises(UserError, match="says nothing of label 2; add a row for it"):
        labels_of([1, 2], Naming(codes), pytest.fail)
    sources.series(tmp_path / "in")
    image = read_image(tmp_path / "in")
    mask = replace(image, data=torch.ones_like(image.data, dtype=torch.uint8))
    path = Study.of([image], MADE).labels(mask, tmp_path / "m.dcm", meaning("mask"), Naming(codes))
    segment = pydicom.dcmread(path).SegmentSequence[0]
    assert segment.SegmentLabel == "tumour"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    valid(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD, "holds no label"),
        ("value,name\n1,a", "lacks columns category_code"),
        (f"{HEAD}\n{LINE}\n{LINE}", "line 3: value 1 is there twice"),
        (f"{HEAD}\n{LINE.replace('108369006', '')}", "line 2: type_code is empty"),
        (f"{HEAD}\n0{LINE[1:]}", "line 2: value is '0'; labels are 1, 2, 3 ..."),
        (f"{HEAD}\n{LINE.replace('#ff0000', 'red')}", "colour is 'red'; it is written #rrggbb"),
    ],
)
def test_a_file_of_codes_that_is_not_whole_is_refused(tmp_path, text, told):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=rf"labels.csv: .*{told}"):
        read_codes(tmp_path / "labels.csv")


def test_assumed_codes_are_said():
    lines = []
    named, plain = labels_of([1, 2], NAMING, lines.append)
    assert named.type == ("5366008", "SCT", "Hippocampus") or named.type[0] == "5366008"
    assert plain.type[0] == "85756007"
    assert "assumed: 1 = hippocampus (5366008 SCT), 2 = label 2 (85756007 SCT)" in lines[0]
    (sick,) = labels_of([1], Naming(abnormal=True), lines.append)
    assert sick.type[0] == "49755003" and sick.name == "anomaly"


# ------------------------------------------------------------------------------ without a source
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_a_sample_is_of_a_new_patient_who_is_called_synthetic(tmp_path, modality):
    sources.series(tmp_path / "in", modality)
    image = read_image(tmp_path / "in")
    made = Made("sample", "synthetic", "ddpm", "small", "mine", "cd" * 32, "0.1.0")
    one = save_image(replace(image, files=()), tmp_path / "one.dcm", made)
    other = save_image(replace(image, files=()), tmp_path / "other.dcm", made)
    valid(one)
    headers = [pydicom.dcmread(files_of(path)[0]) for path in (one, other)]
    assert len({header.PatientID for header in headers}) == 2
    for header in headers:
        assert header.PatientName == "Synthetic^Radiffuse"
        assert header.SeriesDescription == "SYNTHETIC sample"
        assert "cd" * 32 in header.DerivationDescription
        assert "SourceImageSequence" not in header
        assert (
            header.StudyInstanceUID
            != pydicom.dcmread(files_of(tmp_path / "in")[0]).StudyInstanceUID
        )
