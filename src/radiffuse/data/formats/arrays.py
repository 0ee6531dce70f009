"""Array files: NAME.npz with one case per row, MedMNIST, NAME.npy."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..columns import ArrayColumn, Column, names_mask, names_raw
from ..table import Table, labels_from, numbered, row_ids, splits_of, strings
from .stored import as_tensor

METADATA = ("split", "patient", "case", "slice", "label_name")


def open_arrays(path: Path) -> Table:
    """Read NAME.npz (or .npy: one array, `image`).

    Every array shares its first axis. `split`, `patient`, `case`, `slice`, `label_name` are
    metadata; all else is data. Images are `(N, *S)`, `(N, *S, 3)` or `(N, 1 or 3, *S)`.

    Raises:
        UserError: unreadable, arrays of different lengths, arrays of Python objects (pickle).
    """
    arrays = _load(path)
    if any(name.startswith("train_") for name in arrays) and "train_images" in arrays:
        arrays = _medmnist(arrays, path)
    if not arrays:
        raise UserError(f"{path}: holds no arrays")
    for name, array in arrays.items():
        if array.ndim == 0:
            raise UserError(
                f"{path}: array {name!r} is a single number; one row per case is needed"
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{path}: arrays differ in their number of cases: {told}")
    count = next(iter(lengths.values()))
    if count == 0:
        raise UserError(f"{path}: holds no case (arrays of length 0)")
    return _table(path, arrays, count)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"image": loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, KeyError) as error:
        if "pickle" in str(error).lower() and "Object arrays" in str(error):
            raise UserError(
                f"{path}: holds an array of Python objects (pickle), which is never read; "
                "save plain numbers or text of one length"
            ) from None
        raise UserError(f"{path}: is damaged, cut short or no NumPy array file") from None


def _medmnist(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """MedMNIST: {train,val,test}_{images,labels}, joined."""
    parts = [part for part in ("train", "val", "test") if f"{part}_images" in arrays]
    joined = {"image": np.concatenate([arrays[f"{part}_images"] for part in parts])}
    if all(f"{part}_labels" in arrays for part in parts):
        labels = np.concatenate([arrays[f"{part}_labels"] for part in parts])
        several = labels.ndim == 2 and labels.shape[1] > 1
        joined["labels" if several else "label"] = labels if several else labels.reshape(-1)
    words = [np.full(len(arrays[f"{part}_images"]), part) for part in parts]
    return joined | {"split": np.concatenate(words)}


def _table(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> Table:
    meta = {name: strings(arrays[name]) for name in METADATA if name in arrays}
    ids = _ids(meta, count, path)
    columns: dict[str, Column] = {}
    texts: dict[str, tuple[str, ...]] = {"slice": meta["slice"]} if "slice" in meta else {}
    for name, array in arrays.items():
        if name in METADATA:
            continue
        if array.dtype.kind in "US":
            texts[name] = strings(array)
        else:
            columns[name] = _column(array, name, path, ids)
    return Table(
        source=str(path),
        ids=ids,
        columns=columns,
        patients=meta.get("patient"),
        split_of=splits_of(meta["split"], str(path)) if "split" in meta else None,
        texts=texts,
        label_names=meta.get("label_name"),
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


def _column(array: np.ndarray, name: str, path: Path, ids: tuple[str, ...]) -> ArrayColumn:
    where = f"{path}: {name}"
    if array.dtype.kind == "O" or array.dtype.kind not in "biufc":
        raise UserError(f"{where}: holds {array.dtype}, not numbers")
    if name == "label":
        if array.size != len(array):
            raise UserError(f"{where}: one label per case is needed, found shape {array.shape}")
        return labels_from(as_tensor(array), where, ids)
    if array.dtype.kind == "c":
        return ArrayColumn(torch.from_numpy(array.astype(np.complex64)), "raw", where)
    data = as_tensor(array)
    if data.ndim == 1:
        return ArrayColumn(data.float(), "scalar", where)
    if names_mask(name) or array.dtype.kind == "b":
        return ArrayColumn(_mask(data, where), "mask", where)
    if data.ndim == 2 or names_raw(name):
        return ArrayColumn(data.float(), "raw", where)
    limits = (0.0, 255.0) if array.dtype == np.uint8 else None
    return ArrayColumn(channels_first(data), "image", where, range=limits)


def _mask(data: Tensor, where: str) -> Tensor:
    """`(N, *S)` or with one channel -> `(N, 1, *S)` of whole numbers."""
    if data.is_floating_point():
        if not bool((data == data.round()).all()):
            raise UserError(f"{where}: a mask must hold whole numbers, found fractions")
        data = data.long()
    if data.dtype == torch.uint8 and torch.unique(data).tolist() == [0, 255]:
        data = data // 255
    if data.ndim >= 4 and data.shape[-1] == 1:
        return data.movedim(-1, 1).contiguous()
    return data if data.ndim >= 4 and data.shape[1] == 1 else data[:, None]


def channels_first(data: Tensor) -> Tensor:
    """`(N, *S)`, `(N, *S, 1 or 3)` or `(N, 1 or 3, *S)` -> `(N, C, *S)`."""
    if data.ndim >= 4 and data.shape[-1] in (1, 3):
        return data.movedim(-1, 1).contiguous()
    if data.ndim >= 4 and data.shape[1] in (1, 3):
        return data
    return data[:, None]
