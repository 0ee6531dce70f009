"""The pages of `radiffuse view`: a list, the report of one folder, two predictions case by case."""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ..errors import UserError
from ..report.document import document
from ..report.page import report_page
from ..report.predicted import strips
from ..report.source import read_source
from ..runs.run import CONFIG
from .lock import held
from .predictions import FILE
from .runs import row_of

__all__ = ["application"]

COOKIE = "radiffuse-token"
AGAIN = 10
"""Seconds after which the page of a run in training is read anew."""
_HOSTS = ("127.0.0.1", "localhost")
_MOST, _DEEP = 500, 6
"""Folders that are listed, and levels that are looked through."""


def application(root: Path, token: str, first: Callable[[], str] | None = None) -> FastAPI:
    """The application that shows what lies in `root`, to whoever has the token.

    Every answer is refused without it, to another host's name (a page elsewhere that had its name lead here), and
    for what lies outside of `root`, links followed. The first page is a list of the folder, or made by `first`.
    """
    root = root.resolve()
    app = FastAPI(openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        given = request.query_params.get("token") or request.cookies.get(COOKIE, "")
        if host not in _HOSTS or not secrets.compare_digest(given.encode(), token.encode()):
            return HTMLResponse("not for you: open the address that radiffuse printed", 403)
        if (
            "token" in request.query_params
        ):  # out of the address bar, into a cookie of this host alone
            response: Response = RedirectResponse(request.url.path)
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        else:
            response = await answer(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/")
    def index() -> HTMLResponse:
        return HTMLResponse(first() if first else _index(root))

    @app.get("/of")
    def of(path: str) -> HTMLResponse:
        return _answer(lambda: _report(_inside(root, path)))

    @app.get("/beside")
    def beside(one: str, other: str) -> HTMLResponse:
        return _answer(lambda: _beside(root, one, other))

    return app


def _answer(make: Callable[[], str]) -> HTMLResponse:
    try:
        return HTMLResponse(make())
    except UserError as error:
        line = escape(str(error))
        return HTMLResponse(document("Radiffuse", f'<p class="missing">{line}</p>{_BACK}'), 404)


_BACK = '<p><a href="/">all runs and predictions</a></p>'


def _inside(root: Path, path: str) -> Path:
    """The folder of that name below the root.

    Raises:
        UserError: there is none, links followed.
    """
    try:
        folder = (root / path).resolve()
        good = folder.is_relative_to(root) and folder.is_dir()
    except (OSError, ValueError):  # a name too long, or with a NUL
        good = False
    if not good:
        raise UserError("there is no such folder here")
    return folder


def _folders(root: Path, depth: int = 0) -> Iterator[Path]:
    """Folders with a run or with predictions, the inner ones behind the outer."""
    if (root / CONFIG).is_file() or (root / FILE).is_file():
        yield root
    if depth < _DEEP:
        for inner in sorted(path for path in root.iterdir() if path.is_dir()):
            if not inner.is_symlink() and inner.name[0] != ".":
                yield from _folders(inner, depth + 1)


def _index(root: Path) -> str:
    folders = [path for path, _ in zip(_folders(root), range(_MOST), strict=False)]
    runs = [path for path in folders if (path / CONFIG).is_file()]
    rest = [path for path in folders if path not in runs]
    rows = "".join(_run(root, path) for path in runs)
    head = "<tr><th>run</th><th>method</th><th>data</th><th>state</th><th>measured (baseline)</th></tr>"
    table = f'<div class="wide"><table>{head}{rows}</table></div>' if rows else "<p>No runs.</p>"
    listed = "".join(f"<li>{_link(root, path)}</li>" for path in rest) or "<li>none</li>"
    options = "".join(
        f'<option value="{escape(_name(root, path))}">{escape(_name(root, path))}</option>'
        for path in rest
    )
    choose = (
        f'<form action="/beside">Two of them case by case: <select name="one">{options}</select> '
        f'<select name="other">{options}</select> <button>compare</button></form>'
        if len(rest) > 1
        else ""
    )
    body = (
        f"<header><h1>{escape(root.name)}</h1></header><section><h2>Runs</h2>{table}</section>"
        f"<section><h2>Predictions and samples</h2><ul>{listed}</ul>{choose}</section>"
    )
    return document(f"{root.name} · Radiffuse", body, again=AGAIN if any(map(held, runs)) else 0)


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _link(root: Path, path: Path) -> str:
    name = _name(root, path)
    return f'<a href="/of?path={quote(name, safe="")}">{escape(name)}</a>'


def _run(root: Path, path: Path) -> str:
    row = row_of(path)
    cells = (row.method, row.data, row.state, row.number)
    return f"<tr><td>{_link(root, path)}</td>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>"


def _report(folder: Path) -> str:
    """The report of a folder, read anew while a command writes there."""
    page = report_page(folder, AGAIN if held(folder) else 0)
    return page.replace("<header>", f"{_BACK}<header>", 1)


def _beside(root: Path, one: str, other: str) -> str:
    """The strips of two folders of predictions, case by case."""
    sources = [read_source(_inside(root, name)) for name in (one, other)]
    found = [dict(strips(source)) for source in sources]
    common = [case for case in found[0] if case in found[1]]
    if not common:
        raise UserError(f"{one} and {other}: no case is shown in both")
    heads = [
        f"<b>{escape(name)}</b> {escape(s.name)}"
        for name, s in zip((one, other), sources, strict=True)
    ]
    rows = "".join(
        f"<section><h2>{escape(case)}</h2>"
        + "".join(f"<p>{head}</p>{strip[case]}" for head, strip in zip(heads, found, strict=True))
        + "</section>"
        for case in common
    )
    body = f'{_BACK}<header><h1>{len(common)} cases, twice</h1></header><div class="strips">{rows}</div>'
    return document("Radiffuse", body)
