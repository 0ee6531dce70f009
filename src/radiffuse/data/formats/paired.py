"""Images and their masks in one folder, or in two beside each other, as many sets have them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .dicom_seg import is_segmentation
from .stems import stem

__all__ = ["MASKS", "Beside", "Parts", "check_no_mask_series", "check_no_masks", "paired"]

MASKS = re.compile(
    r"(.*[\W_])?(masks?|labels?|segs?|segmentations?|gts?|ground[ _-]?truths?|annotations?|contours?)",
    re.IGNORECASE,
)
"""What folders of masks are called."""
_MARKED = re.compile(r"(.+?)[_.-](mask|seg|segmentation|gt|groundtruth|annotation)", re.IGNORECASE)
"""The name of a mask beside its image: 12_mask.png."""

_ENDS = re.compile(
    r"(.*[\W_])?(masks?|segs?|segmentations?|gts?|ground[_-]?truths?|annotations?)\d{0,2}([\W_].*|\d*)",
    re.IGNORECASE,
)
"""Names that say of a file that it is a mask, whatever image it belongs to."""

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Beside:
    """Several files of each case.

    Attributes:
        columns: the files of each column, all in one order of cases.
        parts: the folders of each case, without the one that says which column it holds.
        names: what each case is called.
    """

    columns: dict[str, tuple[Path, ...]]
    parts: tuple[Parts, ...]
    names: tuple[str, ...]


def paired(files: Sequence[Path], root: Path) -> Beside | None:
    """Images with their masks; None where nothing says that some files are masks.

    Masks lie in a folder masks (labels, segmentations ...) beside the one of images and have the names of these,
    also with _mask or _seg behind; or they lie beside their images as NAME_mask.

    Raises:
        UserError: an image without a mask, a mask without an image, several folders of either.
    """
    parts = [file.relative_to(root).parts[:-1] if root.is_dir() else () for file in files]
    level = _level(parts, root)
    there = {(part, stem(file)) for file, part in zip(files, parts, strict=True)}
    images: dict[tuple[Parts, str], Path] = {}
    masks: dict[tuple[Parts, str], Path] = {}
    for file, part in zip(files, parts, strict=True):
        name, marked = stem(file), _MARKED.fullmatch(stem(file))
        if level is None:
            mask = marked is not None and (part, marked[1]) in there
        else:
            mask = _is_masks(part, level)
            part = (*part[:level], *part[level + 1 :])
        key = (part, marked[1] if mask and marked else name)
        other = (masks if mask else images).setdefault(key, file)
        if other != file:
            raise UserError(
                f"{file}: pairs with what {other} pairs with; name pairs in a cases.csv"
            )
    if not masks:
        return None
    lone = [*(images[key] for key in images if key not in masks)]
    lone += [*(masks[key] for key in masks if key not in images)]
    if lone:
        raise UserError(
            f"{root}: holds images and masks of their names, and {lone[0]} has no other half ({len(lone)} such); "
            "name what belongs to a case in a cases.csv"
        )
    columns = {"image": tuple(images.values()), "mask": tuple(masks[key] for key in images)}
    return Beside(columns, tuple(part for part, _ in images), tuple(name for _, name in images))


def check_no_masks(files: Sequence[Path], root: Path) -> None:
    """Refuse images of which some are called masks, with nothing that says whose.

    Raises:
        UserError: some are and others are not.
    """
    masks = [file for file in files if _ENDS.fullmatch(stem(file))]
    if 0 < len(masks) < len(files):
        raise UserError(
            f"{root}: {len(masks)} of {len(files)} images are called masks ({masks[0].relative_to(root)} ...), and of "
            "which others is not for us to say; name what belongs to a case in a cases.csv"
        )


def check_no_mask_series(slices: Sequence[Path], root: Path) -> None:
    """Refuse DICOM images of which some lie in folders of masks; segmentation objects say whose they are.

    Raises:
        UserError: some do and others do not.
    """
    masks = [
        file
        for file in slices
        if any(MASKS.fullmatch(part) for part in file.relative_to(root).parts[:-1])
    ]
    if 0 < len(masks) < len(slices) and not all(map(is_segmentation, masks)):
        raise UserError(
            f"{root}: {len(masks)} of {len(slices)} DICOM files lie in folders called masks "
            f"({masks[0].relative_to(root)} ...); name image and mask of each case in a cases.csv"
        )


def _is_masks(part: Parts, level: int) -> bool:
    return len(part) > level and MASKS.fullmatch(part[level]) is not None


def _level(parts: Sequence[Parts], root: Path) -> int | None:
    """How deep the folder of masks stands beside that of images; None where there is none."""
    for level in range(max(map(len, parts), default=0)):
        masks = {part[level] for part in parts if _is_masks(part, level)}
        others = {"".join(part[level : level + 1]) for part in parts if not _is_masks(part, level)}
        if not masks or not others:
            continue
        if len(masks) > 1 or len(others) > 1:
            told = ", ".join(sorted(masks | {other for other in others if other}))
            raise UserError(
                f"{root}: holds folders {told}; which of them belong together is not for us to say: name images and "
                "masks in a cases.csv"
            )
        return level
    return None
