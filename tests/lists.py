"""Pages made from data: the lists of methods in README and docs, docs/methods.md and .html, docs/departures.md.

`python tests/lists.py` writes them, from the rows of papers.py, recorded results, and the tables beside
the recipes.

A page has the models that ship between `<!-- models: made by tests/lists.py -->` and `<!-- end of models -->`, and
a list between `<!-- methods: made by tests/lists.py -->` (all, by application) or
`<!-- methods of TASK: made by tests/lists.py -->` and `<!-- end of methods -->`; docs/conformance.md has its tables
(`conformance`) likewise.
"""

import inspect
import json
import re
from pathlib import Path

from catalogue import FILTERS, catalogue
from conformance import with_tables
from radiffuse import papers
from radiffuse.applications.departures import departures, worded
from radiffuse.applications.task import tasks
from radiffuse.commands.demo import shown
from radiffuse.report.card import said_numbers

ROOT = Path(__file__).resolve().parents[1]
LEDGERS = ROOT / "src" / "radiffuse" / "applications" / "results"
METHODS = ROOT / "docs" / "methods.md"
CATALOGUE = ROOT / "docs" / "catalogue.html"
DEPARTURES = ROOT / "docs" / "departures.md"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LIST = re.compile(
    r"(<!-- methods(?: of (\w+))?: made by tests/lists\.py -->\n)(.*?)(<!-- end of methods -->)",
    re.S,
)

MODELS = re.compile(
    r"(<!-- models: made by tests/lists\.py -->\n)(.*?)(<!-- end of models -->)", re.S
)


def models() -> str:
    """A row a model that ships, in the order of the demonstration."""
    lines = [
        "",
        "| model | what it does | method | held out (best baseline) |",
        "|---|---|---|---|",
    ]
    for name, card in shown().items():
        cells = (f"`{name}`", card["title"], card["method"], said_numbers(card, most=1))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", ""])


def methods(task: str) -> list[papers.Paper]:
    """The rows of the methods of a task that train today."""
    rows = [papers.by_id(method) for method in papers.implemented()]
    return [row for row in rows if row.load().task.name == task]


def overview() -> str:
    """A row an application."""
    lines = ["", "| application | methods |", "|---|---|"]
    for name, task in tasks().items():
        ids = " ".join(f"`{row.id}`" for row in methods(name))
        lines.append(f"| {task.title.lower()} | {ids} |")
    return "\n".join([*lines, "", ""])


def details(task: str) -> str:
    """A row a method: its paper, and the first sentence of its recipe."""
    lines = ["", "| method | paper | what makes it that method |", "|---|---|---|"]
    for row in methods(task):
        first = row.authors.partition(" ")[0].rstrip(",")
        said = (inspect.getdoc(row.load()) or "").partition("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{row.id}` | [{first} {row.year}]({row.url}) | {said} |")
    return "\n".join([*lines, "", ""])


def made(text: str) -> str:
    """A page with its lists as the rows have them."""

    def one(match: re.Match[str]) -> str:
        return match[1] + (details(match[2]) if match[2] else overview()) + match[4]

    text = MODELS.sub(lambda match: match[1] + models() + match[3], LIST.sub(one, text))
    return with_tables(text)


def taxonomy() -> str:
    """docs/methods.md: the survey's papers, what was measured of each, and what its authors report."""
    rows = [row for row in papers.PAPERS if row.number]
    ready = sum(bool(row.recipe) for row in rows)
    lines = [
        "# The survey's papers",
        "",
        "Made by `python tests/lists.py` from the rows of `radiffuse.papers` and the recorded results.",
        f"{ready} of {len(rows)} papers train today. This table with filters is",
        '<a href="catalogue.html">catalogue.html</a>, as is',
        "`radiffuse methods --organ brain --modality MR`; `radiffuse show METHOD` prints all numbers of one,",
        "[measured.md](measured.md) all there are.",
        "",
        "Measured: the first record of the method here, on public or embedded data, beside its main baseline.",
        "Reported: by the authors, on other data, where it could be read and verified; the two cannot be compared.",
        "",
        "| # | method | application | modality | organ | formulation | measured | reported |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        about = (row.application, row.modality, row.organ, row.formulation)
        cells = (str(row.number), f"[`{row.id}`]({row.url})", *about, _headline(row), row.reported)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


HEAD = (
    *("#", "method", "application", "modality", "organ", "formulation"),
    *("measured", "reported", "picture"),
)


def filtered() -> str:
    """docs/catalogue.html, its table made anew: the same, to be filtered, with pictures of models that ship."""
    pictures = {card["id"]: f"pictures/{name}.png" for name, card in shown().items()}
    rows = [
        {
            "#": str(row.number),
            "method": row.id,
            **{name: getattr(row, name) for name in FILTERS},
            "measured": _headline(row),
            "reported": row.reported,
            "url": row.url,
            "picture": pictures.get(row.id, ""),
        }
        for row in papers.PAPERS
        if row.number
    ]
    return catalogue(CATALOGUE.read_text(encoding="utf-8"), HEAD, rows)


def _headline(paper: papers.Paper) -> str:
    """The first number of a method that its baseline has too: "metric ours (baseline): where"."""
    file = LEDGERS / f"{paper.id}.json"
    if not file.is_file():
        return "not yet"
    record = json.loads(file.read_text(encoding="utf-8"))[0]
    ours, theirs = record["method"], record["baseline"]
    key = next((key for key in ours if key in theirs), None)
    where = record["name"].partition(", ")[2]
    if key is None:
        return where
    return f"{key} {ours[key]['mean']:.3g} ({theirs[key]['mean']:.3g}): {where}"


def constants() -> str:
    """docs/departures.md: of every method, what the preset `paper` holds beside what its source says."""
    lines = [
        "# What the preset `paper` holds",
        "",
        "Made by `python tests/lists.py` from the tables beside the recipes (`METHOD.toml`), which a test",
        "holds against the presets. `radiffuse show METHOD` prints one. Constants that equal their source",
        "are listed there; here stand those that differ, what is missing, and what `small` changes.",
    ]
    for method in papers.implemented():
        lines += _of_one(papers.by_id(method))
    return "\n".join([*lines, ""])


def _of_one(paper: papers.Paper) -> list[str]:
    found = departures(paper)
    equal = len(found.constants) - len(found.changed)
    lines = [
        "",
        f"## {paper.id}",
        "",
        f"[{paper.title}]({paper.url}). {equal} constants as in the source.",
    ]
    if found.changed:
        lines += ["", "| constant | source | ours | why |", "|---|---|---|---|"]
    for each in found.changed:
        said = "nothing said" if each.source is None else f"{worded(each.source)} ({each.where})"
        cells = (f"`{each.name}`", said, worded(each.ours), each.why)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    if found.missing:
        lines += ["", *(f"- Missing: {part}; {why}" for part, why in found.missing.items())]
    return [*lines, "", f"`small`: {found.small}."]


if __name__ == "__main__":
    DEPARTURES.write_text(constants(), encoding="utf-8")
    METHODS.write_text(taxonomy(), encoding="utf-8")
    CATALOGUE.write_text(filtered(), encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if made(text) != text:
            page.write_text(made(text), encoding="utf-8")
            print(page)
