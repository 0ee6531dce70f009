"""Every constant of every method beside its source's: the preset `paper` against METHOD.toml."""

import dataclasses

import pytest

import lists
from catalogue import parts
from radiffuse import papers
from radiffuse.applications import departures, fields
from radiffuse.applications.departures import STATED
from radiffuse.training.options import TrainOptions

METHODS = papers.implemented()
NONE = "none"  # TOML has no such value


def loops(kind):
    """Options of the preset `paper` by loop."""
    first = getattr(kind, "first_training", None)
    later = {name: kind.later_training(name, "paper") for name in getattr(kind, "LATER", ())}
    return {
        "train": kind.training("paper"),
        **({"first": first("paper")} if first else {}),
        **later,
    }


def held(method):
    """What the preset `paper` holds: recipe fields, and options of the loops as train.NAME, first.NAME, STAGE.NAME."""
    kind = papers.by_id(method).load()
    options = {
        f"{loop}.{name}": value
        for loop, given in loops(kind).items()
        for name, value in fields.plain(TrainOptions(**given)).items()
    }
    names = [field.name for field in dataclasses.fields(kind)]
    recipe = fields.plain(kind())
    return {
        **{name: recipe.get(name, NONE) for name in names},
        **options,
    }


def table(method):
    return departures.departures(papers.by_id(method))


def spoken_of(found):
    listed = [name for names in found.ours.values() for name in names]
    return [*(each.name for each in found.constants), *listed, *found.data]


@pytest.mark.parametrize("method", METHODS)
def test_the_paper_preset_holds_what_its_table_says(method):
    preset = held(method)
    said = {each.name: each.ours for each in table(method).constants}
    assert said == {name: preset[name] for name in said}


@pytest.mark.parametrize("method", METHODS)
def test_what_differs_from_the_source_has_a_reason(method):
    for each in table(method).constants:
        assert each.where, each.name
        assert bool(each.why) == (each.ours != each.source), each.name


@pytest.mark.parametrize("method", METHODS)
def test_every_field_is_spoken_of_once(method):
    preset, found = held(method), spoken_of(table(method))
    assert len(found) == len(set(found))
    given = loops(papers.by_id(method).load())
    recipe = {name for name in preset if "." not in name}
    options = {f"{loop}.{name}" for loop in given for name in STATED}
    set_here = {f"{loop}.{name}" for loop, its in given.items() for name in its}
    assert recipe | options | set_here <= set(found) <= set(preset)


def test_the_page_is_what_the_tables_say():
    assert lists.DEPARTURES.read_text(encoding="utf-8") == lists.constants()
    assert lists.METHODS.read_text(encoding="utf-8") == lists.taxonomy()
    assert lists.CATALOGUE.read_text(encoding="utf-8") == lists.filtered()


def test_the_table_is_filtered_by_the_parts_of_a_cell():
    assert parts("MR T1, T1ce, T2, FLAIR") == ["MR T1", "T1ce", "T2", "FLAIR"]
    assert parts("translation (any missing contrast)") == ["translation"]
    assert parts("other: protein backbones") == ["other", "protein backbones"]
    assert lists.filtered().count("<tr data-") == 31


@pytest.mark.parametrize("method", METHODS)
def test_small_says_in_a_line_what_it_departs_from(method):
    said = table(method).small
    assert 20 < len(said) <= 160 and "\n" not in said
