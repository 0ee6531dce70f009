"""`radiffuse show METHOD`: paper, configuration beside its source's, keys in and out, reproduced numbers."""

import importlib.resources
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from .. import papers
from ..applications import fields
from ..applications.departures import Departures, departures, worded
from ..runs import config
from .parsing import parse


@dataclass(frozen=True)
class Flags:
    """Which method to show.

    Attributes:
        method: method id, as `radiffuse methods` lists them.
    """

    method: Annotated[str, tyro.conf.Positional]


def run(arguments: Sequence[str]) -> None:
    """Print what is known of one method."""
    flags = parse(Flags, arguments, "radiffuse show")
    paper = papers.by_id(flags.method)
    number = "generic formulation" if paper.number is None else f"{paper.number} of 31"
    print(f"{paper.id} ({number})\n{paper.citation}\n{paper.url}\n")
    for name in ("application", "modality", "organ", "formulation"):
        print(f"{name:<12} {getattr(paper, name)}")
    if not paper.recipe:
        print(f"\nnot implemented yet; implemented so far: {', '.join(papers.implemented())}")
        return
    recipe = paper.load()
    task = recipe.task
    named = ("images of any names",) if task.subset else ()
    print(f"\nreads        {', '.join((*task.reads, *named)) or 'one of what it may read'}")
    if task.optional:
        print(f"may read     {', '.join(task.optional)}")
    if task.given:
        print(f"predicts by  {' or '.join(task.given)}")
    lacking = ("those of them that a case lacks",) if task.subset else ()
    print(f"writes       {', '.join((*task.writes, *lacking))}")
    if expects := getattr(recipe, "EXPECTS", ""):
        print("\n" + textwrap.fill(f"expects      {expects}", 100, subsequent_indent=" " * 13))
    print("\n" + "\n".join(_presets(recipe)))
    if found := departures(paper):
        print("\n".join(_departures(found)) + "\n")
    print("\n".join(_ledger(paper.id)))
    if paper.reported:
        print(f"reported by its authors, on other data: {paper.reported}")


def _presets(recipe: type[Any]) -> Iterator[str]:
    """Each preset as TOML: the paper's in full, the others where they differ."""
    paper = fields.plain(config.preset(recipe, "paper"))
    yield "# configuration (0 and [] are filled from the data)\n# --preset paper"
    yield config.toml({"recipe": paper})
    for name in config.PRESETS[1:]:
        values = fields.plain(config.preset(recipe, name))
        changed = {key: value for key, value in values.items() if paper.get(key) != value}
        yield f"# --preset {name}, where it differs\n" + config.toml({"recipe": changed})


def _departures(found: Departures) -> Iterator[str]:
    """The constants beside their source's, those that differ first."""
    yield "# --preset paper beside its source"
    same = [each for each in found.constants if not each.why]
    for each in found.changed:
        said = "nothing said" if each.source is None else worded(each.source)
        where = "" if each.source is None else f" ({each.where})"
        yield _wrapped(f"{each.name} = {worded(each.ours)}, source: {said}{where}; {each.why}")
    for part, why in found.missing.items():
        yield _wrapped(f"missing: {part}; {why}")
    yield "# as in its source"
    for each in same:
        yield _wrapped(f"{each.name} = {worded(each.ours)} ({each.where})")
    yield "# not in its source"
    for why, names in found.ours.items():
        yield _wrapped(f"{', '.join(names)}: {why}")
    yield "# --preset small"
    yield _wrapped(found.small)


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 100, subsequent_indent=" " * 4)


def _ledger(method: str) -> Iterator[str]:
    """Reproduced numbers, from the results that are packaged with the library."""
    file = importlib.resources.files("radiffuse.applications") / "results" / f"{method}.json"
    if not file.is_file():
        yield "reproduced numbers: none recorded yet"
        return
    yield "reproduced numbers (mean, 95 % confidence interval, n; method, then baseline)"
    for entry in json.loads(file.read_text(encoding="utf-8")):
        yield f"  {entry['name']}: {entry['command']}"
        for who in ("method", "baseline"):
            for metric, value in entry.get(who, {}).items():
                ends = value["ci95"]  # none for one patient alone
                spread = f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
                yield f"    {who:<9} {metric:<20} {value['mean']:.4g}{spread} n={value['n']}"
