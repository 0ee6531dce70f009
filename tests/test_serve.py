"""`radiffuse serve`: what arrives is predicted once and sent once, whatever happens in between."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pydicom
import pytest

import scanned
from radiffuse import cli
from radiffuse.clinic import arrivals
from radiffuse.clinic.arrivals import Arrivals
from radiffuse.clinic.ledger import STATES, Ledger
from radiffuse.commands import predict, ready, serve, serving
from radiffuse.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SETTLE = 0.05


@pytest.fixture
def place(tmp_path):
    """A folder to watch."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def words(run, folder, *more):
    out = ["--watch", folder / "in", "--out", folder / "out", "--settle", SETTLE, "--steps", "1"]
    return [str(word) for word in ("serve", run, *out, *more)]


def ledger_of(folder):
    return Ledger(folder / "out", reading=True)


def states(folder):
    ledger = ledger_of(folder)
    found = [(job.name, job.version, job.state) for job in ledger.jobs()]
    ledger.close()
    return found


def made(folder):
    """SOP instance UIDs of the results."""
    files = (folder / "out").glob("0*/**/*.dcm")
    return Counter(pydicom.dcmread(file).SOPInstanceUID for file in files)


# ----------------------------------------------------------------------------------------- arriving
@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when it is told to."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(arrivals.time, "monotonic", clock)
    return clock


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "out").mkdir()
    made = Ledger(tmp_path / "out")
    yield made
    made.close()


def test_a_study_is_whole_when_none_of_its_files_changed_for_a_while(place, ledger, clock):
    watch = Arrivals(place, ledger, settle=10)
    first, second, third = scanned.series(place)
    content = third.read_bytes()
    third.write_bytes(content[:-400])
    assert watch.look() == [] and [job.state for job in ledger.jobs()] == ["arriving"]
    clock.now += 9
    third.write_bytes(content)
    assert watch.look() == []
    clock.now += 9
    assert watch.look() == [], "its last file changed nine seconds ago"
    clock.now += 1
    (job,) = watch.look()
    assert job.state == "queued" and job.study == scanned.uid("a")
    assert ledger.study(job) == sorted(path.name for path in (first, second, third))
    clock.now += 100
    assert watch.look() == [] and not watch.waiting


def test_a_file_without_a_readable_header_waits_and_is_refused(place, ledger, clock):
    watch = Arrivals(place, ledger, settle=10)
    (path,) = scanned.series(place, slices=1)
    content = path.read_bytes()
    path.write_bytes(content[:100])
    assert watch.look() == [] and watch.waiting
    clock.now += 9
    path.write_bytes(content)
    watch.look()
    clock.now += 10
    assert [job.state for job in watch.look()] == ["queued"]
    (place / "broken.dcm").write_bytes(content[:100])
    watch.look()
    clock.now += 10
    (job,) = watch.look()
    assert job.state == "refused" and "damaged" in job.reason and ledger.own(job) == ["broken.dcm"]


def test_what_is_no_arrival_is_left_alone(place, ledger, clock, tmp_path):
    (path,) = scanned.series(tmp_path / "elsewhere", slices=1)
    (place / "link.dcm").symlink_to(path)
    (place / ".hidden.dcm").write_bytes(path.read_bytes())
    (place / ".folder").mkdir()
    (place / ".folder" / "a.dcm").write_bytes(path.read_bytes())
    (place / "DICOMDIR").write_bytes(b"contents")
    watch = Arrivals(place, ledger, settle=1)
    watch.look()
    assert not watch.waiting


def settled(watch, clock):
    watch.look()
    clock.now += watch.settle
    return watch.look()


def test_the_same_objects_again_are_no_work_and_new_ones_are_a_version(place, ledger, clock):
    watch = Arrivals(place, ledger, settle=10)
    scanned.series(place / "once")
    (first,) = settled(watch, clock)
    ledger.move(first, "done")
    scanned.series(place / "twice")
    assert settled(watch, clock) == [] and [job.state for job in ledger.jobs()] == ["done"]
    scanned.series(place / "more", number=2, slices=1)
    (second,) = settled(watch, clock)
    assert (second.study, second.version) == (first.study, 2)
    assert [path.split("/")[0] for path in ledger.study(second)] == ["more", "once", "once", "once"]
    assert ledger.own(second) == ["more/a-2-0.dcm"]


def test_what_comes_while_a_study_is_queued_joins_it(place, ledger, clock):
    watch = Arrivals(place, ledger, settle=10)
    scanned.series(place, slices=2)
    (first,) = settled(watch, clock)
    scanned.series(place, number=2, slices=2)
    watch.look()
    assert ledger.job(first.id).state == "arriving" and ledger.next("queued") is None
    clock.now += 10
    (again,) = watch.look()
    assert again.id == first.id and len(ledger.study(again)) == 4


def test_nothing_is_removed_that_changed_or_that_something_waits_for(place, ledger, clock):
    def done(study):
        found = scanned.series(place / study, study=study, slices=2, size=16)
        arriving.look()
        clock.now += 31
        (job,) = arriving.look()
        return found, job

    arriving = Arrivals(place, ledger, 30)
    (changed, left), job = done("a")
    (queued, _), _ = done("b")
    assert arriving.remove(time.time() + 1) == 0
    ledger.move(job, "done")
    assert arriving.remove(time.time() - 60) == 0
    changed.write_bytes(changed.read_bytes() + b"x")
    assert arriving.remove(time.time() + 1) == 1
    assert changed.is_file() and queued.is_file() and not left.exists()


def test_a_restart_forgets_what_was_arriving_and_nothing_else(place, ledger, clock):
    watch = Arrivals(place, ledger, settle=10)
    scanned.series(place / "a")
    (queued,) = settled(watch, clock)
    scanned.series(place / "b", study="b")
    watch.look()
    scanned.series(place / "more", number=2)
    watch.look()
    assert [job.state for job in ledger.jobs()] == ["arriving", "arriving"]
    for folder in ("b", "more"):
        shutil.rmtree(place / folder)
    watch = Arrivals(place, ledger, settle=10)
    (left,) = ledger.jobs()
    assert (left.id, left.state) == (queued.id, "queued")


def test_a_change_is_whole_or_not_there(ledger):
    with pytest.raises(ZeroDivisionError), ledger._changing():
        ledger._new("1.2")
        _ = 1 / 0
    assert ledger.jobs() == []


def test_a_ledger_of_something_else_is_refused(tmp_path, ledger):
    ledger.bind({"model": "a"})
    with pytest.raises(UserError, match="another model"):
        ledger.bind({"model": "b"})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "ledger.sqlite").write_bytes(b"no ledger " * 100)
    with pytest.raises(UserError, match="no ledger"):
        Ledger(tmp_path / "other")


# ---------------------------------------------------------------------------------------- the command
def test_its_own_flags_are_not_told_to_predict():
    given = ["run", "--watch", "in", "--out=out", "--size", "8", "8", "--once", "--push", "x"]
    words = [
        word for word in serve.words_of([*given, "--settle=3", "--seed", "1"]) if word != "--data=."
    ]
    assert words == ["run", "--size", "8", "8", "--seed", "1"]


def test_mistakes_are_told_before_anything_is_done(run_of_slices, tmp_path, refused):
    base = ["serve", run_of_slices, "--watch", tmp_path / "in"]
    assert "one lies in the other" in refused(*base, "--out", tmp_path / "in" / "out", code=2)
    out = ["--out", tmp_path / "out"]
    assert "what arrives" in refused(*base, *out, "--data", "brains", code=2)
    assert "--settle" in refused(*base, *out, "--settle", "0", code=2)
    assert "--remove-after" in refused(*base, *out, "--remove-after", "0", code=2)
    assert "AET:PORT" in refused(*base, *out, "--listen", "11112")
    assert "no address" in refused(*base, *out, "--push", "http://pacs")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("0*"))


def named(text):
    """Whether what a header says of a person stands in a text."""
    return any(word in text for word in ("Planted", "planted-id", "19010203", "20010203"))


def test_the_run_is_opened_once_and_notes_are_kept(
    run_of_slices, tmp_path, place, monkeypatch, capsys
):
    opened = []
    plain = ready.open_run
    monkeypatch.setattr(ready, "open_run", lambda path: opened.append(path) or plain(path))
    for study in "abc":
        scanned.series(place / study, study=study, size=16)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert len(opened) == 1
    assert states(tmp_path) == [(f"{n:06d}", 1, "done") for n in (1, 2, 3)]
    for number in (1, 2, 3):
        assert (tmp_path / "out" / f"{number:06d}" / "predictions.json").is_file()
        assert "cut into 3 slices" in (tmp_path / "out" / "notes" / f"{number:06d}.txt").read_text()
    said = capsys.readouterr()
    assert "3 done" in said.out and not named(said.out + said.err)
    for file in (one for one in (tmp_path / "out").rglob("*") if one.is_file()):
        assert not named(file.name)
        if file.suffix != ".dcm":
            assert not named(file.read_bytes().decode("latin-1")), file
    # the same command again has nothing to do
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.dcm")}
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.dcm")} == before


def test_a_study_that_cannot_be_predicted_is_set_aside_until_it_is_whole(
    run_of_slices, tmp_path, place, capsys
):
    files = scanned.series(place, slices=5, size=16)
    gap = files[2].read_bytes()
    files[2].write_bytes(gap[: len(gap) // 2])
    (place / "letter.txt").write_text("no image")
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert not [path for path in place.rglob("*") if path.is_file()]
    assert Counter(state for *_, state in states(tmp_path)) == {"refused": 2}
    reasons = sorted((tmp_path / "out" / "refused").glob("*/reason.txt"))
    assert len(reasons) == 2 and all(path.read_text().strip() for path in reasons)
    assert len(list((tmp_path / "out" / "refused").glob("*/*.dcm"))) == 5
    assert capsys.readouterr().err.count("refused: ") == 2
    scanned.series(place, slices=5, size=16)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert states(tmp_path)[-1][1:] == (2, "done")


def test_a_version_needs_all_its_objects(run_of_slices, tmp_path, place):
    files = scanned.series(place, size=16)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    files[0].unlink()
    scanned.series(place, number=2, size=16)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    ledger = ledger_of(tmp_path)
    assert "1 of the 6 objects" in ledger.jobs("refused")[0].reason
    ledger.close()


def test_what_is_done_is_removed_after_a_while_where_that_is_asked_for(
    run_of_slices, tmp_path, place, capsys
):
    files = scanned.series(place / "a", size=16)
    shutil.copyfile(files[0], place / "again.dcm")
    (place / "b").mkdir()
    (place / "b" / "broken.dcm").write_text("no image")
    soon = ["--once", "--remove-after", "0.000001"]  # a tenth of a second
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert all(file.is_file() for file in files)
    time.sleep(0.1)
    assert cli.main(words(run_of_slices, tmp_path, *soon)) == 0
    assert not list(place.rglob("*.dcm")) and not (place / "a").exists()
    assert f"days ago: {len(files) + 1} files" in capsys.readouterr().out
    assert made(tmp_path)
    # more of the study, with what came before, under whatever names
    scanned.series(place / "d", size=16)
    scanned.series(place / "d", number=2, size=16)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert states(tmp_path)[-1][2] == "done"


def test_what_was_made_and_not_noted_is_not_made_again(run_of_slices, tmp_path, place, monkeypatch):
    scanned.series(place, size=16)
    plain = Ledger.move

    def killed(self, job, state, reason=""):
        if state == "done":
            raise SystemExit(9)
        return plain(self, job, state, reason)

    monkeypatch.setattr(Ledger, "move", killed)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 9
    assert states(tmp_path) == [("000001", 1, "predicting")]
    monkeypatch.setattr(Ledger, "move", plain)
    monkeypatch.setattr(predict, "run", lambda *_, **__: pytest.fail("predicted twice"))
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert states(tmp_path) == [("000001", 1, "done")]


def test_a_study_that_ends_the_process_again_and_again_is_set_aside(
    run_of_slices, tmp_path, place, monkeypatch
):
    scanned.series(place, size=16)

    def fatal(*_, **__):
        raise SystemExit(9)

    monkeypatch.setattr(predict, "run", fatal)
    for _ in range(serving.ATTEMPTS):
        assert cli.main(words(run_of_slices, tmp_path, "--once")) == 9
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert states(tmp_path) == [("000001", 1, "refused")]
    assert "ended 3 times" in (tmp_path / "out/refused/000001/reason.txt").read_text()


def test_a_full_disk_is_no_fault_of_the_study(run_of_slices, tmp_path, place, monkeypatch):
    scanned.series(place, size=16)
    plain, failures = predict.run, iter([True])

    def full(*words, **more):
        if next(failures, False):
            raise UserError("the disk is full") from OSError(28, "no space")
        plain(*words, **more)

    monkeypatch.setattr(predict, "run", full)
    monkeypatch.setattr(serving, "LONGEST", 0.05)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert states(tmp_path) == [("000001", 1, "done")]


def test_a_signal_lets_the_study_in_hand_be_finished(run_of_slices, tmp_path, place, monkeypatch):
    for study in "ab":
        scanned.series(place / study, study=study, size=16)
    plain = predict.run

    def interrupted(*words, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        plain(*words, **more)

    monkeypatch.setattr(predict, "run", interrupted)
    assert cli.main(words(run_of_slices, tmp_path)) == 0
    assert [state for *_, state in states(tmp_path)] == ["done", "queued"]
    monkeypatch.setattr(predict, "run", plain)
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    assert [state for *_, state in states(tmp_path)] == ["done", "done"]


def test_only_one_serves_a_folder(run_of_slices, tmp_path, place, refused):
    from radiffuse.commands.lock import writing

    with writing(tmp_path / "out", "radiffuse serve"):
        assert "is writing there" in refused(*words(run_of_slices, tmp_path, "--once"))


# ------------------------------------------------------------------------------------------ sending
def test_results_wait_for_a_node_that_is_away(run_of_slices, tmp_path, place, monkeypatch, capsys):
    pytest.importorskip("dicomweb_client", reason="needs dicomweb-client")
    from faulty import Faulty, faulty_web

    for study in "ab":
        scanned.series(place / study, study=study, size=16)
    node = Faulty()
    with faulty_web(node) as port:
        push = ["--push", f"dicomweb://127.0.0.1:{port}"]
        monkeypatch.setattr(serving, "LONGEST", 0.1)
        node.faults["find"] = ["503"] * 50
        assert cli.main(words(run_of_slices, tmp_path, "--once", *push)) == 1
        assert [state for *_, state in states(tmp_path)] == ["sending", "sending"]
        said = capsys.readouterr().err
        assert "2 results could not be sent" in said and said.count("HTTP 503") == 1
        assert node.number("find") < 10, "asked again and again without a pause"
        node.faults.clear()
        time.sleep(0.2)
        monkeypatch.setattr(predict, "run", lambda *_, **__: pytest.fail("predicted twice"))
        assert cli.main(words(run_of_slices, tmp_path, "--once", *push)) == 0
    assert [state for *_, state in states(tmp_path)] == ["done", "done"]
    assert node.objects.keys() == made(tmp_path).keys()


def test_none_is_lost_and_none_is_made_or_sent_twice(run_of_slices, tmp_path, place, archive):
    """Ten studies, and SIGKILL while they are worked on."""
    for number in range(10):
        scanned.series(place / str(number), study=f"s{number}", number=number, slices=2, size=16)
    line = words(run_of_slices, tmp_path, "--push", archive.web)
    process = subprocess.Popen([sys.executable, "-m", "radiffuse", *line], stdout=subprocess.PIPE)
    done = 0
    for said in process.stdout:
        done += b" objects sent" in said
        if done == 3:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*/*.json")}
    assert 3 <= len(before) < 10
    assert cli.main([*line, "--once"]) == 0
    assert Counter(state for *_, state in states(tmp_path)) == {"done": 10}
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*/*.json")}
    assert len(after) == 10 and before.items() <= after.items(), "one was made twice"
    assert archive.uids() == sorted(made(tmp_path))
    left = [name for name in os.listdir(tmp_path / "out") if name.startswith((".part", ".work"))]
    assert not left and set(STATES) >= {"done"}


# ---------------------------------------------------------------------------------------- listening
def test_what_is_sent_here_arrives_whole(tmp_path, place, archive):
    pytest.importorskip("pynetdicom", reason="needs pynetdicom")
    from orthanc import free_port
    from radiffuse.clinic.exchange import push
    from radiffuse.clinic.listener import listening, title_and_port
    from radiffuse.clinic.nodes import Access, address_of

    assert title_and_port("MINE:11112") == ("MINE", 11112)
    files = scanned.series(tmp_path / "scanner")
    port = free_port()
    with listening("MINE", port, place, Access(callers=("ORTHANC",))):
        with pytest.raises(UserError, match="title"):
            push(
                address_of(f"dimse://OTHER@127.0.0.1:{port}"),
                Access(aet="ORTHANC", attempts=1),
                files,
            )
        with pytest.raises(UserError, match="calling"):
            push(address_of(f"dimse://MINE@127.0.0.1:{port}"), Access(attempts=1), files)
        archive.asked(
            "/modalities/here",
            "put",
            json={"AET": "MINE", "Host": "127.0.0.1", "Port": port},
        )
        archive.store(*files)
        (study,) = archive.asked("/studies").json()
        archive.asked("/modalities/here/store", "post", data=study)
    found = {pydicom.dcmread(path).SOPInstanceUID: path for path in place.rglob("*.dcm")}
    assert sorted(found) == archive.uids() and len(found) == 3
    for file in files:
        sent = pydicom.dcmread(file)
        assert pydicom.dcmread(found[sent.SOPInstanceUID]).PixelData == sent.PixelData
    assert not list(place.rglob(".writing-*"))


def test_half_an_object_is_not_confirmed_and_not_kept(tmp_path, place):
    pytest.importorskip("pynetdicom", reason="needs pynetdicom")
    from radiffuse.clinic import received

    (path,) = scanned.series(tmp_path / "scanner", slices=1)
    content = path.read_bytes()

    class Event:
        def __init__(self, data):
            self.data = data

        def encoded_dataset(self):
            return self.data

    store = received.storing(place)
    assert store(Event(content[:-300])) == received.NOT_UNDERSTOOD
    assert store(Event(b"\0" * 200)) == received.NOT_UNDERSTOOD
    assert not list(place.rglob("*.dcm"))
    assert store(Event(content)) == received.OK
    assert received.storing(place / "one", "1.2.3")(Event(content)) == received.NOT_ASKED
    (tmp_path / "file").write_text("")
    assert received.storing(tmp_path / "file")(Event(content)) == received.NO_ROOM


# --------------------------------------------------------------------------------------------- page
def test_the_page_shows_states_reasons_and_reports_to_who_has_the_token(
    run_of_slices, tmp_path, place
):
    pytest.importorskip("fastapi", reason="needs fastapi")
    from starlette.testclient import TestClient

    from radiffuse.commands.queue import application
    from radiffuse.commands.viewing import COOKIE

    scanned.series(place / "a", size=16)
    (place / "<b>.txt").write_text("no image")
    assert cli.main(words(run_of_slices, tmp_path, "--once")) == 0
    app = application(tmp_path / "out", "a-token")
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        assert client.get("/").status_code == 403
        client.cookies.set(COOKIE, "a-token")
        page = client.get("/").text
        assert "1 done, 1 refused" in page and "damaged" in page and 'content="5"' in page
        assert "Planted" not in page and "<b>" not in page
        (link,) = re.findall(r'href="(/of\?path=\d+)"', page)
        assert "<h1>" in client.get(link).text
        assert client.get("/of?path=../in").status_code == 404
