"""The table of docs/catalogue.html: the survey's papers, filtered by application, modality, organ and formulation."""

import re
from collections.abc import Mapping, Sequence
from html import escape

FILTERS = ("application", "modality", "organ", "formulation")

_TABLE = re.compile(
    r"(<!-- papers: made by tests/lists\.py -->\n).*?(<!-- end of papers -->)", re.S
)


def parts(cell: str) -> list[str]:
    """What a cell is chosen by: "MR T1, 3-D" by "MR T1" and "3-D"; what stands in brackets does not count."""
    plain = cell.partition(" (")[0]
    return [part.strip() for part in plain.replace(":", ",").split(",") if part.strip()]


def catalogue(page: str, head: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """The page with its filters and its table, of rows with a cell for each word of `head` and the paper's "url".

    A cell "picture" is the address of one.
    """
    choices = {name: sorted({p for row in rows for p in parts(row[name])}) for name in FILTERS}
    selects = "".join(
        f'<label>{name} <select id="{name}"><option value="">all</option>'
        + "".join(f"<option>{escape(choice)}</option>" for choice in choices[name])
        + "</select></label>\n"
        for name in FILTERS
    )
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "\n".join(_row(head, row) for row in rows)
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody></table>\n"
    return _TABLE.sub(lambda match: f"{match[1]}<div>{selects}</div>\n{table}{match[2]}", page)


def _row(head: Sequence[str], row: Mapping[str, str]) -> str:
    told = " ".join(f'data-{name}="{escape("|".join(parts(row[name])))}"' for name in FILTERS)
    cells = {name: escape(row.get(name, "")) for name in head}
    if row.get("picture"):
        cells["picture"] = (
            f'<img src="{escape(row["picture"])}" width="260" loading="lazy" alt="what a model of it does">'
        )
    cells["method"] = f'<a href="{escape(row["url"])}"><code>{cells["method"]}</code></a>'
    return f"<tr {told}>{''.join(f'<td>{cell}</td>' for cell in cells.values())}</tr>"
