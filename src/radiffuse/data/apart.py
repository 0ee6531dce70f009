"""Results apart from data, so that the next command does not read them as more data."""

from pathlib import Path

from ..errors import UserError
from .formats.bids import is_bids
from .formats.nnunet import is_nnunet
from .opening import EMBEDDED

__all__ = ["check_apart"]

LISTS = ("cases.csv", "dataset.json")
"""Files of a data folder that name the others: what lies beside these is not read."""


def check_apart(out: Path | str, data: str) -> None:
    """Refuse to write into a folder of data whose files are all read, where the next command would take what is written
    for more of them.

    Args:
        out: folder to write.
        data: what is read; nothing is checked where it is made here, no folder, or one with a list of its files. Of
            BIDS and nnU-Net the folders that are read count.

    Raises:
        UserError: out is that folder, or lies in it.
    """
    folder, place = Path(data), Path(out).resolve()
    made = data.partition(":")[0] in EMBEDDED
    if made or not data or not folder.is_dir() or any((folder / name).is_file() for name in LISTS):
        return
    if not place.is_relative_to(folder.resolve()):
        return
    first = "".join(place.relative_to(folder.resolve()).parts[:1])
    if is_nnunet(folder) and not first.startswith(("images", "labels")):
        return
    if not is_nnunet(folder) and is_bids(folder) and not first.startswith("sub-"):
        return
    raise UserError(
        f"{out}: lies in the folder of the data, {folder}, where it would be read as more of them; name a folder "
        "outside with --out"
    )
