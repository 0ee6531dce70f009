"""Which reader a data set has, by its name or by what lies at its path."""

import re
from importlib import import_module
from pathlib import Path

from ..errors import UserError, fitting
from .formats.pseudonyms import Choice
from .table import Table

__all__ = ["table_of"]

EMBEDDED = {
    "brains": "sets:open_brains",
    "brains3d": "sets:open_brains",
    "backbones": "backbones:open_backbones",
    "shapes3d": "shapes:open_shapes",
    "vessels": "vessels:open_vessels",
}
"""What comes with the library, and what makes it, as "module:function" of `embedded`."""


def table_of(path: str, seed: int, choice: Choice) -> Table:
    """The table of a data set.

    Raises:
        UserError: as `open_cases`; series are chosen where there are none.
    """
    table = _opened(path, seed, choice)
    if choice.series and not any(getattr(c, "members", ()) for c in table.columns.values()):
        raise UserError(f"{path}: holds no DICOM series for --series {choice.series[0]} to choose")
    return table


def _opened(path: str, seed: int, choice: Choice) -> Table:
    if (kind := path.partition(":")[0]) in EMBEDDED:
        module, _, name = EMBEDDED[kind].partition(":")
        made: Table = getattr(import_module(f".embedded.{module}", __package__), name)(path, seed)
        return made
    from .formats.layouts import open_table

    if re.search(r"(?:^|/)(?:https?|ftp|s3|gs|az|hf|file):/", path):
        raise UserError(f"{path}: is an address, and nothing is downloaded; name a file or folder")
    if re.match(r"(?:dicomwebs?|dimses?):/", path):
        raise UserError(f"{path}: is a node; train, predict and evaluate fetch from there")
    with fitting(path):
        return open_table(Path(path), choice)
