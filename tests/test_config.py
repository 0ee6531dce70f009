"""config.toml: written and read back whole; every mistake named in one line."""

from dataclasses import dataclass
from typing import Literal

import pytest

from radiffuse.applications import fields
from radiffuse.errors import UsageError, UserError
from radiffuse.runs import config
from radiffuse.runs.config import Config, DataSource
from radiffuse.training.options import TrainOptions


@dataclass(frozen=True)
class Toy:
    width: int = 64
    rate: float = 0.5
    levels: tuple[int, ...] = (1, 2, 4)
    clip: bool = True
    kind: Literal["vp", "ve"] = "vp"
    limit: float | None = None
    window: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def small(cls) -> "Toy":
        return cls(width=16)

    @classmethod
    def tiny(cls) -> "Toy":
        return cls(width=4, levels=(1,))


MADE = Config(
    method="ddpm",
    preset="small",
    recipe=fields.plain(Toy(rate=0.1)),
    train=fields.plain(TrainOptions(minutes=1.5, betas=(0.9, 0.95))),
    data=DataSource("brains", map={"source": "t1"}, range={"t1": (-10.0, 20.5)}, size=(64, 32)),
    fitted=("width",),
    command="radiffuse train ddpm",
)


def test_a_configuration_comes_back_as_it_was(tmp_path):
    config.write_config(tmp_path / "config.toml", MADE)
    assert config.read_config(tmp_path / "config.toml") == MADE


def test_dataclasses_come_back_from_their_tables(tmp_path):
    config.write_config(tmp_path / "config.toml", MADE)
    read = config.read_config(tmp_path / "config.toml")
    assert fields.build(Toy, read.recipe, where="[recipe]") == Toy(rate=0.1)
    options = fields.build(TrainOptions, read.train, where="[train]")
    assert options == TrainOptions(minutes=1.5, betas=(0.9, 0.95))


def test_the_file_has_the_four_tables_in_order(tmp_path):
    heads = [line for line in MADE.toml().splitlines() if line.startswith("[") and "." not in line]
    assert heads == ["[run]", "[recipe]", "[train]", "[data]"]


def test_presets_are_the_recipes_own():
    assert config.preset(Toy, "paper") == Toy()
    assert config.preset(Toy, "small") == Toy(width=16)
    with pytest.raises(UsageError, match="no preset is called 'smal'; did you mean small"):
        config.preset(Toy, "smal")


def test_values_override_a_default_instance():
    built = fields.build(Toy, {"levels": [2, 2]}, where="x", default=Toy.small())
    assert built == Toy(width=16, levels=(2, 2))


def test_an_integer_is_a_number_but_a_number_is_no_integer():
    assert fields.build(Toy, {"rate": 1, "limit": 2}, where="x") == Toy(rate=1.0, limit=2.0)
    with pytest.raises(UserError, match=r"x: width must be an integer, not 1\.5"):
        fields.build(Toy, {"width": 1.5}, where="x")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"widht": 3}, "has no field 'widht'; did you mean width?"),
        ({"width": True}, "width must be an integer, not True"),
        ({"clip": 1}, "clip must be true or false, not 1"),
        ({"kind": "edm"}, "kind must be one of 'vp', 've', not 'edm'"),
        ({"levels": [1, "2"]}, "levels must be a list, each item an integer"),
        ({"window": [1.0]}, "window must be a list of 2 items"),
        ({"limit": "no"}, "limit must be a number, not 'no'"),
    ],
)
def test_a_wrong_field_is_named(values, said):
    with pytest.raises(UserError) as error:
        fields.build(Toy, values, where="config.toml: [recipe]")
    assert said in str(error.value) and str(error.value).startswith("config.toml: [recipe]")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("format = 1", "format = 2"), "written by a newer radiffuse (format 2, not 1)"),
        (("format = 1", "format = 0"), "written by an older radiffuse (format 0, not 1)"),
        (("format = 1", ""), "not a radiffuse configuration"),
        (("[train]", "[training]"), "the table [train] is missing"),
        (('method = "ddpm"', "method = 3"), "[run]: method must be a text, not 3"),
        (("format = 1", "format = true"), "format: expected int, got True"),
        (("seed = 0\nleak", "sede = 0\nleak"), "has no field 'sede'; did you mean seed or series?"),
        (("[run]", "[run"), "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, change, said):
    path = tmp_path / "config.toml"
    before = MADE.toml()
    assert change[0] in before
    path.write_text(before.replace(*change, 1))
    with pytest.raises(UserError) as error:
        config.read_config(path)
    assert said in str(error.value) and str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        config.read_config(tmp_path / "config.toml")
    with pytest.raises(UserError, match="is a folder"):
        config.read_config(tmp_path)
