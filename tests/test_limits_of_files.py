"""Files that may not grow (ulimit -f, quotas, disks that fail), and streams that are full or closed."""

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from radiffuse import cli
from radiffuse.data.files import told, write_text
from radiffuse.data.formats.by_ending import save_image
from radiffuse.data.image import Image
from radiffuse.errors import UserError
from radiffuse.runs import run
from radiffuse.training.loop import TrainOptions
from radiffuse.training.progress import Log


@contextmanager
def no_file_beyond(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(tmp_path):
    with (
        no_file_beyond(500),
        pytest.raises(UserError, match=r"a.txt: no file may be as large here"),
    ):
        write_text(tmp_path / "a.txt", "x" * 2000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.mha", "a.nrrd", "a.nii.gz", "a.dcm"])
def test_pictures_and_volumes_too(tmp_path, name):
    flat = name.endswith(("png", "tif"))
    data = torch.randint(
        0, 4000, (3 if name == "a.png" else 1, 40, 40) if flat else (1, 20, 20, 20)
    )
    affine = None if flat else torch.eye(4, dtype=torch.float64)
    image = Image(data.to(torch.int32), affine, "MR", (0.0, 65535.0))
    with no_file_beyond(500), pytest.raises(UserError):
        save_image(image, tmp_path / name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE])
def test_what_a_disk_answers_is_one_line(tmp_path, number):
    with pytest.raises(UserError, match=r"a.png: "), told(tmp_path / "a.png"):
        raise OSError(number, os.strerror(number))


def test_a_log_that_may_not_grow_says_how_to_go_on(tmp_path):
    log = Log(tmp_path, 0, TrainOptions())
    with no_file_beyond(20), pytest.raises(UserError, match="go on with --resume"):
        log.write({"step": 1, "loss": 0.123456789, "more": 1})
    log.close()


def test_asking_for_the_commit_writes_nothing_into_the_repository(tmp_path, monkeypatch):
    def git(*words):
        about = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *about, *words], cwd=tmp_path, check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    git("init")
    for k in range(20):
        (tmp_path / f"{k}.txt").write_text("x")
    git("add", "-A")
    git("commit", "-m", "x")
    place = tmp_path / "src" / "radiffuse" / "runs" / "run.py"
    monkeypatch.setattr(run, "__file__", str(place))
    index = (tmp_path / ".git" / "index").read_bytes()
    os.utime(tmp_path / "3.txt", (1, 1))  # which makes git write down what it found
    assert run.commit() == git("rev-parse", "HEAD")
    assert (tmp_path / ".git" / "index").read_bytes() == index
    (tmp_path / "3.txt").write_text("y")
    assert run.commit() == git("rev-parse", "HEAD") + "+changes"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_takes_no_more_is_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(["methods"]) == 1
        monkeypatch.undo()
    line = capsys.readouterr().err
    assert line == "radiffuse: error: nothing more can be written: No space left on device\n"


@pytest.mark.parametrize("words, code", [(["--version"], 0), (["nothing"], 2)])
def test_closed_streams_are_no_error(monkeypatch, words, code):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(words) == code
    sys.stdout.close(), sys.stderr.close()
