"""What names and folders of image files say: names without endings, splits."""

import re
from collections.abc import Sequence
from pathlib import Path

from ..table import known_split
from .stored import ending

__all__ = ["slashed", "split_folders", "splits_in", "stem"]

_SPLIT_FOLDER = re.compile(
    r"(train(?:ing)?|val(?:id|idation)?|test(?:ing)?)(?:[_ -]?((?-i:[A-Z])))?", re.IGNORECASE
)
"""A folder of a split; or of one class of it, as trainA and testB are."""


def stem(path: Path) -> str:
    """The name of a file without its ending, ".nii.gz" as one; the name where the ending is unknown."""
    return path.name[: len(path.name) - len(ending(path))] or path.name


def slashed(folder: Path, value: str) -> str:
    """A path relative to `folder`, with slashes where Windows wrote it with backslashes."""
    return value.replace("\\", "/") if "\\" in value and not (folder / value).exists() else value


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
    found = [_SPLIT_FOLDER.fullmatch(part[0]) if part else None for part in parts]
    told = [each.groups() for each in found if each]
    if len(told) < len(parts):
        return None, list(parts)
    rest = [
        (*((letter,) if letter else ()), *part[1:])
        for (_, letter), part in zip(told, parts, strict=True)
    ]
    return tuple(known_split(split, str(root)) for split, _ in told), rest
