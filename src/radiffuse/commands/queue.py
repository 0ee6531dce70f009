"""The page of `radiffuse serve`: what has arrived, what became of it, and the reports of the results."""

import datetime
from html import escape
from pathlib import Path

from fastapi import FastAPI

from ..clinic.ledger import STATES, Job, Ledger
from ..report.document import document
from .serving import NOTES
from .viewing import application as viewing

__all__ = ["application"]

AGAIN, MOST = 5, 500
"""Seconds after which the page is read anew, and jobs that it lists."""


def application(out: Path, token: str) -> FastAPI:
    """The page, for whoever has the token; nothing outside of `out` is shown."""
    return viewing(out, token, lambda: queue(out))


def queue(out: Path) -> str:
    """All jobs, the newest first."""
    ledger = Ledger(out, reading=True)
    try:
        counts, jobs = ledger.counts(), ledger.jobs(most=MOST, newest=True)
    finally:
        ledger.close()
    told = (
        ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "nothing yet"
    )
    head = "<tr><th>number</th><th>study</th><th>version</th><th>state</th><th>since</th><th></th></tr>"
    rows = "".join(_row(out, job) for job in jobs)
    more = f"<p>The newest {MOST}.</p>" if len(jobs) == MOST else ""
    body = (
        f"<header><h1>Studies</h1><p>{told}</p></header><section>"
        f'<div class="wide"><table>{head}{rows}</table></div>{more}</section>'
    )
    return document("Studies · Radiffuse", body, again=AGAIN)


_SHORT = '<td style="white-space: nowrap">'


def _row(out: Path, job: Job) -> str:
    made = (out / job.name).is_dir()
    name = f'<a href="/of?path={job.name}">{job.name}</a>' if made else job.name
    since = datetime.datetime.fromtimestamp(job.since).astimezone()
    cells = (job.study or "a file", str(job.version), job.state, f"{since:%Y-%m-%d %H:%M:%S}")
    told = f"<td>{escape(cells[0])}</td>" + "".join(f"{_SHORT}{escape(c)}</td>" for c in cells[1:])
    return f"<tr>{_SHORT}{name}</td>{told}<td>{escape(job.reason)}{_notes(out, job)}</td></tr>"


def _notes(out: Path, job: Job) -> str:
    try:
        lines = (out / NOTES / f"{job.name}.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    told = "".join(f"<li>{escape(line.removeprefix('note: '))}</li>" for line in lines)
    return (
        f"<details><summary>{len(lines)} notes</summary><ul>{told}</ul></details>" if lines else ""
    )
