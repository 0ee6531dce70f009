"""What names and folders of image files say: names without endings, splits."""

from collections.abc import Sequence
from pathlib import Path

from ..table import known_split
from .stored import ending

__all__ = ["split_folders", "splits_in", "stem"]

_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def stem(path: Path) -> str:
    """The name of a file without its ending, ".nii.gz" as one; the name where the ending is unknown."""
    return path.name[: len(path.name) - len(ending(path))] or path.name


def split_folders(
    files: Sequence[Path], root: Path
) -> tuple[tuple[str, ...] | None, list[tuple[str, ...]]]:
    """The split of each file where all lie in folders train, val, test, and its other folders.

    Returns:
        Splits, or None; and the names of the folders below `root`, without that of the split.
    """
    return splits_in(
        [file.relative_to(root).parts[:-1] if root.is_dir() else () for file in files], root
    )


def splits_in(
    parts: Sequence[tuple[str, ...]], root: Path
) -> tuple[tuple[str, ...] | None, list[tuple[str, ...]]]:
    """The same of the folders of files."""
    if not all(part and part[0].lower() in _SPLIT_FOLDERS for part in parts):
        return None, list(parts)
    return tuple(known_split(part[0], str(root)) for part in parts), [part[1:] for part in parts]
