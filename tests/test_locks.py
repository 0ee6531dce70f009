"""One command at a time writes into a folder; the other is told who does."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys

import filelock
import pytest

from radiffuse import cli
from radiffuse.commands import lock
from radiffuse.commands.lock import LOCK, writing
from radiffuse.errors import UserError
from radiffuse.training import processes

TRAIN = ("train", "ddpm", "--data", "brains:count=20,size=16", "--preset", "tiny")

HOLD = """
import sys
from pathlib import Path
from radiffuse.commands.lock import writing
with writing(Path(sys.argv[1]), "radiffuse train"):
    print("held", flush=True)
    sys.stdin.read()
"""

COUNT = """
import sys
from pathlib import Path
from radiffuse.commands.lock import writing
from radiffuse.errors import UserError
folder, turns = Path(sys.argv[1]), 0
while turns < 40:
    try:
        with writing(folder / "inside", "radiffuse sample"):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))
            turns += 1
    except UserError:
        continue
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ddpm"
    assert cli.main([*TRAIN, "--train.steps", "2", "--out", str(out)]) == 0
    return out


@contextlib.contextmanager
def held(folder):
    """Another process writes into `folder`."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        yield other
        other.stdin.close()


def test_every_command_that_would_write_there_names_the_one_that_does(run, refused, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    commands = [
        [*TRAIN, "--out", run, "--resume"],
        ["train", "mcg", "--prior", run, "--out", run],
        ["sample", run, "--count", 1, "--out", run],
        ["predict", run, "--out", run],
        ["evaluate", run],
        ["evaluate", run, "--out", run.parent / "elsewhere.json"],
        ["report", run],
    ]
    (run / "made-by-radiffuse-demo").touch()
    commands.append(["demo", "--out", run])
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with held(run) as other:
        for words in commands:
            line = refused(*words)
            who = f"radiffuse train (process {other.pid} on {socket.gethostname()} since "
            assert f"{run}: {who}" in line and "is writing there; wait for it" in line
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != LOCK}
    assert after == before


def test_what_only_reads_needs_no_lock(run, tmp_path):
    with held(run):
        words = ["sample", run, "--count", "1", "--steps", "2", "--out", tmp_path / "s"]
        assert cli.main([str(word) for word in words]) == 0
        assert cli.main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0


def test_a_lock_that_a_killed_process_left_blocks_nobody(tmp_path):
    with held(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == other.pid
        with writing(tmp_path, "radiffuse sample"):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_locks_that_vanish_at_the_end_still_keep_everybody_apart(tmp_path):
    """Three processes add to one number, and the lock's file and folder go after every turn."""
    (tmp_path / "number").write_text("0")
    commands = [[sys.executable, "-c", COUNT, str(tmp_path)]] * 3
    others = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    for other in others:
        assert other.communicate()[1] == b"" and other.returncode == 0
    assert (tmp_path / "number").read_text() == "120"
    assert not list(tmp_path.rglob(LOCK))


def test_the_file_of_a_lock_goes_before_the_lock_does(tmp_path, monkeypatch):
    """After it, the file may be another command's lock."""
    there, release = [], filelock.FileLock.release

    def released(lock, *arguments):
        there.append((tmp_path / LOCK).exists())
        release(lock, *arguments)

    monkeypatch.setattr(filelock.FileLock, "release", released)
    with writing(tmp_path, "radiffuse train"):
        assert there == []
    assert there[0] is False


def test_a_folder_made_for_the_lock_goes_again_unless_it_was_filled(tmp_path):
    with pytest.raises(UserError, match="why"), writing(tmp_path / "a/b", "radiffuse train"):
        assert (tmp_path / "a/b" / LOCK).is_file()
        raise UserError("why")
    assert not (tmp_path / "a").exists()
    with writing(tmp_path / "a/b", "radiffuse train"):
        (tmp_path / "a/b/file").touch()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["file"]


@pytest.fixture
def one_of_two(monkeypatch):
    """This process as number `rank` of two, which agree on what `failed` says of the main one."""

    def become(rank, failed=0.0):
        monkeypatch.setattr(processes, "rank", lambda: rank)
        monkeypatch.setattr(processes, "agree", lambda values: [max(*values, failed)])

    return become


def test_of_several_processes_of_a_command_the_main_one_holds_the_lock(tmp_path, one_of_two):
    one_of_two(0)
    with writing(tmp_path, "radiffuse train"):
        one_of_two(1)
        with writing(tmp_path, "radiffuse train"):
            assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_where_the_main_process_finds_another_command_all_stop(tmp_path, one_of_two):
    one_of_two(1, failed=1.0)
    with (
        pytest.raises(UserError, match="the main process could not lock it"),
        writing(tmp_path, "radiffuse train"),
    ):
        pytest.fail("went on")


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    def none(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with writing(tmp_path, "radiffuse train"):
        assert "cannot be locked here (No locks available)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def none(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with (
        pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"),
        writing(tmp_path, "radiffuse train"),
    ):
        pytest.fail("went on")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"), writing(tmp_path / "file", "x"):
        pytest.fail("went on")
    with pytest.raises(UserError, match="cannot be written"), writing(tmp_path / "file/in", "x"):
        pytest.fail("went on")
