"""The list of what no method can lose: each entry still names one place of the code, and tests that are there."""

import tomllib

import pytest

from house import ROOT

LISTS = sorted((ROOT.parents[1] / "tests" / "ingredients").glob("*.toml"))


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_every_ingredient_stands_once_in_its_file(path):
    for each in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
        code = (ROOT / each["file"]).read_text(encoding="utf-8")
        assert code.count(each["old"]) == 1, each["ingredient"]
        assert each["new"] != each["old"], each["ingredient"]
        file = each["tests"][0].partition("::")[0]
        assert (ROOT.parents[1] / file).is_file(), each["ingredient"]
