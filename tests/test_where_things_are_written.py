"""`--out`: what is there already and is no file or folder of ours stays as it is."""

import os

import pytest

from radiffuse import cli
from radiffuse.data.files import check_file, check_folder, write_text
from radiffuse.errors import UserError

DATA = "brains:count=20,size=16"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ddpm"
    words = ["train", "ddpm", "--data", DATA, "--preset", "tiny", "--train.steps", "2"]
    assert cli.main([*words, "--out", str(out)]) == 0
    return out


@pytest.fixture
def odd(tmp_path):
    """Places where no file may be put."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "there").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    return tmp_path


@pytest.mark.parametrize("name", ["pipe", "folder", "link", "nowhere"])
def test_no_file_takes_the_place_of_something_else(odd, name):
    before = os.lstat(odd / name)
    with pytest.raises(UserError, match=name):
        write_text(odd / name, "new")
    assert os.lstat(odd / name).st_ino == before.st_ino
    assert (odd / "there").read_text() == "kept"
    assert not list(odd.glob(".writing-*"))


@pytest.mark.parametrize("command", ["evaluate", "report"])
@pytest.mark.parametrize("name", ["pipe", "folder", "link"])
def test_a_table_or_page_is_a_file(run, odd, refused, command, name):
    assert name in refused(command, run, "--out", odd / name)


@pytest.mark.parametrize("name", ["pipe", "there", "nowhere"])
def test_runs_and_samples_are_folders(run, odd, refused, name):
    said = refused("sample", run, "--count", "1", "--steps", "2", "--out", odd / name)
    assert "--out takes a folder" in said
    words = ["train", "ddpm", "--data", DATA, "--preset", "tiny", "--train.steps", "2"]
    assert "--out takes a folder" in refused(*words, "--out", odd / name)
    assert (odd / "there").read_text() == "kept"


def test_a_device_is_neither(run, refused):
    with pytest.raises(UserError, match="device"):
        check_file(os.devnull)
    with pytest.raises(UserError, match="takes a folder"):
        check_folder(os.devnull)


def test_a_link_to_a_folder_is_that_folder(run, odd):
    (odd / "other").symlink_to(odd / "folder")
    words = ["sample", run, "--count", "1", "--steps", "2", "--out", odd / "other"]
    assert cli.main([str(word) for word in words]) == 0
    assert (odd / "folder" / "predictions.json").is_file()
