"""The frame of every page: its head, its style, its end."""

import re
from html import escape
from importlib.resources import files

__all__ = ["document"]

_TURNING = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
"""Control characters, and those that turn the direction in which what follows is shown: a name in the data could
turn the numbers beside it around."""

NOT_FOR = "For research. Not a medical device: nothing here may guide the care of a patient."


def document(title: str, body: str, *, more: str = "", again: int = 0) -> str:
    """A whole HTML document.

    Args:
        title: of the window.
        body: HTML between head and foot.
        more: HTML behind the line at the foot.
        again: seconds after which a browser reads it anew; 0: never.
    """
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    refresh = f'<meta http-equiv="refresh" content="{again}">\n' if again else ""
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n{refresh}'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n<footer>{NOT_FOR}{more}</footer>\n</main>\n</body>\n</html>\n"
    )
    return _TURNING.sub("?", page)
