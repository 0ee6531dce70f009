"""A folder of DICOM files as a table, one case a series."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..columns import FileColumn
from ..copies import named
from ..image import Image
from ..table import Table, listener
from .burned_in import told_of_pixels
from .chosen import chosen
from .dicom import read_files, sorted_out, without_copies
from .dicom_frames import Opened, opened, placed
from .dicom_parts import parts
from .dicom_stack import refuse_gap
from .dicom_values import text
from .pseudonyms import EVERY, Choice
from .series_names import Series, called
from .stems import split_folders


@dataclass(frozen=True)
class SeriesColumn(FileColumn):
    """Cases that are DICOM series, or frames of files.

    Attributes:
        frames: the frames of each case; None where it is all of its files.
    """

    frames: tuple[tuple[int, ...] | None, ...] = ()

    def _read(self, row: int, notice: Callable[[str], None]) -> Image:
        return read_files(self.members[row], notice, self.frames[row])

    @cached_property
    def _first(self) -> dict[Path, int]:
        """The first case of each file, of which all its frames have the hash."""
        return {path: row for row, path in reversed(list(enumerate(self.paths)))}

    def hashed(self, row: int) -> str:
        frames = self.frames[row]
        if frames is None:
            return super().hashed(row)
        return f"{super().hashed(self._first[self.paths[row]])}-{'+'.join(map(str, frames))}"

    def stamp(self, row: int) -> str:
        return named(super().stamp(row), self.frames[row])


def open_dicom(folder: Path, files: Sequence[Path], choice: Choice = EVERY) -> Table | None:
    """A folder of DICOM files as a table with one case per series; None where it holds none.

    An X-ray series whose images have no place in space gives one case per image, a film one per
    frame, a series of several volumes in one place (echoes, times) one per volume. A file that
    holds no image, or a damaged one, is left out with a notice. Series of one PatientID are of one
    person; without it, those of one study (StudyInstanceUID). Folders train, val, test are splits.

    Args:
        folder, files: of the data set.
        choice: which series, and how they are called.

    Raises:
        UserError: no file is left, one has to be left out from the middle of a series, or no series is chosen.
    """
    notices: list[str] = []
    peeked = [one for file in files if (one := opened(file, peeking=True)) is not None]
    if not peeked:
        return None
    found = without_copies(peeked, listener(notices))
    if not any(one.frames for one in found):
        many = f" (and {len(found) - 1} more files)" if len(found) > 1 else ""
        raise UserError(found[0].why + many)
    groups = chosen(folder, by_series(found, listener(notices)), choice)
    return _table(folder, series_in(groups, listener(notices)), notices, choice)


def series_in(groups: Sequence[Sequence[Opened]], notice: Callable[[str], None]) -> list[Series]:
    """The cases that the files of each series make.

    Raises:
        UserError: a file has to be left out from the middle of a series.
    """
    series: list[Series] = []
    for members in groups:
        kept, lost = sorted_out(members)
        for one in lost:
            notice(f"{one.why}; it is left out")
        if kept and placed(kept[0].frames[0]):
            refuse_gap([frame for one in kept for frame in one.frames], lost)
            volumes = parts(kept)
            if len(volumes) > 1:
                where = " in one place" if volumes[0].frames is None else ""
                notice(
                    f"{kept[0].file}: its series holds {len(volumes)} volumes{where} "
                    f"({', '.join(part.name for part in volumes)}); each is a case"
                )
            for part in volumes:
                paths = tuple(one.file for one in part.members)
                series.append(Series(paths, _naming(part.members), part.frames, part.name))
            continue
        if kept and text(kept[0].header, "ImageOrientationPatient"):
            notice(
                f"{kept[0].file}: its ImagePositionPatient and ImageOrientationPatient place it nowhere; each image of "
                f"its series ({len(kept)}) is a case without geometry"
            )
        for film in kept:
            count = len(film.frames)
            if count == 1:
                series.append(Series((film.file,), film.header))
                continue
            notice(
                f"{film.file}: its frames do not say where they lie (a film); each one is a case"
            )
            series += [Series((film.file,), film.header, (frame,)) for frame in range(count)]
    return series


def _naming(files: Sequence[Opened]) -> Any:
    """The first header that names the patient, else the first."""
    named = (one.header for one in files if text(one.header, "PatientID"))
    return next(named, files[0].header)


def by_series(found: Sequence[Opened], notice: Callable[[str], None]) -> list[list[Opened]]:
    """Files by SeriesInstanceUID, without it by folder; apart where they name several patients."""
    groups: dict[str, list[Opened]] = defaultdict(list)
    for one in found:
        uid = "" if one.header is None else text(one.header, "SeriesInstanceUID")
        groups[uid or str(one.file.parent)].append(one)
    apart: list[list[Opened]] = []
    for members in groups.values():
        people = _people(members)
        if len(set(people)) == 1:
            apart.append(members)
            continue
        notice(f"{members[0].file}: its series is of several patients; each has its own")
        for person in sorted(set(people)):
            apart.append([m for m, own in zip(members, people, strict=True) if own == person])
    return apart


def _people(members: Sequence[Opened]) -> list[str]:
    """Whose each file of a series is; files that name nobody go with the only one who is named."""
    for name in ("PatientID", "StudyInstanceUID"):
        found = ["" if one.header is None else text(one.header, name) for one in members]
        named = {person for person in found if person}
        if named:
            return [*named] * len(members) if len(named) == 1 else found
    return [""] * len(members)


def _table(folder: Path, series: Sequence[Series], notices: list[str], choice: Choice) -> Table:
    column = SeriesColumn(
        tuple(one.files[0] for one in series),
        "image",
        listener(notices),
        members=tuple(one.files for one in series),
        frames=tuple(one.frames for one in series),
    )
    cases = called(series, folder, choice.names)
    notices += [f"{folder}: {line}" for line in cases.told]
    notices += told_of_pixels(folder, [one.header for one in series])
    split_of, _ = split_folders(column.paths, folder)
    return Table(
        str(folder),
        cases.ids,
        {"image": column},
        cases.patients,
        split_of,
        notices=notices,
        people=cases.people,
    )
