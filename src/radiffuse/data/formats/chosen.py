"""`--series`: which series of a DICOM folder are read."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ...errors import UserError
from .dicom_frames import Opened
from .dicom_values import harmless, text
from .pseudonyms import Choice
from .series_names import pseudonym_of

__all__ = ["chosen", "fits", "heading"]


def chosen(
    folder: Path, groups: Sequence[Sequence[Opened]], choice: Choice
) -> list[Sequence[Opened]]:
    """The series of which one word of the choice fits; all where it has no words.

    Raises:
        UserError: a word fits none; says what there is, without a name.
    """
    if not choice.series:
        return list(groups)
    names = [pseudonym_of(heading(group), group[0].file, folder) for group in groups]
    kept = set()
    for word in choice.series:
        fitting = {
            place for place, group in enumerate(groups) if fits(heading(group), names[place], word)
        }
        if not any(one.frames for place in fitting for one in groups[place]):
            there = [
                f"{name} ({_number(heading(group))}, {harmless(text(heading(group), 'Modality'))})"
                for name, group in zip(names, groups, strict=True)
                if any(one.frames for one in group)
            ]
            more = f" and {len(there) - 5} more" if len(there) > 5 else ""
            raise UserError(
                f"{folder}: --series {word}: no series of images has that UID, number, description, modality "
                f"or pseudonym; there are {', '.join(there[:5])}{more}; radiffuse inspect lists them"
            )
        kept |= fitting
    return [group for place, group in enumerate(groups) if place in kept]


def fits(header: Any, name: str, word: str) -> bool:
    """Whether a series is meant by a word.

    Args:
        header: of one of its files.
        name: its pseudonym.
        word: its SeriesInstanceUID, pseudonym or SeriesNumber, or a pattern (* and ? stand for any text and any
            letter; upper and lower case are one) of its SeriesDescription, its Modality, or MODALITY/DESCRIPTION.
    """
    if word in (name, text(header, "SeriesInstanceUID")):
        return True
    if word.isdecimal():
        return text(header, "SeriesNumber") == word
    modality, about = text(header, "Modality"), text(header, "SeriesDescription")
    pattern = word.casefold()
    shown = (about, modality, f"{modality}/{about}")
    return any(fnmatchcase(each.casefold(), pattern) for each in shown if each)


def heading(members: Sequence[Opened]) -> Any:
    """A header of a series: the first of an image, else the first that can be read, else None."""
    headers = [one.header for one in members if one.frames] or [one.header for one in members]
    return next((header for header in headers if header is not None), None)


def _number(header: Any) -> str:
    number = harmless(text(header, "SeriesNumber"))
    return f"number {number}" if number else "no number"
