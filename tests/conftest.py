"""What the tests share: one seed for every test, and the command line's refusals."""

import contextlib
import functools

import pytest
import torch

from processes import Forks
from radiffuse import cli
from radiffuse.applications.anomaly import baselines
from radiffuse.applications.reconstruction import evaluate as reconstruction
from radiffuse.applications.reconstruction.baselines import classical
from radiffuse.metrics import features


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def hasty_features(monkeypatch):
    """A feature network of anomaly detection that trains for a moment."""
    plain = features.trained_features

    def few(*arguments, **options):
        return plain(*arguments, **{**options, "steps": 3})

    monkeypatch.setattr(baselines, "trained_features", few)


@pytest.fixture(scope="module")
def hasty_judge():
    """A feature network of generation and translation that trains for a moment, in a whole file of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 3)
        yield


@pytest.fixture
def hasty_baselines(monkeypatch):
    """Classical reconstructions, tuned and compared, that iterate little."""
    monkeypatch.setattr(reconstruction, "classical", functools.partial(classical, work=30))


@pytest.fixture
def refused(capsys):
    """Run a command line that must fail with one line, beside what it says of memory; return that line."""

    def run_it(*words, code=1):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == code
        said = capsys.readouterr()
        told = (" are free", "each case counts as one person")  # not why it was refused
        lines = [line for line in said.err.splitlines() if not line.endswith(told)]
        assert len(lines) == 1 and lines[0].startswith("radiffuse: error: "), lines
        assert said.out == ""
        return lines[0]

    return run_it


@pytest.fixture(scope="session")
def run_of_slices(tmp_path_factory):
    """A run that has hardly learned, of slices of small series."""
    import scanned

    folder = tmp_path_factory.mktemp("sliced")
    scanned.series(folder / "in" / "a", study="one", slices=4, size=16)
    scanned.series(folder / "in" / "b", study="two", slices=4, size=16)
    words = ["--data", str(folder / "in"), "--slices", "axial", "--preset", "tiny"]
    words += ["--noise", "gaussian", "--range", "0", "700", "--train.steps", "1"]
    assert cli.main(["train", "anoddpm", *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def forks():
    """Processes of their own that need not import torch first."""
    with contextlib.closing(Forks()) as running:
        yield running


@pytest.fixture(scope="session")
def running_archive(tmp_path_factory):
    """One Orthanc for all tests."""
    from orthanc import orthanc

    with orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        yield archive


@pytest.fixture
def archive(running_archive):
    """Orthanc, with nothing in it."""
    running_archive.empty()
    return running_archive
