"""BIDS: sub-NAME/ses-NAME/anat/sub-NAME_ses-NAME_T1w.nii.gz, with masks among its derivatives."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ..columns import Column
from ..table import Table, file_column
from .stems import stem
from .stored import ending
from .who import subject_of

__all__ = ["is_bids", "open_bids"]

_ENTITY = re.compile(r"([A-Za-z0-9]+)-([A-Za-z0-9+]+)")
_OWN_SPACES = ("orig", "individual", "T1w", "T2w", "native")
"""Spaces of derivatives that are the image's own."""
_MASK_SUFFIXES = {"mask": "mask", "roi": "mask", "dseg": "seg"}
_OF_A_CASE = ("sub", "ses", "run")


@dataclass(frozen=True)
class _File:
    """A file name taken apart.

    Attributes:
        path: of the file.
        entities: "ses" -> "01" and the like, in the order of the name.
        suffix: what the file shows: "T1w", "mask".
        kind: its folder: "anat", "func".
        of: suffix of the image that a mask is of, where its name keeps it.
    """

    path: Path
    entities: dict[str, str]
    suffix: str
    kind: str
    of: str = ""

    @property
    def case(self) -> str:
        """Subject, session and run."""
        said = self.entities
        return "_".join(f"{key}-{said[key]}" for key in _OF_A_CASE if key in said)

    @property
    def column(self) -> str:
        """What tells its images from others of the same case."""
        others = [f"{k}-{v}" for k, v in self.entities.items() if k not in _OF_A_CASE]
        return "_".join([*others, _MASK_SUFFIXES.get(self.suffix, self.suffix)])


def is_bids(folder: Path) -> bool:
    """Whether sub-NAME folders hold images whose names begin with that sub-NAME."""
    return bool(_raw(folder))


def open_bids(folder: Path) -> Table:
    """Anatomical images (or the one other kind there is) of a BIDS folder.

    A case is a subject's session (and run); its images are columns by suffix. Patients are subjects.
    The image that most cases have makes the cases, an image or mask that some of these lack is left
    out. A mask beside them in derivatives, on the image's own grid, is `mask`; cases without it
    are left out where at least half have one. Each is said in a notice.

    Raises:
        UserError: several kinds of images and none anatomical, or one image named twice.
    """
    notices: list[str] = []
    files = _of_one_kind(_raw(folder), folder, notices)
    common = Counter(file.column for file in files)
    first = max(common, key=lambda name: (common[name], name))
    images = {name: _by_case(files, name) for name in sorted(common)}
    masks, others = _masks(folder, files)
    if others:
        notices.append(
            f"{folder}: derivatives hold {len(others)} images that by their names are no masks on the grid of the "
            f"images, as {others[0].relative_to(folder).as_posix()}; they are passed over, a cases.csv names them"
        )
    cases = sorted(images[first])
    half = len(cases) / 2
    lone = [n for n, found in masks.items() if sum(case in found for case in cases) >= half]
    if len(lone) == 1:
        with_mask = [case for case in cases if case in masks[lone[0]]]
        if len(with_mask) < len(cases):
            left = len(cases) - len(with_mask)
            notices.append(f"{folder}: {left} sessions without {lone[0]} are left out")
        cases = with_mask
    columns: dict[str, Column] = {}
    for name, found in [*images.items(), *masks.items()]:
        there = sum(case in found for case in cases)
        if there < len(cases):
            notices.append(
                f"{folder}: {name} is there for {there} of {len(cases)} sessions and is left out; a "
                "cases.csv that names these cases uses it"
            )
            continue
        key = "mask" if len(lone) == 1 and name == lone[0] else name
        columns[key] = file_column([found[case] for case in cases], key, notices)
    patients = tuple(case.partition("_")[0] for case in cases)
    count = len(set(patients))
    notices.append(
        f"{folder}: each subject counts as one person ({count}, in {len(cases)} sessions)"
    )
    return Table(str(folder), tuple(cases), columns, patients, notices=notices)


def _raw(folder: Path) -> list[_File]:
    """Images below sub-NAME folders; none where one of them is not named as BIDS has it."""
    found = []
    for subject in sorted(folder.glob("sub-*")):
        for file in sorted(p for p in subject.rglob("*") if ending(p) and p.is_file()):
            if file.name.startswith("."):
                continue
            taken = _parsed(file)
            if taken is None or f"sub-{taken.entities['sub']}" != subject.name:
                return []
            found.append(taken)
    return found


def _parsed(file: Path, suffixes: Collection[str] = ()) -> _File | None:
    """A name taken apart, in which one of `suffixes` may stand before the own one; None of other names."""
    *pairs, suffix = stem(file).split("_")
    of = next((pair for pair in pairs if pair in suffixes), "")
    if of:
        pairs.remove(of)
    entities = [_ENTITY.fullmatch(pair) for pair in pairs]
    if not entities or not all(entities) or not suffix.isalnum():
        return None
    said = {found[1]: found[2] for found in entities if found is not None}
    return _File(file, said, suffix, file.parent.name, of) if "sub" in said else None


def _of_one_kind(files: Sequence[_File], folder: Path, notices: list[str]) -> list[_File]:
    kinds = Counter(file.kind for file in files)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    if len(kinds) == 1:
        return list(files)
    if "anat" not in kinds:
        raise UserError(
            f"{folder}: holds several kinds of images ({told}); name them in a cases.csv"
        )
    notices.append(f"{folder}: of {told} images those of anat are read; a cases.csv names others")
    return [file for file in files if file.kind == "anat"]


def _by_case(files: Sequence[_File], column: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        if file.column == column:
            other = found.setdefault(file.case, file.path)
            if other != file.path:
                raise UserError(f"{file.path}: is {column} of {file.case}, and so is {other}")
    return found


def _masks(folder: Path, images: Sequence[_File]) -> tuple[dict[str, dict[str, Path]], list[Path]]:
    """Masks on the grid of the images, by column and case; and what else derivatives hold."""
    files: list[_File] = []
    others: list[Path] = []
    subjects, suffixes = ({image.entities["sub"] for image in images}, {i.suffix for i in images})
    for path in sorted((folder / "derivatives").rglob("*")):
        if path.name.startswith(".") or not ending(path) or not path.is_file():
            continue
        file = _parsed(path, suffixes) if subject_of(path.parts) is not None else None
        if file is not None and _is_mask(file, subjects):
            files.append(file)
        else:
            others.append(path)
    named = [_mask_name(file) for file in files]
    return {
        name: _by_case(
            [_as(file, name) for file, own in zip(files, named, strict=True) if own == name], name
        )
        for name in sorted(set(named))
    }, others


def _is_mask(file: _File, subjects: Collection[str]) -> bool:
    own = file.entities.get("space", "orig") in _OWN_SPACES
    return own and file.suffix in _MASK_SUFFIXES and file.entities["sub"] in subjects


def _mask_name(file: _File) -> str:
    """ "lesion_mask" of ..._label-lesion_mask: a name that is known to be a mask's."""
    what = file.entities.get("label") or file.entities.get("desc")
    return "_".join(filter(None, (file.of, what, _MASK_SUFFIXES[file.suffix])))


def _as(file: _File, column: str) -> _File:
    own = {key: value for key, value in file.entities.items() if key in _OF_A_CASE}
    return _File(file.path, own, column, file.kind)
