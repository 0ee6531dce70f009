"""DICOM: series in geometric order, as real values, with their place in space."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from filecmp import cmp
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ..image import Image
from .burned_in import suspicion
from .dicom_frames import Frame, Opened, count_frames, opened, placed
from .dicom_pixels import decoded, real_values
from .dicom_stack import affine_of, ordered, refuse_gap
from .dicom_values import text, whole
from .stored import as_tensor, silent

Notice = Callable[[str], None]


def read_series(path: Path, *, notice: Notice = silent) -> Image:
    """Read one series (a folder, or one file) as `(C, rows, columns[, slices])`.

    Slices, or the frames of an enhanced object or a dose, are ordered by their place along the
    normal, never by file name. The affine of index (row r, column c, slice s) is, in DICOM's LPS
    frame (PS3.3 C.7.6.2.1.1), p = p_0 + r d_r v + c d_c u + s (p_last - p_0)/(n - 1), turned to RAS;
    u and v are the two halves of ImageOrientationPatient, d_r and d_c the PixelSpacing. Values are
    slope * stored + intercept, or those of the modality's table: whole numbers where slope and
    intercept are, else float32. MONOCHROME1 is turned over so that bright is high, a palette gives
    colours, padding takes the lowest value of the rest. An image without place in space has no affine.

    Files of a folder that hold no image are left out with a notice.

    Raises:
        UserError: no or several series, slices missing (named), doubled, tilted or of different
            size, a film, no pixel data, or a compression that cannot be decoded.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = without_copies([one for file in files if (one := opened(file)) is not None], notice)
    there = [one for one in found if one.frames]
    if not there:
        raise UserError(found[0].why if found else f"{path}: holds no readable DICOM image")
    series = {text(one.header, "SeriesInstanceUID") for one in there}
    if len(series) > 1:
        raise UserError(f"{path}: holds {len(series)} DICOM series; give each its own folder")
    if why := suspicion(there[0].header):
        notice(
            f"{path}: its pixels may show names or dates ({why}); nothing here removes what is drawn into an image"
        )
    return build(found, path, notice)


def read_files(
    files: Sequence[Path], notice: Notice = silent, frames: Sequence[int] | None = None
) -> Image:
    """The image of the files of one series, wherever they lie; of some frames of a file where these are named.

    Raises:
        UserError: as `read_series`.
    """
    if frames is None:
        found = [one for file in files if (one := opened(file)) is not None]
    else:
        film = _film(files[0], files[0].stat().st_mtime_ns)
        found = [] if film is None else [film]
    path = files[0].parent if len(files) > 1 else files[0]
    if not any(one.frames for one in found):
        raise UserError(found[0].why if found else f"{path}: holds no readable DICOM image")
    if frames is not None:
        found = [replace(found[0], frames=tuple(found[0].frames[frame] for frame in frames))]
    return build(found, path, notice)


@lru_cache(maxsize=2)
def _film(file: Path, changed: int) -> Opened | None:
    """A file whose frames are asked for one after the other, as it was when last changed."""
    return opened(file)


def build(found: Sequence[Opened], path: Path, notice: Notice = silent) -> Image:
    """One image from the files of one series; see `read_series`."""
    kept, lost = sorted_out(found)
    for one in lost:
        notice(f"{one.why}; it is left out")
    frames = [frame for one in kept for frame in one.frames]
    _one_size(frames, path)
    if not placed(frames[0]):
        if len(frames) > 1:
            raise UserError(_without_place(frames, path))
        return _image(frames, None, notice)
    refuse_gap(frames, lost)
    if (worlds := len({_world(frame.header) for frame in frames} - {""})) > 1:
        notice(
            f"{path}: its slices name {worlds} frames of reference (FrameOfReferenceUID), as if each were measured in "
            "a world of its own; they are stacked by their places all the same"
        )
    keyed, step = ordered(frames, path)
    affine = affine_of(keyed[0], step)
    if affine is None:
        notice(f"{path}: does not say the size of its pixels (PixelSpacing); it has no geometry")
    return _image(keyed, affine, notice)


def without_copies(found: Sequence[Opened], notice: Notice) -> list[Opened]:
    """Files without those that are another one byte for byte, as where a folder was copied into another."""
    kept: list[Opened] = []
    copies: list[str] = []
    first: dict[str, list[Path]] = defaultdict(list)
    for one in found:
        twins = first[text(one.header, "SOPInstanceUID") if one.frames else ""]
        twin = next(
            (file for file in twins if one.frames and cmp(file, one.file, shallow=False)), None
        )
        if twin is None:
            kept.append(one)
            twins.append(one.file)
        else:
            copies.append(f"{one.file}: is a copy of {twin}; it is left out")
    if copies:
        notice(copies[0] + (f", and {len(copies) - 1} more such" if len(copies) > 1 else ""))
    return kept


def sorted_out(found: Sequence[Opened]) -> tuple[list[Opened], list[Opened]]:
    """Files of a series that make its image, and those left out.

    Where some say where they lie the others cannot stand among them.
    """
    usable = [one for one in found if one.frames]
    if not any(all(map(placed, one.frames)) for one in usable):
        return usable, [one for one in found if not one.frames]
    kept, lost = [], []
    for one in found:
        if one.frames and all(map(placed, one.frames)):
            kept.append(one)
        else:
            lost.append(one.unplaced() if one.frames else one)
    return kept, lost


def _one_size(frames: Sequence[Frame], path: Path) -> None:
    sizes = {(int(frame.header.Rows), int(frame.header.Columns)) for frame in frames}
    if len(sizes) > 1:
        told = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes))
        raise UserError(f"{path}: slices of one series differ in size: {told}")


def _without_place(frames: Sequence[Frame], path: Path) -> str:
    if count_frames(frames[0].header) > 1:
        return (
            f"{frames[0].file}: holds {count_frames(frames[0].header)} frames that do not say where "
            "they lie (a film); as a data set of its own it gives one case a frame"
        )
    return (
        f"{path}: {len(frames)} DICOM images do not say where they lie "
        "(ImagePositionPatient); give them one by one"
    )


def _image(frames: Sequence[Frame], affine: np.ndarray | None, notice: Notice) -> Image:
    values, paddings = [], []
    heard: set[str] = set()
    whole_files: dict[Path, np.ndarray] = {}
    for frame in frames:
        file, header = frame.file, frame.header
        if len(frames) == 1 or count_frames(header) == 1:
            stored = decoded(file, header, frame.index)[0]
        else:
            if file not in whole_files:
                whole_files[file] = decoded(file, header)
            stored = whole_files[file][frame.index]
        told: list[str] = []
        array, padding = real_values(frame, stored, told.append)
        for line in told:  # once of a series, not of each slice
            if (what := line.removeprefix(str(file))) not in heard:
                heard.add(what)
                notice(line)
        values.append(array)
        paddings.append(np.zeros(array.shape[1:], bool) if padding is None else padding)
    colours = {len(array) for array in values}
    if len(colours) > 1:
        raise UserError(
            f"{frames[0].file.parent}: some slices of a series are grey, some in colour"
        )
    data = np.stack(values, axis=-1)
    padding = np.stack(paddings, axis=-1)
    if padding.any() and not padding.all():
        data[:, padding] = data[:, ~padding].min()
    if data.dtype == np.float64:
        data = data.astype(np.float32)
    if len(frames) == 1:
        data = data[..., 0]
    place = None if affine is None else torch.from_numpy(affine)
    header = frames[0].header
    modality = text(header, "Modality") or None
    files = tuple(dict.fromkeys(frame.file for frame in frames))
    some = len(files) == 1 and len(frames) < count_frames(header)
    own = tuple(frame.index for frame in frames) if some else None
    limits = _limits(header, data)
    return Image(
        as_tensor(data),
        place,
        modality,
        limits,
        ".dcm",
        files=files,
        frames=own,
        world=_world(header),
    )


def _world(header: Any) -> str:
    return text(header, "FrameOfReferenceUID")


def _limits(header: Any, data: np.ndarray) -> tuple[float, float] | None:
    """What 8 bits can hold, where that is what they are stored in."""
    if data.dtype != np.uint8:
        return None
    bits = 8 if len(data) > 1 else whole(header, "BitsStored", 1, 8) or 8
    return 0.0, float(2**bits - 1)
