"""Array files: NAME.npz with one case per row, MedMNIST, NAME.npy."""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..columns import HAIR, ArrayColumn, Column, Kind, names_mask, names_raw
from ..rows import RowsColumn, StoredArray, end_to_end
from ..table import (
    DESCRIBING,
    Table,
    describing,
    labels_from,
    labels_from_text,
    listener,
    numbered,
    persons,
    row_ids,
    splits_of,
    strings,
)
from .array_files import check_sizes, declared, left_on_disk, told_of
from .array_kspace import kspace_column
from .stored import as_tensor, check_regular

Array = np.ndarray | StoredArray

HELD = (*DESCRIBING, "label", "train_labels", "val_labels", "test_labels")
"""What is looked at in whole, whatever its size."""
AXES = ("NHW", "NDHW", "NCHW", "NHWC", "NCDHW", "NDHWC")
"""What the axes of images may be: cases, depth, rows, columns; and channels, first or last."""
DAMAGED = (OSError, EOFError, ValueError, KeyError, RuntimeError, SyntaxError, TokenError)
"""What NumPy raises where a file is no NumPy file: its headers are Python, its archives may be encrypted."""
FEW = 16
"""An axis no longer than this, and than half of the others, may be channels as well as slices."""


def open_arrays(path: Path) -> Table:
    """Read NAME.npz (or .npy: one array, `image`).

    Every array shares its first axis. `split`, `patient`, `case`, `slice`, `label_name` (and other spellings, see
    `table.DESCRIBING`) are metadata; all else is data. Images are `(N, *S)`, or have an axis of 1 or 3 channels,
    first or last. Where an axis may be channels or slices, a text says which: `axes`, one of `AXES`, for all images
    and masks that have as many axes, or `NAME_axes` for the array NAME. A `mask` beside `kspace` is what was sampled.

    Raises:
        UserError: unreadable, arrays of different lengths, arrays of Python objects (pickle), axes
            that can be read in two ways.
    """
    check_regular(path)
    arrays = _load(path)
    if any(name.startswith("train_") for name in arrays) and "train_images" in arrays:
        arrays = _medmnist(arrays, path)
    said = _said_axes(arrays, path)
    arrays = {name: array for name, array in arrays.items() if name not in said}
    if not arrays:
        raise UserError(f"{path}: holds no arrays")
    for name, array in arrays.items():
        if array.ndim == 0:
            raise UserError(
                f"{path}: array {name!r} is a single number; one row per case is needed"
            )
    beside = {"mask"} if "kspace" in arrays else set()
    lengths = {name: len(array) for name, array in arrays.items() if name not in beside}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{path}: arrays differ in their number of cases: {told}")
    count = next(iter(lengths.values()))
    if count == 0:
        raise UserError(f"{path}: holds no case (arrays of length 0)")
    return _table(path, arrays, count, said)


def _said_axes(arrays: Mapping[str, Array], path: Path) -> dict[str, str]:
    """The texts `axes` and `NAME_axes`, which say what the axes of arrays are."""
    found = {}
    for key, array in arrays.items():
        if isinstance(array, StoredArray):
            continue
        name = key.removesuffix("axes").removesuffix("_")
        text = array.dtype.kind in "US" and array.size == 1
        if not text or not (key == "axes" or (key.endswith("_axes") and name in arrays)):
            continue
        (found[key],) = strings(array.reshape(1))
        if found[key] not in AXES:
            raise UserError(f"{path}: {key} is {found[key]!r}, none of {' '.join(AXES)}")
        fits = [other for other, one in arrays.items() if one.ndim == len(found[key])]
        if not fits or (name and name not in fits and key != "axes"):
            raise UserError(
                f"{path}: {key} is {found[key]!r}, and no such array has that many axes"
            )
    return found


def _load(path: Path) -> dict[str, Array]:
    """The arrays by name; those that are too large to be held stay in the file."""
    try:
        with path.open("rb") as stream:
            there = declared(stream, path, HELD)
            check_sizes(there, path)
            stay = left_on_disk(there, path)
            stream.seek(0)
            if len(stay) == len(there):
                return dict(stay)
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"image": loaded}
            with loaded:
                return {name: stay[name] if name in stay else loaded[name] for name in loaded.files}
    except (*DAMAGED, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error).lower() and "Object arrays" in str(error):
            raise UserError(
                f"{path}: holds an array of Python objects (pickle), which is never read; "
                "save plain numbers or text of one length"
            ) from None
        raise UserError(f"{path}: is damaged, cut short or no NumPy array file") from None


def _medmnist(arrays: dict[str, Array], path: Path) -> dict[str, Array]:
    """MedMNIST: {train,val,test}_{images,labels}, joined."""
    parts = [part for part in ("train", "val", "test") if f"{part}_images" in arrays]
    joined = {"image": _end_to_end(arrays, [f"{part}_images" for part in parts], path)}
    if all(f"{part}_labels" in arrays for part in parts):
        labels = _end_to_end(arrays, [f"{part}_labels" for part in parts], path)
        several = labels.ndim == 2 and labels.shape[1] > 1
        joined["labels" if several else "label"] = labels if several else _whole(labels).reshape(-1)
    words = [np.full(len(arrays[f"{part}_images"]), part) for part in parts]
    if joined["image"].ndim == 4 and joined["image"].shape[-1] == 3:
        joined["image_axes"] = np.array("NHWC")
    return joined | {"split": np.concatenate(words)}


def _whole(array: Array) -> np.ndarray:
    """An array of few values, which is always held."""
    assert isinstance(array, np.ndarray)
    return array


def _end_to_end(arrays: Mapping[str, Array], names: list[str], path: Path) -> Array:
    for name in names:
        array = arrays[name]
        if array.dtype.kind not in "biuf" or not array.ndim:
            raise UserError(
                f"{path}: {name} holds {array.dtype} of shape {array.shape}, not numbers"
            )
    if len({arrays[name].shape[1:] for name in names}) > 1:
        told = ", ".join(f"{name} {arrays[name].shape}" for name in names)
        raise UserError(f"{path}: arrays of one kind differ in shape: {told}")
    return end_to_end([arrays[name] for name in names], path)


def _table(path: Path, arrays: Mapping[str, Array], count: int, said: Mapping[str, str]) -> Table:
    notices: list[str] = []
    single = [name for name, array in arrays.items() if array.size == count]
    names = describing(single, str(path), notices, lambda name: strings(_whole(arrays[name])))
    meta = {role: strings(_whole(arrays[name])) for role, name in names.items()}
    ids = _ids(meta, count, path)
    columns: dict[str, Column] = {}
    texts: dict[str, tuple[str, ...]] = {"slice": meta["slice"]} if "slice" in meta else {}
    label_names = meta.get("label_name")
    for name, array in arrays.items():
        if name in names.values() or (name == "mask" and "kspace" in arrays):
            continue
        if name == "label" and array.dtype.kind in "US" and array.size == count:
            words = strings(_whole(array))
            columns[name], label_names = labels_from_text(words, f"{path}: {name}", ids)
            continue
        if array.dtype.kind in "US":
            texts[name] = strings(_whole(array))
            continue
        axes = said.get(f"{name}_axes", said.get("axes", ""))
        axes = axes if len(axes) == array.ndim else ""
        if name == "kspace":
            columns[name] = kspace_column(array, arrays.get("mask"), axes, path, notices)
            continue
        columns[name] = _column(array, name, axes, path, ids, notices)
    if not columns:
        raise UserError(f"{path}: holds no array of numbers, only {', '.join(arrays)}")
    patients = persons(meta, ids, str(path), notices)
    return Table(
        source=str(path),
        ids=ids,
        columns=columns,
        patients=patients,
        split_of=splits_of(meta["split"], str(path)) if "split" in meta else None,
        texts=texts,
        label_names=label_names,
        notices=notices,
    )


def _ids(meta: Mapping[str, tuple[str, ...]], count: int, path: Path) -> tuple[str, ...]:
    if "case" in meta:
        if len(set(meta["case"])) < count:
            return numbered(meta["case"])
        return meta["case"]
    if "patient" in meta and "slice" in meta:
        pairs = zip(meta["patient"], meta["slice"], strict=True)
        return numbered([f"{patient}_slice{slice_:0>3}" for patient, slice_ in pairs])
    return numbered(meta["patient"]) if "patient" in meta else row_ids(count)


def _column(
    array: Array, name: str, axes: str, path: Path, ids: tuple[str, ...], notices: list[str]
) -> Column:
    where = f"{path}: {name}"
    if isinstance(array, StoredArray):
        notices.append(told_of(array, where, path))
    if array.dtype.kind == "O" or array.dtype.kind not in "biufc":
        raise UserError(f"{where}: holds {array.dtype}, not numbers")
    if name == "label":
        if array.size != len(array):
            raise UserError(f"{where}: one label per case is needed, found shape {array.shape}")
        assert isinstance(array, np.ndarray)
        return labels_from(as_tensor(array), where, ids)
    mask = names_mask(name) or array.dtype.kind == "b"
    if array.dtype.kind == "c":
        return _made(array, lambda part: torch.from_numpy(part.astype(np.complex64)), "raw", where)
    if array.ndim == 1:
        return _made(array, lambda part: as_tensor(part).float(), "scalar", where)
    if not mask and (array.ndim == 2 or names_raw(name)):
        return _made(array, lambda part: as_tensor(part).float(), "raw", where)
    axes = axes or axes_of(array.shape, where, notices.append, array.dtype == np.uint8)
    if mask:
        hear = listener(notices)
        return _made(
            array,
            lambda part: labels_per_voxel(channels_first(as_tensor(part), axes), where, hear),
            "mask",
            where,
        )
    limits = (0.0, 255.0) if array.dtype == np.uint8 else None
    return _made(array, lambda part: channels_first(as_tensor(part), axes), "image", where, limits)


def _made(
    array: Array,
    convert: Callable[[np.ndarray], Tensor],
    kind: Kind,
    where: str,
    limits: tuple[float, float] | None = None,
) -> Column:
    """A column of what `convert` makes of the array, in memory or, row by row, from its file."""
    if isinstance(array, StoredArray):
        return RowsColumn(array, convert, kind, where, limits)
    return ArrayColumn(convert(array), kind, where, range=limits)


def labels_per_voxel(data: Tensor, where: str, notice: Callable[[str], None]) -> Tensor:
    """Masks (N, 1, *S) as whole numbers from 0; such that miss these by a hair are rounded, with a notice.

    Raises:
        UserError: several channels, NaN, infinite or negative numbers, fractions.
    """
    if data.shape[1] != 1:
        raise UserError(
            f"{where}: a mask has one channel, found {data.shape[1]}; a channel for each label becomes "
            "one of label numbers by argmax over the channels"
        )
    if data.dtype == torch.bool:
        return data.to(torch.uint8)
    if data.is_floating_point():
        if broken := int((~torch.isfinite(data)).sum()):
            raise UserError(f"{where}: holds {broken} NaN or infinite voxels; mend or remove them")
        whole = data.round()
        off = float((data - whole).abs().max())
        if off > HAIR:
            raise UserError(
                f"{where}: a mask must hold whole numbers, found fractions (off by {off:.3g}); was it "
                "scaled or interpolated?"
            )
        if off:
            notice(f"{where}: its numbers miss whole ones by up to {off:.1g}; rounded")
        data = whole.long()
    if data.numel() and int(data.min()) < 0:
        raise UserError(f"{where}: holds label {int(data.min())}; labels are 0, 1, 2 ...")
    return data


def axes_of(
    shape: tuple[int, ...], where: str, notice: Callable[[str], None], bytes_: bool = False
) -> str:
    """The axes of images, one of `AXES`, from their lengths alone.

    An axis of 1 or 3 behind the cases, or at the end, holds channels; three are said in a notice,
    but for pictures of `bytes_` with colours last, as every library stores them.

    Raises:
        UserError: too many axes, or lengths that leave two readings.
    """
    if len(shape) > 5:
        raise UserError(f"{where}: shape {shape} is not understood; images are {' '.join(AXES)}")
    if len(shape) <= 3:
        return "NHW"
    first, last = ("NCHW", "NHWC") if len(shape) == 4 else ("NCDHW", "NDHWC")
    ends = {first: shape[1], last: shape[-1]}
    channels = [axes for axes, n in ends.items() if n in (1, 3)]
    if len(channels) == 1 or set(ends.values()) == {1}:
        if ends[channels[0]] == 3 and not (bytes_ and channels[0] == "NHWC"):
            place = "first axis of a case" if channels[0] == first else "last axis"
            notice(
                f"{where}: the {place} (3 long) is taken as channels; axes={channels[0]!r} says so"
            )
        return channels[0]
    if len(shape) == 4 and not channels:
        channels = [axes for axes, n in ends.items() if n <= FEW and 2 * n <= _others(shape, axes)]
        if not channels:
            return "NDHW"
    readings = [*channels, "NDHW"] if len(shape) == 4 else [first, last]
    asked = " or ".join(f"axes={axes!r}" for axes in readings)
    raise UserError(
        f"{where}: shape {shape} may have channels or slices along its short axis; say which by a text "
        f"beside the arrays, np.savez(NAME, {where.rpartition(' ')[2]}=..., {asked})"
    )


def _others(shape: tuple[int, ...], axes: str) -> int:
    """The shortest axis of space if channels stand where `axes` say."""
    return min(n for n, axis in zip(shape, axes, strict=True) if axis not in "NC")


def channels_first(data: Tensor, axes: str) -> Tensor:
    """Images with the axes `axes`, one of `AXES`, as (N, C, *S)."""
    at = axes.find("C")
    return data[:, None] if at < 0 else data.movedim(at, 1).contiguous()
