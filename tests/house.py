"""Which module imports which, and a drawing of it: `python tests/house.py` writes docs/house.svg.

A room is a file or folder directly under src/radiffuse; an arrow goes from a room to one that it
imports, also inside functions. A room stands one floor above the highest that it imports.
"""

import ast
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src" / "radiffuse"
DRAWING = ROOT.parents[1] / "docs" / "house.svg"

Graph = dict[str, set[str]]


def modules(root: Path = ROOT) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if path != root / "__init__.py")


def name_of(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path, root: Path = ROOT) -> set[str]:
    """Modules of the package that a file imports anywhere, also inside functions."""
    package = ["radiffuse", *path.relative_to(root).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{stem}.{alias.name}" for alias in node.names}
    inside = {name.removeprefix("radiffuse.") for name in found if name.startswith("radiffuse.")}
    return {_longest_module(name, root) for name in inside} - {""}


def _longest_module(name: str, root: Path) -> str:
    """The module part of `module.attribute`; "" for an attribute of the package itself."""
    parts = name.split(".")
    while parts:
        place = root.joinpath(*parts)
        if place.with_suffix(".py").exists() or place.is_dir():
            return ".".join(parts)
        parts = parts[:-1]
    return ""


@cache
def graph() -> Graph:
    """What each module imports."""
    return {name_of(path): imports(path) - {name_of(path)} for path in modules()}


def room(module: str) -> str:
    return module.partition(".")[0]


def arrows() -> Graph:
    """What each room imports."""
    found: Graph = {room(module): set() for module in graph()}
    for module, known in graph().items():
        found[room(module)] |= {room(other) for other in known} - {room(module)}
    return found


def floors(known: Graph) -> dict[str, int]:
    """The floor of each room, 1 = the ground.

    Raises:
        ValueError: rooms import each other in a circle.
    """
    found: dict[str, int] = {}
    while len(found) < len(known):
        ready = [name for name in known if name not in found and known[name] <= found.keys()]
        if not ready:
            raise ValueError(f"a circle among {sorted(known.keys() - found.keys())}")
        found |= {name: 1 + max((found[o] for o in known[name]), default=0) for name in ready}
    return found


# --- the drawing -----------------------------------------------------------------------------------

WIDE, HIGH, ACROSS, DOWN, EDGE = 124, 44, 168, 104, 24


def drawing() -> str:
    """The house as SVG: floors from the top down, an arrow only where no longer way says the same."""
    known = arrows()
    level = floors(known)
    top = max(level.values())
    rows = [sorted(name for name in level if level[name] == floor) for floor in range(top, 0, -1)]
    width = 2 * EDGE + ACROSS * max(len(row) for row in rows)
    places = {
        name: (
            EDGE + (k + 0.5) * (width - 2 * EDGE) / len(row),
            EDGE + HIGH / 2 + DOWN * depth,
        )
        for depth, row in enumerate(rows)
        for k, name in enumerate(row)
    }
    height = 2 * EDGE + HIGH + DOWN * (top - 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="14" text-anchor="middle">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#68798a"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [
        _arrow(places[name], places[other])
        for name in sorted(known)
        for other in sorted(_direct(known, name))
    ]
    lines += [_box(name, *places[name]) for name in sorted(places)]
    return "\n".join([*lines, "</svg>", ""])


def _direct(known: Graph, name: str) -> set[str]:
    """Rooms that `name` imports and does not reach through another of them."""
    return {
        other for other in known[name] if not any(other in _reached(known, n) for n in known[name])
    }


def _reached(known: Graph, name: str) -> set[str]:
    return known[name].union(*(_reached(known, other) for other in known[name]))


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (u, v) = start, end
    y, v = y + HIGH / 2, v - HIGH / 2
    bend = (v - y) / 2
    path = f"M{x:g} {y:g}C{x:g} {y + bend:g} {u:g} {v - bend:g} {u:g} {v:g}"
    return f'<path d="{path}" fill="none" stroke="#68798a" marker-end="url(#head)"/>'


def _box(name: str, x: float, y: float) -> str:
    inside = sum(room(module) == name for module in graph())
    files = "1 file" if inside == 1 else f"{inside} files"
    return (
        f'<rect x="{x - WIDE / 2:g}" y="{y - HIGH / 2:g}" width="{WIDE}" height="{HIGH}" rx="6" '
        'fill="#eef3f7" stroke="#34495e"/>'
        f'<text x="{x:g}" y="{y - 2:g}" fill="#17222c">{escape(name)}</text>'
        f'<text x="{x:g}" y="{y + 14:g}" font-size="11" fill="#5a6b7b">{files}</text>'
    )


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
    print(DRAWING)
