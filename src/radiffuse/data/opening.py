"""Which reader a data set has, by its name or by what lies at its path."""

import re
from pathlib import Path

from ..errors import UserError, fitting
from .formats.pseudonyms import Choice
from .table import Table

__all__ = ["table_of"]


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
    kind = path.partition(":")[0]
    if kind in ("brains", "brains3d"):
        from .embedded.sets import open_brains

        return open_brains(path, seed)
    if kind == "backbones":
        from .embedded.backbones import open_backbones

        return open_backbones(path, seed)
    if kind == "shapes3d":
        from .embedded.shapes import open_shapes

        return open_shapes(path, seed)
    if kind == "vessels":
        from .embedded.vessels import open_vessels

        return open_vessels(path, seed)
    from .formats.layouts import open_table

    if re.search(r"(?:^|/)(?:https?|ftp|s3|gs|file):/", path):
        raise UserError(f"{path}: is an address, and nothing is downloaded; name a file or folder")
    with fitting(path):
        return open_table(Path(path), choice)
