"""The documentation runs: its Python blocks, its links, its commands' names."""

import importlib
import re
from pathlib import Path

import pytest

import lists
from radiffuse import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|\s|`)(?:\.venv/bin/)?(?<!import )radiffuse (?!import)([a-z]+)(?=[\s`])")
LINK = re.compile(r"\]\(([^)#\s]+)\)")


def blocks():
    for page in PAGES:
        for index, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8"))):
            yield pytest.param(match[1], id=f"{page.stem}-{index}")


@pytest.mark.parametrize("code", list(blocks()))
def test_python_blocks_run(code, tmp_path, monkeypatch):
    if "runs/" in code:
        pytest.skip("needs a trained run; shown, not run")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<documentation>", "exec"), {"__name__": "documentation"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page):
    targets = [t for t in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in t]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_exist(page):
    shown = set(COMMAND.findall(page.read_text(encoding="utf-8")))
    assert shown <= set(cli.COMMANDS), shown - set(cli.COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_methods_are_listed_as_the_rows_have_them(page):
    text = page.read_text(encoding="utf-8")
    assert text == lists.made(text), "python tests/lists.py writes it anew"


def test_the_pages_of_results_are_those_of_the_records(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    results_page = importlib.import_module("results_page")
    found = results_page.records()
    made = {"measured.md": results_page.page(found)}
    made["results.md"] = results_page.summary(found, results_page.cards())
    for name, text in made.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, name
