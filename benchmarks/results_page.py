"""docs/results.md and docs/measured.md from the JSON files of benchmarks/results. Nothing in these pages is typed.

python benchmarks/results_page.py

How the records of an application are shown stands beside its evaluation (`page`, named by its task).
"""

import json
import pkgutil
from pathlib import Path

import plots
import tables
from summary import summary

from radiffuse import papers
from radiffuse.applications.anomaly.page import lesions
from radiffuse.applications.denoising.page import reference
from radiffuse.applications.evaluation.page import columns
from radiffuse.applications.generation.page import (
    audits,
    covariates,
    distilled,
    families,
    features,
    kept_away,
    privacy,
    slice_by_slice,
    steps,
)
from radiffuse.applications.reconstruction import page as reconstruction
from radiffuse.applications.task import tasks
from radiffuse.commands.demo import shown
from radiffuse.data.files import write_json, write_text

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
LEDGERS = HERE.parent / "src" / "radiffuse" / "applications" / "results"
HEAD = """# All that was measured

The short page is [results.md](results.md). Made by `python benchmarks/results_page.py` from the files of
`benchmarks/results`; the command that made each number stands beside it. Intervals are 95 %.
Errors of samplers on data whose answer is known: [samplers.md](samplers.md).

Older than the definitions of today (see the changelog), and comparable among themselves alone: FID and what else
features see in "Quality against network calls" and "What a denoiser starts from", of the feature network of then,
whose runs are gone; recall, density and coverage of the peers at their defaults; SSIM of lgg128-flair-syndiff;
intervals of average precision over lesions; real k-space, and the long tables of reconstruction (acdc128, lgg128), by
the noise level and the noise levels of training of then: the tables called "short" are of today.
"""
BESIDE = {
    "generation": [
        ("Quality against network calls", "steps", steps),
        ("Few calls, distilled", "distill", distilled),
        ("What a denoiser starts from", "starting-point", tables.starting_point),
        ("What the features see", "features", features),
        ("Volumes whole and slice by slice", "slices", slice_by_slice),
        ("Numbers that samples are told", "covariates", covariates),
        ("Families compared", "trilemma", families),
        ("What privacy costs", "private", privacy),
        ("What audits find", "audit", audits),
        ("Away from copies", "away", kept_away),
    ],
    "reconstruction": [
        ("", "prior-fit", reconstruction.fits),
        ("", "draws", reconstruction.draws),
        ("", "unreferenced", reconstruction.unreferenced),
        ("", "scans", reconstruction.scans),
    ],
    "denoising": [("", "reference", reference)],
    "anomaly": [("", "lesions", lesions)],
}
"""What else is shown of an application: (heading, what its files begin with, renderer)."""
PEERS = (
    "peers_step",
    "peers_fid",
    "peers_default",
    "operators",
    "simplex",
    "startup",
    "fuzz",
    "watch",
)
DATA = "mednist64"
SPEED = {
    "distilled": f"distill-{DATA}-ddpm",
    "peers": "peers_fid",
    "families": f"trilemma-{DATA}",
}
"""Records of one picture: FID against seconds an image."""
VOLUMES = ("volumes_sides", "volumes_data", "volumes_estimates")


def beginning(found, word):
    """Records whose file is named WORD-NAME, with their NAME."""
    return [(k.removeprefix(f"{word}-"), v) for k, v in found.items() if k.startswith(f"{word}-")]


def section(title, records, render):
    """A heading and the lines of each record; nothing where there is none."""
    lines = [f"## {title}", ""] if title and records else []
    return lines + [line for name, record in records for line in render(record, name)]


def shown_by(task):
    """The renderer of the records of a task."""
    page = pkgutil.resolve_name(task.page)
    return lambda record, name: page(record, name, task.shown)


def ledger(record, rest, task):
    """What `radiffuse show METHOD` prints of a record: method and baseline, no more than is needed."""
    keys = task.shown if task.name == "generation" else columns(record, task.shown)
    stages = [
        record["trained"][who] for who in ("method", "first stage") if who in record["trained"]
    ]
    return {
        "name": f"{record['name']}, {rest}, {sum(its['minutes'] for its in stages):.0f} minutes",
        "command": record["command"],
        **{
            who: {
                key: {k: record[who][key][k] for k in ("mean", "ci95", "n")}
                for key in keys
                if "mean" in (record[who].get(key) or {})
            }
            for who in ("method", "baseline")
        },
    }


def method_of(record):
    """The id in the command that trained it."""
    words = record["trained_by"].split()
    return words[words.index("train") + 1]


def called(record):
    """The name of results: METHOD, or METHOD (PRESET)."""
    words = record["trained_by"].split()
    return papers.named(method_of(record), words[words.index("--preset") + 1])


def write_ledgers(found):
    """The numbers that are packaged with the library, a file a method."""
    entries = {}
    for task in tasks().values():
        for name, record in beginning(found, task.name):
            if "entries" not in record:  # of many methods with one prior
                entries.setdefault(method_of(record), []).append(ledger(record, name, task))
    solving = [
        method
        for method in papers.implemented()
        if papers.by_id(method).load().task.name == "reconstruction"
    ]
    for method, entry in reconstruction.entries(beginning(found, "reconstruction"), solving):
        entries.setdefault(method, []).append(entry)
    for method, its in entries.items():
        write_json(LEDGERS / f"{method}.json", its)


def records():
    """What was recorded, by the name of its file."""
    files = sorted((HERE / "results").glob("*.json"), key=lambda path: path.stem)
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    for record in found.values():
        if isinstance(record, dict) and "trained_by" in record:
            record["name"] = called(record)
    return found


def page(found):
    """The text of docs/measured.md."""
    lines = [HEAD]
    for name, task in tasks().items():
        lines += section(task.title, beginning(found, name), shown_by(task))
        for title, word, render in BESIDE.get(name, ()):
            lines += section(title, beginning(found, word), render)
    lines += ["## Volumes: time and memory", ""]
    lines += [line for key in VOLUMES if key in found for line in getattr(tables, key)(found[key])]
    lines += ["## Against peers, start-up, malformed inputs", ""]
    lines += [line for key in PEERS if key in found for line in getattr(tables, key)(found[key])]
    return "\n".join(lines).rstrip() + "\n"


def cards():
    """The cards of the models that ship, in the order of the demonstration, with the task of each."""
    return {
        name: {**card, "task": papers.by_id(card["id"]).load().task.name}
        for name, card in shown().items()
    }


def main():
    found = records()
    write_text(DOCS / "measured.md", page(found))
    write_text(DOCS / "results.md", summary(found, cards()))
    for word in ("steps", "distill", "lesions"):
        for name, record in beginning(found, word):
            getattr(plots, word)(record, DOCS / f"{word}-{name}.svg")
    if {*SPEED.values()} <= {*found}:
        plots.speed(*(found[key] for key in SPEED.values()), DOCS / f"speed-{DATA}.svg")
    write_ledgers(found)


if __name__ == "__main__":
    main()
