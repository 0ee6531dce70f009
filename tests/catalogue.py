"""docs/methods.html: the survey's papers as a table that is filtered by application, modality, organ and formulation.

Made by `python tests/lists.py`; one file, nothing is loaded.
"""

from collections.abc import Mapping, Sequence
from html import escape

FILTERS = ("application", "modality", "organ", "formulation")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Radiffuse · the survey's papers</title>
<style>
:root {{ --paper: #fff; --ink: #16191d; --soft: #5a636e; --line: #dde2e8; --link: #1f5fa8; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #14171a; --ink: #e6e9ec; --soft: #9aa4af; --line: #2c333a; --link: #6fb0f5; }} }}
body {{ margin: 0 auto; max-width: 1280px; padding: 24px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }}
p {{ max-width: 80ch; color: var(--soft); }}
label {{ margin-right: 18px; color: var(--soft); }}
table {{ border-collapse: collapse; width: 100%; margin-top: 16px; font-size: 14px; }}
th, td {{ text-align: left; vertical-align: top; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); }}
a {{ color: var(--link); }}
</style>
</head>
<body>
<h1>The survey's papers</h1>
<p>Measured: the first record of the method here, on public or embedded data, beside its main baseline (in brackets).
Reported: by the authors, on other data, where it could be read and verified; the two cannot be compared.</p>
<div>{selects}<label>words <input type="search" id="words"></label> <span id="count"></span></div>
<table><thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody></table>
<script>
const rows = [...document.querySelectorAll("tbody tr")];
const chosen = [...document.querySelectorAll("select")], words = document.getElementById("words");
function show() {{
  let count = 0;
  for (const row of rows) {{
    const fits = chosen.every(each => !each.value || row.dataset[each.id].split("|").includes(each.value))
      && row.textContent.toLowerCase().includes(words.value.toLowerCase());
    row.hidden = !fits;
    count += fits;
  }}
  document.getElementById("count").textContent = `${{count}} of ${{rows.length}}`;
}}
for (const each of [...chosen, words]) each.addEventListener("input", show);
show();
</script>
</body>
</html>
"""


def parts(cell: str) -> list[str]:
    """What a cell is chosen by: "MR T1, 3-D" by "MR T1" and "3-D"; what stands in brackets does not count."""
    plain = cell.partition(" (")[0]
    return [part.strip() for part in plain.replace(":", ",").split(",") if part.strip()]


def catalogue(head: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """The page, of rows with a cell for each word of `head` and the address of the paper as "url"."""
    choices = {name: sorted({p for row in rows for p in parts(row[name])}) for name in FILTERS}
    selects = "".join(
        f'<label>{name} <select id="{name}"><option value="">all</option>'
        + "".join(f"<option>{escape(choice)}</option>" for choice in choices[name])
        + "</select></label>\n"
        for name in FILTERS
    )
    return _PAGE.format(
        selects=selects,
        head="".join(f"<th>{escape(name)}</th>" for name in head),
        rows="\n".join(_row(head, row) for row in rows),
    )


def _row(head: Sequence[str], row: Mapping[str, str]) -> str:
    told = " ".join(f'data-{name}="{escape("|".join(parts(row[name])))}"' for name in FILTERS)
    cells = {name: escape(row[name]) for name in head}
    cells["method"] = f'<a href="{escape(row["url"])}"><code>{cells["method"]}</code></a>'
    return f"<tr {told}>{''.join(f'<td>{cell}</td>' for cell in cells.values())}</tr>"
