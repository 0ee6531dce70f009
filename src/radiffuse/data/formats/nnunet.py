"""nnU-Net raw data: imagesTr/CASE_0000.nii.gz, one file a channel, and labelsTr/CASE.nii.gz."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..columns import Column, names_mask
from ..table import Table, file_column, labels_named
from .stems import stem
from .stored import ending
from .who import people_in_names, told

__all__ = ["is_nnunet", "open_nnunet"]

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_PARTS = {"Tr": "train", "Ts": "test"}

Files = dict[str, dict[int, Path]]


def is_nnunet(folder: Path) -> bool:
    """Whether `folder` has the folders of images of an nnU-Net (or Decathlon) data set, or one of them."""
    return any((folder / f"images{part}").is_dir() for part in _PARTS)


def open_nnunet(folder: Path, content: Mapping[str, Any]) -> Table:
    """A folder imagesTr with labelsTr, and imagesTs with labelsTs where there are any.

    A case with several channels has one column each, named by "channel_names" of dataset.json (or
    "modality", version 1), else channel_0000 and so on; a single channel is `image`. Cases without a
    mask are left out if others have one, with a notice. The split is the folder's where cases of
    imagesTs stay, else made from patients.

    Args:
        folder: the data set.
        content: of its dataset.json; {} without one.

    Raises:
        UserError: no image, or cases that differ in their channels.
    """
    masks = {part: _masks(folder / f"labels{part}") for part in _PARTS}
    found = [(part, _images(folder / f"images{part}", masks[part])) for part in _PARTS]
    cases = [(part, case, files) for part, images in found for case, files in images.items()]
    if not cases:
        raise UserError(f"{folder}: imagesTr and imagesTs hold no image")
    numbers = sorted({number for _, _, files in cases for number in files})
    for part, case, files in cases:
        if sorted(files) != numbers:
            missing = next(number for number in numbers if number not in files)
            raise UserError(
                f"{folder}: case {case} of images{part} has no channel _{missing:04d}, others have"
            )
    notices: list[str] = []
    masked = [(part, case, files) for part, case, files in cases if case in masks[part]]
    if masked and len(masked) < len(cases):
        left = len(cases) - len(masked)
        notices.append(f"{folder}: {left} cases without a mask are left out")
        cases = masked
    columns: dict[str, Column] = {}
    for name, number in zip(_names(content, numbers), numbers, strict=True):
        columns[name] = file_column([files[number] for _, _, files in cases], name, notices)
    if masked:
        labels = [masks[part][case] for part, case, _ in cases]
        columns["mask"] = file_column(labels, "mask", notices)
    ids = tuple(case for _, case, _ in cases)
    (twice, times), *_ = Counter(ids).most_common(1)
    if times > 1:
        raise UserError(f"{folder}: case {twice} stands in imagesTr and in imagesTs")
    splits = tuple(_PARTS[part] for part, _, _ in cases)
    given = splits if "test" in splits else None
    patients = None if given else people_in_names(ids, ids)
    notices.append(f"{folder}: {told(patients)}; name patients in a cases.csv")
    called = {"mask": labels_named(content)}
    return Table(str(folder), ids, columns, patients, given, mask_names=called, notices=notices)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if ending(p) and not p.name.startswith("."))


def _images(folder: Path, masks: Mapping[str, Path]) -> Files:
    """Files of each case by channel; a name without _0000, or that a mask has too, is a case."""
    found: Files = {}
    files = _files(folder)
    named = {file: _CHANNEL.fullmatch(stem(file)) for file in files if stem(file) not in masks}
    plain = next((file for file in files if not named.get(file)), None)
    suffixed = plain is None
    if plain is not None:
        _check_mixture(plain, named, masks)
    for file in files:
        name = _CHANNEL.fullmatch(stem(file)) if suffixed else None
        case, number = (name[1], int(name[2])) if name else (stem(file), 0)
        other = found.setdefault(case, {}).setdefault(number, file)
        if other != file:
            raise UserError(f"{file}: is channel {number} of {case}, and so is {other.name}")
    return found


def _check_mixture(
    plain: Path, named: Mapping[Path, re.Match[str] | None], masks: Mapping[str, Path]
) -> None:
    """Refuse a file without a channel among such with one: those whose mask says so, or _0000 where none has a mask.

    Raises:
        UserError: names both.
    """
    for other, name in named.items():
        if name and (name[1] in masks or (not masks and int(name[2]) == 0)):
            raise UserError(
                f"{plain}: has no channel number in its name, as {other.name} has; name all files of the folder alike, "
                "NAME_0000 and so on"
            )


def _masks(folder: Path) -> dict[str, Path]:
    return {stem(file): file for file in _files(folder)}


def _names(content: Mapping[str, Any], numbers: list[int]) -> list[str]:
    """A column name for each channel."""
    if len(numbers) == 1:
        return ["image"]
    given = content.get("channel_names") or content.get("modality") or {}
    given = given if isinstance(given, dict) else {}
    names = ["_".join(str(given.get(str(number), "")).split()) for number in numbers]
    clear = all(name and not names_mask(name) for name in names) and len(set(names)) == len(names)
    return names if clear else [f"channel_{number:04d}" for number in numbers]
