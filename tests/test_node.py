"""Nodes: what an address means, what is fetched and sent, and what is said when it does not work."""

import os
import shutil
import subprocess
import time

import pydicom
import pytest

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client")
pytest.importorskip("pynetdicom", reason="needs pynetdicom")

import scanned
from faulty import Faulty, faulty_dimse, faulty_web
from orthanc import free_port, orthanc
from radiffuse import cli
from radiffuse.clinic import exchange, fetched, nodes
from radiffuse.clinic.nodes import Access, Address, address_of, read_access
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # pynetdicom leaves the socket of a connection that fails to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PLANTED = ("Planted", "planted", "19010203", "20010203")
HASTY = Access(timeout=0.3, attempts=2, wait=0.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Whatever is fetched goes with the test."""
    monkeypatch.setenv("RADIFFUSE_NODES", str(tmp_path / "fetched"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two series of one study, of four and of two objects."""
    folder = tmp_path_factory.mktemp("scanned")
    return [
        *scanned.series(folder, slices=4, size=16),
        *scanned.series(folder, number=2, slices=2, size=16, modality="CT"),
    ]


STUDY, FIRST, SECOND = scanned.uid("a"), scanned.uid("a", 1), scanned.uid("a", 2)


@pytest.fixture
def access_file(tmp_path):
    """Write a file for --node."""

    def write(**values):
        path = tmp_path / "node.toml"
        path.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
        path.chmod(0o600)
        return path

    return write


def uids_in(folder):
    return sorted(pydicom.dcmread(file).SOPInstanceUID for file in folder.rglob("*.dcm"))


def quiet(said):
    """Nothing that names somebody."""
    return not any(word in said for word in PLANTED)


# ---------------------------------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    "text, found",
    [
        ("dicomweb://pacs:8042/dicom-web", Address("dicomweb", "pacs", 8042, "dicom-web")),
        ("dicomweb://pacs/", Address("dicomweb", "pacs", 80)),
        ("dicomwebs://pacs/a/b/studies", Address("dicomwebs", "pacs", 443, "a/b")),
        (
            "dicomweb://pacs:80/studies/1.2/series/1.2.3",
            Address("dicomweb", "pacs", 80, "", "", "1.2", "1.2.3"),
        ),
        ("dimse://MY_PACS@pacs", Address("dimse", "pacs", 104, "", "MY_PACS")),
        (
            "dimses://A@pacs:11112/studies/1.2",
            Address("dimses", "pacs", 11112, "", "A", "1.2"),
        ),
    ],
)
def test_addresses_say_node_study_and_series(text, found):
    assert address_of(text) == found
    assert address_of(str(found)) == found


@pytest.mark.parametrize(
    "text, told",
    [
        ("http://pacs/studies/1.2", "no address of a node"),
        ("dicomweb://", "no address of a node"),
        ("dicomweb://pacs:many", "has no port"),
        ("dicomweb://pacs/studies/1.2/series", "lacks the UID"),
        ("dicomweb://pacs/studies/../../etc", "more than names"),
        ("dicomweb://pacs/../studies/1.2", "more than names"),
        ("dicomweb://pacs/studies/" + "1" * 65, "holds no UID"),
        ("dicomweb://pacs/studies/1.2/instances/1.3", "ends in none of"),
        ("dicomweb://pacs/studies/1.2?x=1", "no address of a node"),
        ("dimse://pacs/studies/1.2", "no title"),
        ("dimse://A_TITLE_THAT_IS_TOO_LONG@pacs", "no title"),
    ],
)
def test_what_is_no_address_is_refused(text, told):
    with pytest.raises(UserError, match=told):
        address_of(text)


@pytest.mark.parametrize(
    "text",
    ["dicomweb://me:hidden@pacs/x", "dicomweb://me@pacs/x", "dimse://A:hidden@pacs/studies/1.2"],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(text, refused):
    line = refused("node", text)
    assert "--node FILE" in line and "hidden" not in line and "me" not in line.split(": ")[2]


# ------------------------------------------------------------------------------------------- access
def test_the_file_of_a_node_says_who_asks(access_file):
    found = read_access(access_file(user="me", password="hidden", timeout=5.0))
    assert (found.user, found.password, found.timeout) == ("me", "hidden", 5.0)


@pytest.mark.parametrize(
    "values, told",
    [
        ({"pasword": "hidden"}, "did you mean password"),
        ({"user": "me"}, "user and password"),
        ({"token": "hidden", "user": "me", "password": "hidden"}, "or token"),
        ({"timeout": "hidden"}, "timeout: expected"),
        ({"ca": "nowhere.pem"}, "ca: .*no such file"),
        ({"retrieve": "steal"}, "retrieve: "),
    ],
)
def test_mistakes_in_it_are_named_and_its_secrets_are_not(access_file, values, told):
    with pytest.raises(UserError, match=told) as error:
        read_access(access_file(**values))
    assert "hidden" not in str(error.value)


def test_a_secret_that_others_can_read_is_refused(access_file):
    path = access_file(token="hidden")
    path.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        read_access(path)
    path.write_text("token = hidden")
    with pytest.raises(UserError, match="no TOML") as error:
        read_access(path)
    assert "hidden" not in str(error.value)


def test_without_the_library_its_name_is_told(monkeypatch, refused):
    monkeypatch.setattr(exchange.importlib.util, "find_spec", lambda name: None)
    line = refused("node", "dicomweb://127.0.0.1:1")
    assert "radiffuse[node]" in line and "dicomweb-client" in line


# ------------------------------------------------------------------------------------ a real archive
@pytest.fixture(params=["web", "dimse", "move"])
def way(request, archive, access_file):
    """How the archive is asked: its address, and words for the command."""
    if request.param == "move":
        return archive.dimse, ["--node", access_file(retrieve="move", listen=archive.mover)]
    return getattr(archive, request.param), []


def test_a_listing_names_nobody(archive, files, way, capsys):
    archive.store(*files)
    address, more = way
    assert cli.main(["node", address, *map(str, more)]) == 0
    said = capsys.readouterr().out
    assert quiet(said) and STUDY in said and FIRST in said and SECOND in said
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines()[1:]}
    assert lines[FIRST] == ["MR", "4"] and lines[SECOND] == ["CT", "2"]
    assert sorted(lines[STUDY][0].split("/")) == ["CT", "MR"] and lines[STUDY][1:] == ["2", "6"]


def test_names_are_listed_where_that_is_asked_for(archive, files, capsys):
    archive.store(*files)
    assert cli.main(["node", f"{archive.web}/studies/{STUDY}", "--names", "plain"]) == 0
    said = capsys.readouterr().out
    assert "Planted^Name" in said and "planted-id-a" in said and "20010203" in said


def test_a_study_that_is_not_there_is_told(archive, refused):
    assert "there is no such study" in refused("node", f"{archive.web}/studies/1.2.3")


def test_predictions_of_a_fetched_series_go_back(
    archive, files, way, run_of_slices, tmp_path, capsys
):
    archive.store(*files)
    address, more = way
    out = tmp_path / "out"
    words = ["predict", run_of_slices, "--data", f"{address}/studies/{STUDY}/series/{FIRST}"]
    words += ["--steps", "1", "--out", out, "--push", address, *more]
    words = [str(word) for word in words]
    assert cli.main(words) == 0
    made = uids_in(out)
    there = archive.uids()
    # four slices of the counterpart, the map, its mask as a segmentation, the score as a report
    assert len(made) == 7 and set(made) < set(there) and len(there) == 6 + len(set(made))
    said = capsys.readouterr().out
    assert f"{len(set(made))} objects sent to {address}" in said
    # read back: the object of the archive is the one that was written
    one = sorted(out.rglob("*-healthy/0001.dcm"))[0]
    found = archive.asked(
        "/tools/find",
        "post",
        json={
            "Level": "Instance",
            "Query": {"SOPInstanceUID": pydicom.dcmread(one).SOPInstanceUID},
        },
    ).json()
    (tmp_path / "back.dcm").write_bytes(archive.asked(f"/instances/{found[0]}/file").content)
    back, written = pydicom.dcmread(tmp_path / "back.dcm"), pydicom.dcmread(one)
    assert (back.pixel_array == written.pixel_array).all()
    # again: nothing is fetched, predicted or sent anew
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.dcm")}
    assert cli.main(words) == 0
    assert f"{len(set(made))} were there" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.dcm")} == before
    assert archive.uids() == there


def test_a_training_fetches_its_data(archive, files, tmp_path, capsys):
    archive.store(*files[:4])
    words = ["train", "anoddpm", "--data", f"{archive.web}/studies/{STUDY}", "--slices", "axial"]
    words += ["--preset", "tiny", "--train.steps", "1", "--out", str(tmp_path / "run")]
    assert cli.main(words) == 0
    config = (tmp_path / "run" / "config.toml").read_text()
    assert str(tmp_path / "fetched") in config and quiet(
        capsys.readouterr().err.split("lies in")[0]
    )


def test_a_study_is_fetched_as_it_is_now(archive, files):
    archive.store(*files[:3])
    address = address_of(f"{archive.web}/studies/{STUDY}")
    home = exchange.fetch(address, Access())
    assert uids_in(home) == archive.uids() and len(list(home.rglob("*.dcm"))) == 3
    assert home.parent.stat().st_mode & 0o077 == 0, "others can read what was fetched"
    archive.store(*files)
    assert exchange.fetch(address, Access()) == home
    assert uids_in(home) == archive.uids() and len(uids_in(home)) == 6
    archive.empty()
    archive.store(*files[4:])
    exchange.fetch(address, Access())
    assert uids_in(home) == archive.uids() and len(uids_in(home)) == 2


def test_compressed_objects_come_as_they_are_stored(archive, way):
    from pydicom.data import get_testdata_file

    stored = get_testdata_file("JPEG2000.dcm")
    archive.store(stored)
    study = pydicom.dcmread(stored).StudyInstanceUID
    address, more = way
    access = read_access(more[1]) if more else Access()
    (file,) = exchange.fetch(address_of(f"{address}/studies/{study}"), access).rglob("*.dcm")
    header = pydicom.dcmread(file)
    assert header.file_meta.TransferSyntaxUID == pydicom.uid.JPEG2000
    assert header.PixelData == pydicom.dcmread(stored).PixelData


def test_an_archive_that_tells_no_classes_is_asked_for_the_usual_ones(tmp_path, files):
    """DCMTK's archive, which knows no SOPClassUID in a search."""
    program = shutil.which("dcmqrscp", path="/usr/bin")
    if program is None:
        pytest.skip("needs dcmqrscp (Debian: dcmtk)")
    port, folder = free_port(), tmp_path / "archive"
    folder.mkdir()
    (tmp_path / "config").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {folder} RW (200, 1024mb) ANY\nAETable END\n"
    )
    process = subprocess.Popen(
        [program, "-c", tmp_path / "config"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address, patient = address_of(f"dimse://QR@127.0.0.1:{port}"), Access(attempts=20, wait=0.0)
        assert exchange.push(address, patient, files) == exchange.Sent(6, 0)
        assert exchange.push(address, patient, files) == exchange.Sent(0, 6)
        home = exchange.fetch(address.of(STUDY), Access(attempts=1))
        assert uids_in(home) == sorted(pydicom.dcmread(file).SOPInstanceUID for file in files)
    finally:
        process.terminate()
        process.wait(10)


def test_who_asks_is_told_from_a_file(tmp_path, files, access_file, refused, capsys):
    (tmp_path / "orthanc").mkdir()
    with orthanc(tmp_path / "orthanc", ("me", "hidden")) as closed:
        closed.store(*files)
        line = refused("node", closed.web)
        assert "HTTP 401" in line and "--node FILE" in line
        words = ["node", closed.web, "--node", str(access_file(user="me", password="hidden"))]
        assert cli.main(words) == 0
        assert STUDY in capsys.readouterr().out
        line = refused("node", closed.web, "--node", access_file(user="me", password="wrong"))
        assert "HTTP 401" in line and "wrong" not in line


# ---------------------------------------------------------------------------- nodes that misbehave
@pytest.fixture(params=["dicomweb", "dimse"])
def faulty(request, files):
    """A node that does what its faults say, and its address."""
    node = Faulty(files)
    serve = faulty_web if request.param == "dicomweb" else faulty_dimse
    with serve(node) as port:
        called = "NODE@" if request.param == "dimse" else ""
        yield node, address_of(f"{request.param}://{called}127.0.0.1:{port}")


def nothing_fetched(tmp_path):
    return not [
        p for p in (tmp_path / "fetched").rglob("*") if p.suffix == ".dcm" or "part" in p.name
    ]


@pytest.mark.parametrize("address", ["dicomweb://127.0.0.1:{}", "dimse://NODE@127.0.0.1:{}"])
def test_a_node_that_is_down_is_told(address, tmp_path, refused, access_file):
    hasty = access_file(attempts=2, wait=0.0, timeout=0.5)
    line = refused("node", address.format(free_port()), "--node", hasty)
    assert "cannot be reached" in line and "2 attempts" in line


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "inspect"])
def test_every_command_that_takes_data_takes_addresses(
    command, run_of_slices, tmp_path, refused, access_file
):
    hasty = access_file(attempts=1, timeout=0.5)
    address = f"dicomweb://127.0.0.1:{free_port()}/studies/1.2"
    words = {
        "train": ["train", "ddpm", "--preset", "tiny", "--data", address],
        "inspect": ["inspect", address],
    }.get(command, [command, run_of_slices, "--data", address])
    out = ["--out", tmp_path / "out" / "it"]
    assert "cannot be reached" in refused(*words, "--node", hasty, *out)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="is a node"):
        open_cases(address)


def test_what_was_fetched_before_is_used_while_the_node_is_down(files, capsys):
    node = Faulty(files)
    with faulty_web(node) as port:
        address = address_of(f"dicomweb://127.0.0.1:{port}/studies/{STUDY}")
        home = exchange.fetch(address, HASTY)
    assert exchange.fetch(address, HASTY) == home and len(uids_in(home)) == 6
    assert "what was fetched before is used" in capsys.readouterr().err
    assert exchange.fetch(address.of(STUDY, FIRST), HASTY) == home / FIRST
    shutil.rmtree(home)
    with pytest.raises(UserError, match="cannot be reached"):
        exchange.fetch(address, HASTY)


def test_a_study_of_a_node_is_looked_at(files, capsys):
    with faulty_web(Faulty(files)) as port:
        address = f"dicomweb://127.0.0.1:{port}/studies/{STUDY}"
        assert cli.main(["inspect", address, "--series"]) == 0
    said = capsys.readouterr()
    assert "lies in" in said.err and "MR" in said.out and "CT" in said.out and quiet(said.out)


def test_what_was_fetched_is_removed_when_asked_or_when_nobody_asks_for_it(
    files, tmp_path, capsys, monkeypatch, refused
):
    node, other = Faulty(files), Faulty(scanned.series(tmp_path / "b", study="b", size=16))
    with faulty_web(node) as port, faulty_web(other) as second:
        old = address_of(f"dicomweb://127.0.0.1:{port}/studies/{STUDY}")
        new = address_of(f"dicomweb://127.0.0.1:{second}/studies/{scanned.uid('b')}")
        home = exchange.fetch(old, HASTY)
        month = time.time() - 31 * 86400
        os.utime(home / fetched.USED, (month, month))
        assert exchange.fetch(old, HASTY) == home, "what is asked for now is not old"
        os.utime(home / fetched.USED, (month, month))
        kept = fetched.cache() / "mine"
        kept.mkdir()
        monkeypatch.setenv("RADIFFUSE_NODES_DAYS", "0")
        exchange.fetch(new, HASTY)
        assert home.is_dir()
        monkeypatch.setenv("RADIFFUSE_NODES_DAYS", "")
        there = exchange.fetch(new, HASTY)
        assert not home.exists() and there.is_dir() and kept.is_dir()
        assert "removed: 1" in capsys.readouterr().err
        monkeypatch.setenv("RADIFFUSE_NODES_DAYS", "soon")
        with pytest.raises(UserError, match="number of days"):
            exchange.fetch(new, HASTY)
    assert cli.main(["node", new.node, "--forget"]) == 0
    assert "1 fetched study removed" in capsys.readouterr().out and not there.exists()
    assert cli.main(["node", str(old), "--forget"]) == 0
    assert "0 fetched studies" in capsys.readouterr().out


def test_pauses_double(monkeypatch):
    slept = []
    monkeypatch.setattr(nodes.time, "sleep", slept.append)

    def lost():
        raise nodes.Lost("is away")

    with pytest.raises(UserError, match="is away"):
        nodes.retried(lost, Address("dimse", "a", 1), Access(attempts=4, wait=1.0))
    assert slept == [1.0, 2.0, 4.0]


def test_a_slow_node_is_told_and_asked_again(files):
    node = Faulty(files)
    with faulty_web(node) as port:
        address = address_of(f"dicomweb://127.0.0.1:{port}/studies/{STUDY}")
        node.faults["find"] = ["slow", "slow"]
        with pytest.raises(UserError, match=r"did not answer within 0.3 s \(2 attempts\)"):
            exchange.fetch(address, HASTY)
        node.faults["find"] = ["slow"]
        assert len(uids_in(exchange.fetch(address, HASTY))) == 6


@pytest.mark.parametrize(
    "fault, told",
    [
        ("503", "cannot just now .HTTP 503"),
        ("404", "does not know it"),
        ("403", "does not let you"),
        ("400", "refuses .HTTP 400"),
        ("elsewhere", "lies elsewhere"),
        ("page", "DICOM JSON"),
    ],
)
def test_what_a_server_answers_is_told_without_its_words(files, fault, told):
    node = Faulty(files)
    with faulty_web(node) as port:
        node.faults["find"] = [fault] * 2
        with pytest.raises(UserError, match=told) as error:
            exchange.fetch(address_of(f"dicomweb://127.0.0.1:{port}/studies/{STUDY}"), HASTY)
        assert quiet(str(error.value))
        assert node.number("find") == (2 if fault == "503" else 1), "only what may pass is repeated"


@pytest.mark.parametrize("fault", ["broken", "unsaid", "half", "500"])
def test_half_a_series_by_dicomweb_stays_nowhere_and_is_mended(files, fault, tmp_path):
    node = Faulty(files)
    with faulty_web(node) as port:
        address = address_of(f"dicomweb://127.0.0.1:{port}/studies/{STUDY}/series/{FIRST}")
        node.faults = {"get": [fault] * 9, "one": [fault if fault != "half" else "404"] * 9}
        with pytest.raises(UserError, match=r"broke off|sent|no whole|HTTP 500|does not know"):
            exchange.fetch(address, HASTY)
        assert nothing_fetched(tmp_path)
        node.faults = {}
        home = exchange.fetch(address, HASTY)
        assert [h.read_bytes() for h in sorted(home.glob("*.dcm"))] and len(uids_in(home)) == 4
        shutil.rmtree(home)
        node.faults = {"get": [fault]}
        assert len(uids_in(exchange.fetch(address, HASTY))) == 4


def test_a_node_that_cannot_send_objects_as_they_are_is_asked_for_its_usual_way(files):
    node = Faulty(files)
    with faulty_web(node) as port:
        node.faults["get"] = ["406"]
        address = address_of(f"dicomweb://127.0.0.1:{port}/studies/{STUDY}/series/{FIRST}")
        assert len(uids_in(exchange.fetch(address, Access(attempts=1)))) == 4


@pytest.mark.parametrize("fault", ["abort", "half"])
def test_half_a_series_by_dimse_stays_nowhere_and_is_mended(files, fault, tmp_path):
    node = Faulty(files)
    with faulty_dimse(node) as port:
        address = address_of(f"dimse://NODE@127.0.0.1:{port}/studies/{STUDY}/series/{FIRST}")
        node.faults = {"get": [fault] * 1}
        with pytest.raises(UserError, match=r"broke off|sent"):
            exchange.fetch(address, Access(attempts=1))
        assert nothing_fetched(tmp_path)
        node.faults = {"get": [fault]}
        home = exchange.fetch(address, HASTY)
        assert len(uids_in(home)) == 4 and node.number("get") == 3


def test_a_series_that_names_no_object_is_not_taken_for_an_empty_one(files, monkeypatch):
    node = Faulty(files)
    with faulty_web(node) as port:
        from radiffuse.clinic.dicomweb import Web

        monkeypatch.setattr(Web, "instances", lambda *_: {})
        with pytest.raises(UserError, match="names no object"):
            exchange.fetch(address_of(f"dicomweb://127.0.0.1:{port}/studies/{STUDY}"), HASTY)


def test_an_association_that_is_rejected_is_told(files):
    with faulty_dimse(Faulty(files)) as port:
        address = address_of(f"dimse://OTHER@127.0.0.1:{port}")
        with pytest.raises(UserError, match=r"rejects the association .*title"):
            exchange.listing(address, HASTY, 10)


@pytest.mark.parametrize(
    "fault, told",
    [("C001", "failed"), ("A700", "just now"), ("A900", "refuses"), ("abort", "broke")],
)
def test_a_search_that_fails_is_told(files, fault, told):
    node = Faulty(files)
    with faulty_dimse(node) as port:
        node.faults["find"] = [fault] * 2
        with pytest.raises(UserError, match=told):
            exchange.listing(address_of(f"dimse://NODE@127.0.0.1:{port}"), HASTY, 10)


def test_only_what_a_node_lacks_is_sent(files, faulty):
    node, address = faulty
    kept = dict(node.objects)
    node.objects = dict(list(kept.items())[:2])
    sent = exchange.push(address, HASTY, [*files, files[0].parent / "none.txt"][:6])
    assert (sent.sent, sent.there) == (4, 2)
    assert node.objects.keys() == kept.keys()


def test_a_node_that_breaks_off_is_sent_the_rest(files):
    node = Faulty()
    with faulty_web(node) as port:
        address = address_of(f"dicomweb://127.0.0.1:{port}")
        node.faults["store"] = ["half", "half"]
        with pytest.raises(UserError, match="broke off"):
            exchange.push(address, HASTY, files)
        there = len(node.objects)
        assert 0 < there < 6
        sent = exchange.push(address, HASTY, files)
        assert (sent.sent, sent.there) == (6 - there, there) and len(node.objects) == 6


def test_what_a_node_refuses_is_told_with_its_reason(files):
    node = Faulty()
    with faulty_web(node) as port:
        address = address_of(f"dicomweb://127.0.0.1:{port}")
        node.faults["store"] = ["refuses half"]
        with pytest.raises(UserError, match=r"refused 3 of 6 objects: .*reason 0110") as error:
            exchange.push(address, HASTY, files)
        assert quiet(str(error.value))
        assert exchange.push(address, HASTY, files) == exchange.Sent(3, 3)


def test_a_store_that_fails_by_dimse_is_told_or_tried_again(files):
    node = Faulty()
    with faulty_dimse(node) as port:
        address = address_of(f"dimse://NODE@127.0.0.1:{port}")
        node.faults["store"] = ["", "A700"]
        assert exchange.push(address, HASTY, files).sent == 6 and len(node.objects) == 6
        node.objects.clear()
        node.faults["store"] = ["", "C000"]
        with pytest.raises(UserError, match=r"refused 1 of 6 objects: .*status C000"):
            exchange.push(address, HASTY, files)


def test_a_token_goes_along_and_is_said_to_be_readable(files, capsys):
    node = Faulty(files, secret="Bearer hidden")
    with faulty_web(node) as port:
        address = address_of(f"dicomweb://127.0.0.1:{port}")
        with pytest.raises(UserError, match="HTTP 401"):
            exchange.push(address, HASTY, files)
        assert node.number("store") == 0, "nothing is sent to who does not know us"
        token = Access(token="hidden", attempts=1)
        assert len(exchange.listing(address, token, 10)) == 1
        assert capsys.readouterr().err == ""
    with pytest.raises(UserError):
        exchange.listing(Address("dicomweb", "host.invalid", 1), token, 10)
    assert "unencrypted" in capsys.readouterr().err


def test_who_asks_is_told_by_dimse_too(files):
    node = Faulty(files, secret="me")
    with faulty_dimse(node) as port:
        address = address_of(f"dimse://NODE@127.0.0.1:{port}")
        known = Access(user="me", password="hidden")
        assert len(exchange.listing(address, known, 10)) == 1
        with pytest.raises(UserError, match="reject"):
            exchange.listing(address, Access(user="you", password="hidden", attempts=1), 10)


# ---------------------------------------------------------------------------------------------- TLS
@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of this machine that nobody signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@pytest.mark.parametrize("scheme", ["dicomwebs", "dimses"])
def test_only_a_certificate_that_is_trusted_is(scheme, files, certificate):
    serve = faulty_web if scheme == "dicomwebs" else faulty_dimse
    with serve(Faulty(files), certificate) as port:
        called = "NODE@" if scheme == "dimses" else ""
        address = address_of(f"{scheme}://{called}127.0.0.1:{port}")
        with pytest.raises(UserError, match=r"certificate|cannot be reached"):
            exchange.listing(address, HASTY, 10)
        trusting = Access(ca=str(certificate[0]), timeout=5.0, attempts=1)
        assert len(exchange.listing(address, trusting, 10)) == 1


def test_what_is_sent_here_may_have_to_be_encrypted(files, certificate, tmp_path):
    from radiffuse.clinic.listener import listening

    made, key = map(str, certificate)
    port = free_port()
    asked = Access(encrypted=True, certificate=made, key=key, ca=made)
    with listening("MINE", port, tmp_path, asked):
        address = address_of(f"dimses://MINE@127.0.0.1:{port}")
        with pytest.raises(UserError):
            exchange.push(address_of(f"dimse://MINE@127.0.0.1:{port}"), HASTY, files)
        with pytest.raises(UserError):  # it wants to see a certificate
            exchange.push(address, Access(ca=made, attempts=1, timeout=1.0), files)
        known = Access(ca=made, certificate=made, key=key, timeout=5.0, attempts=1)
        assert exchange.push(address, known, files).sent == 6
    assert len(uids_in(tmp_path)) == 6
