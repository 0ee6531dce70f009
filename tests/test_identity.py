"""Whose the objects are that go out: kept, removed as the basic profile says, or replaced by a map."""

import shutil
import subprocess

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

from radiffuse import cli
from radiffuse.clinic.identity import KEY_FILE, Identity, key_of, replacements
from radiffuse.clinic.profile import EDITION
from radiffuse.data.formats.pseudonyms import of_person
from radiffuse.errors import UserError
from test_names_hidden import PLANTED, TRAIN, plant, planted_in

KEY = bytes(range(32))
REMOVE = Identity("remove", KEY)
WORD, DATE, UIDS = "PLANTEDWORD", "20210917", "1.2.826.99.774411"


def example(name="CT_small.dcm", **tags):
    """A real header, and what is planted in it."""
    header = pydicom.dcmread(pydicom.data.get_testdata_file(name))
    for keyword, value in {**PLANTED, **tags}.items():
        setattr(header, keyword, value)
    return header


def raw(header):
    """All bytes of a header as a file holds them."""
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(buffer, header)
    return buffer.getvalue().decode("latin-1")


# -------------------------------------------------------------------------------------- removing
@pytest.mark.parametrize(
    ("action", "keywords"),
    {
        "gone": "PatientAge PatientWeight PatientAddress OtherPatientIDs OtherPatientIDsSequence InstitutionAddress "
        "StudyDescription SeriesDescription PerformingPhysicianName RequestAttributesSequence ImageComments "
        "OriginalAttributesSequence PatientComments IssuerOfPatientID",
        "empty": "PatientBirthDate PatientSex AccessionNumber ReferringPhysicianName StudyDate StudyTime StudyID "
        "RequestedProcedureDescription AcquisitionDate",
        "dummy": "SeriesDate SeriesTime ContentDate ProtocolName DeviceSerialNumber OperatorsName StationName",
        "new": "StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID",
        "kept": "Modality Rows PixelSpacing RescaleSlope Manufacturer KVP SliceThickness ImageType",
    }.items(),
)  # fmt: skip
def test_each_attribute_becomes_what_table_e_1_1_says(action, keywords):
    """Read in the standard, not in the library whose table is used."""
    header = example()
    values = {
        "DA": DATE,
        "TM": "131415",
        "AS": "044Y",
        "DS": 1.5,
        "UI": UIDS,
        "SQ": [Dataset()],
        "US": 7,
        "CS": "F",
    }
    for keyword in keywords.split():
        kind = dictionary_VR(tag_for_keyword(keyword))
        if action != "kept":
            setattr(header, keyword, values.get(kind, WORD))
        before, found = header[keyword].value, REMOVE(header)
        now = found.get(keyword, "gone")
        if action == "gone":
            assert now == "gone", keyword
        elif action == "empty":
            assert keyword in found and not now, keyword
        elif action == "kept":
            assert now == before, keyword
        else:
            assert now not in ("", None, "gone", before), keyword
            assert action != "new" or (UID(now).is_valid and now == REMOVE.uid(before))


def test_nothing_that_the_table_names_survives_at_any_depth():
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    texts = {
        "DA": DATE,
        "DT": f"{DATE}101112",
        "TM": "131415",
        "AS": "044Y",
        "UI": UIDS,
        "UR": f"http://{WORD}",
    }
    header, inner = Dataset(), Dataset()
    for tag in dicom_anonymization_database_selector(f"dicomfields_{EDITION}")["ALL_TAGS"]:
        number = (tag[0] << 16) + tag[1]
        if len(tag) > 2 or tag[0] < 8 or not keyword_for_tag(number):
            continue
        kind = dictionary_VR(number)
        if kind in ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT", *texts):
            inner.add(DataElement(number, kind, texts.get(kind, WORD)))
        elif kind in ("OB", "UN"):
            inner.add(DataElement(number, kind, WORD.encode() + b" "))
    inner.private_block(0x0009, "PLANTEDWORD", create=True).add_new(1, "LO", WORD)
    inner.add(DataElement(0x60024000, "LT", WORD))
    assert len(inner) > 400
    for element in inner:
        header.add(element)
    header.EnergyWindowInformationSequence = [Dataset()]
    header.EnergyWindowInformationSequence[0].CTExposureSequence = [inner]
    for keyword in ("ContentSequence", "SourceImageSequence", "RequestAttributesSequence"):
        setattr(header, keyword, [inner])
    assert header.EnergyWindowInformationSequence[0].CTExposureSequence
    found = REMOVE(header)
    assert len(found.EnergyWindowInformationSequence[0].CTExposureSequence) == 1
    text = raw(found)
    for word in (WORD, DATE, "131415", "044Y", UIDS):
        assert word not in text, word
    assert all(word in raw(header) for word in (WORD, DATE, "131415", "044Y", UIDS))


def test_it_is_said_that_identity_was_removed_and_how():
    found = REMOVE(example())
    assert found.PatientIdentityRemoved == "YES" and EDITION in found.DeidentificationMethod
    (code,) = found.DeidentificationMethodCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert not planted_in(raw(found))


def test_patients_stay_apart_under_names_that_only_the_key_makes():
    names = {Identity("remove", key)(example(PatientID=person)).PatientID
             for key in (KEY, b"other" * 7) for person in ("A", "B")}  # fmt: skip
    assert len(names) == 4 and all(name.startswith("ANON-") for name in names)
    assert REMOVE(example(PatientID="A")).PatientName == REMOVE(example(PatientID="A")).PatientID


def test_new_uids_agree_across_files_and_commands_and_references_follow(tmp_path):
    one, other = example(SOPInstanceUID="1.2.3.1"), example(SOPInstanceUID="1.2.3.2")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = one.SOPClassUID, "1.2.3.1"
    other.SourceImageSequence = [reference]
    key = key_of(tmp_path / "out")
    first, again = Identity("remove", key)(one), Identity("remove", key_of(tmp_path / "out"))(other)
    assert first.StudyInstanceUID == again.StudyInstanceUID != one.StudyInstanceUID
    assert (
        first.SOPInstanceUID == again.SourceImageSequence[0].ReferencedSOPInstanceUID != "1.2.3.1"
    )
    assert again.SourceImageSequence[0].ReferencedSOPClassUID == one.SOPClassUID
    assert UID(first.SOPInstanceUID).is_valid and UID(first.StudyInstanceUID).is_valid
    assert (tmp_path / "out" / KEY_FILE).stat().st_mode & 0o077 == 0
    assert (
        Identity("remove", key_of(tmp_path / "elsewhere"))(one).StudyInstanceUID
        != first.StudyInstanceUID
    )
    assert REMOVE.uid("1.2.840.10008.1.4.1.1") == "1.2.840.10008.1.4.1.1"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "examples_ybr_color.dcm", "rtdose.dcm"]
)
def test_what_remains_is_as_valid_as_the_source_was(tmp_path, name):
    header = example(name)
    found = REMOVE(header)
    found.PixelData = header.PixelData
    found["PixelData"].VR = "OB" if found.BitsAllocated == 8 else "OW"

    def errors(dataset, path):
        dataset.save_as(path)
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
        return {line for line in said.splitlines() if line.startswith("Error")}

    new = errors(found, tmp_path / "after.dcm") - errors(header, tmp_path / "before.dcm")
    assert not new


# -------------------------------------------------------------------------------- keeping, replacing
def test_kept_headers_are_copies_without_pixels():
    header = example()
    found = Identity()(header)
    assert [element for element in header if element.keyword != "PixelData"] == list(found)
    found.PatientID = "other"
    found.OtherPatientIDsSequence = []
    assert header.PatientID == PLANTED["PatientID"]


def write(path, text):
    path.write_text(text)
    return path


def test_replaced_patients_are_those_of_the_map_and_all_else_is_removed(tmp_path):
    rows = "OldPatientID;PatientID;PatientName;PatientBirthDate\nPL4NTID;TRIAL-1;Trial^One;19000203\nB;TRIAL-2;Two;\n"
    known = replacements(write(tmp_path / "map.csv", rows))
    found = Identity("replace", KEY, known)(example())
    told = (found.PatientID, found.PatientName, found.PatientBirthDate, found.StudyDate)
    assert told == ("TRIAL-1", "Trial^One", "19000203", None)
    assert found.PatientIdentityRemoved == "YES" and not planted_in(raw(found))
    with pytest.raises(UserError) as error:
        Identity("replace", KEY, known, "map.csv")(example(PatientID="PL4NTID9"))
    assert "PL4NTID9" not in str(error.value) and of_person("PL4NTID9") in str(error.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("PatientID,PatientName\nA,B\n", "needs the columns OldPatientID and PatientID"),
        ("OldPatientID,PatientID,Nickname\nA,B,C\n", "column Nickname is no keyword"),
        ("OldPatientID,PatientID,PixelData\nA,B,C\n", "column PixelData is no keyword"),
        ("OldPatientID,PatientID\nSECRET,B\nSECRET,C\n", "lines 2 and 3 have the same OldPatientID"),
        ("OldPatientID,PatientID\nSECRET,B\nSECRET2,B\n", "lines 2 and 3 have the same PatientID"),
        ("OldPatientID,PatientID\nSECRET,\n", "line 2 has no PatientID"),
        ("OldPatientID,PatientID,PatientBirthDate\nA,B,SECRET\n", "line 2: PatientBirthDate holds what is no DA value"),
    ],
)  # fmt: skip
def test_a_map_that_cannot_be_meant_is_refused_without_naming_anybody(tmp_path, rows, said):
    with pytest.raises(UserError, match=said) as error:
        replacements(write(tmp_path / "map.csv", rows))
    assert "SECRET" not in str(error.value)


# ---------------------------------------------------------------------------------------- predict
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("identity")
    plant(root / "data", people=3)
    assert cli.main([str(w) for w in (*TRAIN, "--data", root / "data", "--out", root / "run")]) == 0
    return root / "run"


def predicting(run, out, *words):
    return ("predict", run, "--out", out, "--range", "0", "1000", *words)


def test_predict_refuses_a_patient_that_the_map_lacks_before_it_computes(run, tmp_path, refused):
    rows = write(tmp_path / "map.csv", "OldPatientID,PatientID\nsomebody else,T0\n")
    line = refused(
        *predicting(run, tmp_path / "out", "--identity", "replace", "--identity-map", rows)
    )
    assert "has no row for the patient p" in line and not planted_in(line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [("--identity", "replace"), ("--identity-map", "map.csv")])
def test_a_map_and_replace_go_together(run, tmp_path, refused, words):
    assert "go together" in refused(*predicting(run, tmp_path / "out", *words), code=2)


def test_a_folder_never_holds_two_identities(run, tmp_path, refused):
    out = tmp_path / "out"
    words = [str(word) for word in predicting(run, out, "--identity", "remove")]
    assert cli.main(words) == 0
    assert "holds predictions with identity remove, not None" in refused(*predicting(run, out))
    held = [pydicom.dcmread(file) for file in out.rglob("*.dcm")]
    assert held and not any(planted_in(raw(header)) for header in held)
    assert np.all([header.PatientID != "PL4NTID0" for header in held])


def objects(run, out, *words):
    """What predict writes of two patients, as bytes and headers."""
    data = run.parent / "data"
    said = predicting(run, out, "--data", data, "--split", "train", *words)
    assert cli.main([str(word) for word in said]) == 0
    held = [pydicom.dcmread(file) for file in sorted(out.rglob("*.dcm"))]
    assert len({header.SeriesInstanceUID for header in held}) == 2
    return held


def test_kept_objects_go_back_to_the_study_they_came_from(run, tmp_path):
    held = objects(run, tmp_path / "out")
    assert {header.PatientID for header in held} == {"PL4NTID0", "PL4NTID1"}
    assert {header.StudyInstanceUID for header in held} == {PLANTED["StudyInstanceUID"]}
    assert all(str(header.PatientName) == PLANTED["PatientName"] for header in held)


def test_removed_objects_hold_nothing_of_the_patient_and_belong_together(run, tmp_path):
    held = objects(run, tmp_path / "out", "--identity", "remove")
    for header in held:
        assert planted_in(raw(header)) == []
        assert header.PatientIdentityRemoved == "YES" and header.PatientID.startswith("ANON-")
        assert header.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert len({header.PatientID for header in held}) == 2
    (study,) = {header.StudyInstanceUID for header in held}
    assert study == Identity("remove", key_of(tmp_path / "out")).uid(PLANTED["StudyInstanceUID"])
    again = [str(w) for w in predicting(run, tmp_path / "out", "--data", run.parent / "data", "--split", "train",
                                        "--identity", "remove")]  # fmt: skip
    shutil.rmtree(next(path for path in (tmp_path / "out").iterdir() if any(path.glob("*.dcm"))))
    assert cli.main(again) == 0
    assert {pydicom.dcmread(f).StudyInstanceUID for f in (tmp_path / "out").rglob("*.dcm")} == {
        study
    }


def test_replaced_objects_are_of_the_patient_of_the_map(run, tmp_path):
    rows = write(
        tmp_path / "map.csv",
        "OldPatientID,PatientID,PatientName\nPL4NTID0,T-0,Zero\nPL4NTID1,T-1,One\n",
    )
    held = objects(run, tmp_path / "out", "--identity", "replace", "--identity-map", rows)
    assert {(h.PatientID, str(h.PatientName)) for h in held} == {("T-0", "Zero"), ("T-1", "One")}
    assert not any(planted_in(raw(header)) for header in held)
