"""What the tests share: one seed for every test, and the command line's refusals."""

import pytest
import torch

from radiffuse import cli


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def refused(capsys):
    """Run a command line that must fail with one line; return that line."""

    def run_it(*words, code=1):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == code
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("radiffuse: error: "), lines
        assert said.out == ""
        return lines[0]

    return run_it
