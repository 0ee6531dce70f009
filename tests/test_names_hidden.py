"""Who DICOM data are of is shown nowhere, unless --names plain asks for it."""

import contextlib
import gzip
import io
import re
import zipfile
from dataclasses import replace
from html import unescape

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from radiffuse import cli
from radiffuse.api import load
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats import pseudonyms
from radiffuse.data.formats.by_ending import read_image, save_like
from radiffuse.data.transforms import to_unit
from radiffuse.errors import UserError
from test_data_dicom import write_slice

PLANTED = {
    "PatientName": "Quuxwort^Plantina",
    "PatientID": "PL4NTID",
    "OtherPatientIDs": "0therid55",
    "PatientBirthDate": "19471203",
    "PatientAddress": "Planted street 9",
    "AccessionNumber": "ACC88231",
    "ReferringPhysicianName": "Refdoc^Zyxwv",
    "OperatorsName": "0perat0r^Vutsr",
    "InstitutionName": "Plantedhosp",
    "StudyDate": "20210917",
    "StudyTime": "131415",
    "SeriesDate": "20210918",
    "AcquisitionDateTime": "20210919101112",
    "StudyDescription": "studydescr Plantina",
    "SeriesDescription": "seriesdescr Plantina",
    "ProtocolName": "protplanted",
    "StudyID": "STUD7741",
    "StudyInstanceUID": "1.2.826.99.774411",
    "StationName": "STATIONPLANT",
}
"""What headers say; numbers and the like follow in each series."""
TOKENS = (
    *("quuxwort", "plantina", "pl4ntid", "0therid55", "19471203", "planted street", "acc88231", "refdoc", "0perat0r"),
    *("plantedhosp", "20210917", "131415", "20210918", "20210919101112", "studydescr", "seriesdescr"),
    *("protplanted", "stud7741", "1.2.826.99.774411", "stationplant", "privplant", "1.2.826.99.55"),
)  # fmt: skip
TINY = ("--preset", "tiny", "--width", "8", "--train.steps", "2", "--train.batch", "4")
TRAIN = ("train", "oct-ddpm", "--map", "clean=image", "--slices", "axial", "--window", "8", *TINY)


def plant(folder, people=5, slices=3, **tags):
    """A series a person, each with all of it; files are called by numbers."""
    rng = np.random.default_rng(people)
    for person in range(people):
        about = {
            **PLANTED,
            "PatientID": f"PL4NTID{person}",
            "BurnedInAnnotation": "NO",
            "SeriesNumber": person + 1,
            **tags,
        }
        if person == 1:
            about["BurnedInAnnotation"] = "YES"
        for k in range(slices):
            file = folder / f"{person:02d}{k:02d}"
            array = rng.integers(0, 1000, (16, 16)).astype(np.uint16)
            header = write_slice(
                file, array, (0, 0, 3.0 * k), series=f"1.2.826.99.55.{person}", InstanceNumber=k, **about
            )  # fmt: skip
            block = header.private_block(0x0009, "PRIVPLANT OWNER", create=True)
            block.add_new(1, "LO", "privplant")
            header.save_as(file, enforce_file_format=True)
    return folder


def planted_in(text):
    text = text.lower()
    return [token for token in TOKENS if token in text]


def contents(path):
    """What a file holds, members of an archive unpacked; nothing of DICOM objects."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [archive.read(name) for name in archive.namelist()]
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return [] if raw[128:132] == b"DICM" else [raw]


def leaks(root):
    """Planted words in the names and contents of what lies in a folder."""
    found = {}
    for path in root.rglob("*"):
        inside = contents(path) if path.is_file() else []
        text = b"\n".join([path.relative_to(root).as_posix().encode(), *inside]).decode("latin-1")
        if words := planted_in(text):
            found[str(path)] = words
    return found


class Terminal:
    """Runs commands, and keeps all that they say."""

    def __init__(self):
        self.said = ""

    def __call__(self, *words, code=0):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = cli.main([str(word) for word in words])
        self.said += out.getvalue() + err.getvalue()
        assert ended == code, err.getvalue()
        return out.getvalue() + err.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Planted data, and all that commands make of them: the terminal and the folder of outputs."""
    root = tmp_path_factory.mktemp("hidden")
    data, made, say = plant(root / "data"), root / "made", Terminal()
    run = made / "run"
    say(*TRAIN, "--data", data, "--out", run)
    say(*TRAIN, "--data", data, "--out", run, "--resume")
    say("predict", run, "--out", made / "found", "--samples", "2", "--split", "train")
    say(
        "predict",
        run,
        "--data",
        data,
        "--out",
        made / "one",
        "--range",
        "0",
        "1000",
        "--series",
        "3",
    )
    say("evaluate", run, "--split", "train", "--out", made / "measured" / "metrics.json")
    say("evaluate", run)
    say("report", run, "--out", made / "report.html")
    say("report", made / "found", "--out", made / "cases.html")
    say("runs", made)
    say("inspect", data, "--out", made / "looked")
    say("inspect", data, "--series")
    say("inspect", data, "--json")
    say("pack", run, "--out", made / "model.zip", "--licence", "CC0-1.0", "--data", "phantoms")
    small = (*TINY, "--multiples", "1")
    say("train", "ddpm", "--data", data, "--slices", "axial", *small, "--out", made / "ddpm")
    say("sample", made / "ddpm", "--count", "2", "--steps", "2", "--out", made / "drawn")
    say("export", made / "ddpm", "--out", made / "exported")
    return root, made, say, run


def test_no_output_of_any_command_says_who_the_data_are_of(world):
    _, made, say, _ = world
    assert planted_in(say.said) == []
    assert leaks(made) == {}


def test_no_page_that_is_served_says_who_the_data_are_of(world):
    pytest.importorskip("fastapi", reason="needs fastapi")
    from starlette.testclient import TestClient

    from radiffuse.commands.viewing import COOKIE, application

    _, made, *_ = world
    seen, ahead = {}, ["/"]
    with TestClient(application(made, "token"), base_url="http://127.0.0.1:8000") as client:
        client.cookies.set(COOKIE, "token")
        while ahead:
            path = ahead.pop()
            answer = client.get(path)
            seen[path] = planted_in(answer.text + str(answer.headers))
            found = re.findall(r"""(?:href|src)=["']?(/[^"'\s>]*)""", answer.text)
            ahead += [each for each in map(unescape, found) if each not in seen]
    assert any("found" in path for path in seen) and len(seen) > 5
    assert not any(seen.values()), {path: words for path, words in seen.items() if words}


def test_the_words_are_planted_where_they_are_looked_for(world):
    root, *_ = world
    raw = (
        b"".join(file.read_bytes() for file in (root / "data").iterdir()).decode("latin-1").lower()
    )
    assert [token for token in TOKENS if token not in raw] == []


def test_with_names_plain_they_are_there(world, tmp_path):
    root, _, _, run = world
    say = Terminal()
    words = (
        "--data",
        root / "data",
        "--range",
        "0",
        "1000",
        "--split",
        "train",
        "--names",
        "plain",
    )
    say("predict", run, *words, "--out", tmp_path / "found")
    record = (tmp_path / "found" / "predictions.json").read_text()
    assert '"PL4NTID0"' in record and "PL4NTID0_seriesdescr-Plantina" in record
    assert any("PL4NTID0_seriesdescr" in path.name for path in (tmp_path / "found").iterdir())


def test_in_python_names_are_asked_for_in_the_same_way(world):
    root, _, _, run = world
    settings = {"range": (0, 1000), "split": "train"}
    hidden, plain = (
        load(run).predict(root / "data", **settings, **asked) for asked in ({}, {"names": "plain"})
    )
    assert not planted_in("".join(one.case for one in hidden)) and len(hidden) == len(plain) > 1
    assert all(one.case.startswith("PL4NTID") for one in plain)


def test_lines_that_refuse_name_nobody(tmp_path):
    say = Terminal()
    data = plant(tmp_path / "gap", people=2, slices=4)
    (data / "0001").unlink()
    say(*TRAIN, "--data", data, "--out", tmp_path / "r", code=1)
    mixed = plant(tmp_path / "mixed", people=2)
    for k, file in enumerate(sorted(mixed.iterdir())):
        array = np.random.default_rng(k).integers(0, 1000, (16, 16)).astype(np.uint16)
        tags = {**PLANTED, "PatientID": f"PL4NTID{k % 2}", "RescaleSlope": "1"}
        header = write_slice(file, array, (0, 0, 3.0 * k), series="1.2.826.99.55.7", **tags)
        header.PhotometricInterpretation = "Plantina" if k == 5 else "MONOCHROME2"
        header.save_as(file, enforce_file_format=True)
    said = say(*TRAIN, "--data", mixed, "--out", tmp_path / "r2")
    assert "its PhotometricInterpretation is 'some text'" in said
    echoes = tmp_path / "echoes"
    for k in range(4):
        array = np.random.default_rng(k).integers(0, 1000, (16, 16)).astype(np.uint16)
        tags = {**PLANTED, "AcquisitionTime": "13141500", "ImageType": ["Plantina", str(k % 2)]}
        write_slice(echoes / f"{k}", array, (0, 0, 3.0 * (k // 2)), **tags)
    say(*TRAIN, "--data", echoes, "--out", tmp_path / "r3", "--range", "0", "1000")
    said += say(*TRAIN, "--data", data, "--series", "t9*", "--out", tmp_path / "r4", code=1)
    assert "no series of images has that UID, number, description" in said
    assert planted_in(say.said) == [] and leaks(tmp_path / "r3") == {}


def test_pixels_that_may_show_names_are_said_once(world):
    root, _, say, _ = world
    line = "pixels of 1 of 5 images may show names or dates (BurnedInAnnotation is YES: 1)"
    assert line in say(*TRAIN, "--data", root / "data", "--out", root / "made" / "run", "--resume")


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"Modality": "US"}, "ultrasound without BurnedInAnnotation"),
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation is YES"),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"}, ""),
        ({}, ""),
    ],
)
def test_what_makes_pixels_suspect(tmp_path, tags, why):
    array = np.arange(16, dtype=np.uint16).reshape(4, 4)
    write_slice(tmp_path / "a.dcm", array, None, **tags)
    lines = []
    read_image(tmp_path / "a.dcm", notice=lines.append)
    cases = open_cases(tmp_path, range=(0, 15))
    for told in (lines, cases.lines):
        assert bool(why) == any(f"may show names or dates ({why}" in line for line in told)


# ------------------------------------------------------------------------------------ pseudonyms
def test_a_pseudonym_is_the_same_wherever_the_data_lie_and_short(tmp_path):
    plant(tmp_path / "here")
    plant(tmp_path / "there" / "below")
    (tmp_path / "there" / "below" / "0000").rename(tmp_path / "there" / "renamed")
    here, there = (open_cases(tmp_path / name, range=(0, 1000)) for name in ("here", "there"))
    assert sorted(here.ids) == sorted(there.ids) and len(set(here.ids)) == 5
    assert all(re.fullmatch(r"p[a-z2-7]{8}-s[a-z2-7]{7}", case) for case in here.ids)
    assert pseudonyms.of_person("PL4NTID0") == "pijuwpude"
    assert f"pijuwpude-{pseudonyms.of_series('1.2.826.99.55.0')}" in here.ids


def test_splits_by_person_do_not_depend_on_what_is_shown(tmp_path):
    for person in range(12):
        for k in range(2):
            array = (
                np.random.default_rng(10 * person + k).integers(0, 1000, (8, 8)).astype(np.uint16)
            )
            write_slice(
                tmp_path / f"{person}_{k}", array, None, series=f"1.2.{person}.{k}", PatientID=f"P{person}"
            )  # fmt: skip
    hidden, plain = (open_cases(tmp_path, range=(0, 1000), names=n) for n in ("pseudonym", "plain"))
    assert hidden.split_of == plain.split_of and len(set(hidden.split_of)) > 1
    for cases in (hidden, plain):
        sides = set(zip(cases.patients, cases.split_of, strict=True))
        assert len(sides) == len(set(cases.patients)) == 12


def test_a_key_makes_other_pseudonyms_and_one_that_can_be_guessed_is_refused(tmp_path, monkeypatch):
    without = pseudonyms.of_person("P1"), pseudonyms.of_series("1.2.3")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    monkeypatch.setenv(pseudonyms.KEY, str(tmp_path / "key"))
    with_key = pseudonyms.of_person("P1"), pseudonyms.of_series("1.2.3")
    assert not set(without) & set(with_key)
    assert with_key == (pseudonyms.of_person("P1"), pseudonyms.of_series("1.2.3"))
    (tmp_path / "short").write_bytes(b"1234")
    for name, said in (("short", "shorter than 16 bytes"), ("missing", "cannot be read")):
        monkeypatch.setenv(pseudonyms.KEY, str(tmp_path / name))
        with pytest.raises(UserError, match=said):
            pseudonyms.of_person("P1")


def test_a_person_cannot_be_tried_in_a_moment(monkeypatch):
    """Without a key the hash of a person is slow: it asks for 4 MiB and thousands of rounds."""
    asked = {}
    plain = pseudonyms.hashlib.scrypt
    monkeypatch.setattr(
        pseudonyms.hashlib, "scrypt", lambda *a, **k: asked.update(k) or plain(*a, **k)
    )
    pseudonyms.of_person("nobody else in these tests")
    assert asked["n"] * asked["r"] * 128 >= 1 << 22


# --------------------------------------------------------------------------------- other formats
def test_free_text_of_nifti_and_nrrd_headers_is_not_carried_over(tmp_path):
    data = np.random.default_rng(0).integers(0, 200, (6, 5, 4), dtype=np.uint8)
    file = nibabel.Nifti1Image(data, np.eye(4))
    for field, length in (("descrip", 80), ("db_name", 18), ("aux_file", 24), ("intent_name", 16)):
        file.header[field] = b"Quuxwort Plantina"[:length]
    file.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Quuxwort Plantina"))
    nibabel.save(file, tmp_path / "in.nii")
    image = sitk.GetImageFromArray(data)
    image.SetMetaData("comment", "Quuxwort Plantina")
    sitk.WriteImage(image, tmp_path / "in.nrrd")
    for name in ("in.nii", "in.nrrd"):
        assert planted_in((tmp_path / name).read_bytes().decode("latin-1"))
        template = read_image(tmp_path / name)
        unit = to_unit(template.data, (0, 255))
        made = save_like(replace(template, range=(0.0, 255.0)), unit, tmp_path / "out")
        assert not planted_in(made.read_bytes().decode("latin-1")), name


# --------------------------------------------------------------------------------------- --series
@pytest.mark.parametrize(
    "word", ["1.2.77.2", "2", "T2*", "t2 flair", "mr/t2*", pseudonyms.of_series("1.2.77.2")]
)
def test_a_series_is_chosen_by_uid_number_description_or_pseudonym(tmp_path, word):
    for n, about in enumerate(("t1", "t2 flair", "localizer"), 1):
        array = np.random.default_rng(n).integers(0, 1000, (8, 8)).astype(np.uint16)
        tags = {"SeriesNumber": n, "SeriesDescription": about}
        write_slice(tmp_path / f"{n}.dcm", array, (0, 0, 0), series=f"1.2.77.{n}", **tags)
    cases = open_cases(tmp_path, range=(0, 1000), series=(word,))
    assert len(cases) == 1 and cases.where(0, "image").endswith("2.dcm")
    assert len(open_cases(tmp_path, range=(0, 1000), series=(word, "t1"))) == 2


def test_a_series_that_is_not_chosen_does_not_refuse_the_others(tmp_path):
    data = plant(tmp_path, people=2, slices=4)
    (data / "0001").unlink()
    cases = open_cases(data, range=(0, 1000), series=("1.2.826.99.55.1",))
    assert len(cases) == 1 and cases.image(0, "image").size == (16, 16, 4)


@pytest.mark.parametrize("data", ["brains:count=4,size=16", "pictures.npz"])
def test_where_there_are_no_series_none_is_chosen(tmp_path, data):
    np.savez(tmp_path / "pictures.npz", image=np.random.default_rng(0).random((4, 8, 8)))
    path = data if ":" in data else tmp_path / data
    with pytest.raises(UserError, match="holds no DICOM series for --series 3 to choose"):
        open_cases(path, series=("3",))
