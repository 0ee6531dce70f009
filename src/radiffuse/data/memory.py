"""Cases handed over as Python objects: an iterable of dicts of tensors, as MONAI and TorchIO give them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .columns import ArrayColumn, Column, names_mask, names_raw
from .formats.arrays import labels_per_voxel
from .formats.stored import as_affine, as_tensor
from .table import (
    Table,
    describing,
    labels_from,
    labels_from_text,
    listener,
    numbered,
    persons,
    row_ids,
    splits_of,
)

_SOURCE = "the iterable"
_METADATA = ("case", "patient", "split")
"""What dicts say of their case; all else is data, `slice` too."""
MOST_CHANNELS = 4
"""More channels than this, and no fewer than voxels along an axis, are rather an axis of space."""


def table_from(items: Iterable[Mapping[str, Any] | Sequence[Mapping[str, Any]]]) -> Table:
    """A table from dicts; see `dataset.from_iterable`.

    An item may be a list of dicts (crops of one image): these are cases of one patient. What is
    neither tensor, array, number nor text is left out with a notice. A `label` per voxel is called `mask`,
    since `label` is the class of a case.
    """
    rows = _rows(items)
    for number, row in enumerate(rows):
        if set(row) != set(rows[0]):
            odd = ", ".join(sorted(set(row) ^ set(rows[0])))
            raise UserError(f"{_SOURCE}: case {number} differs from the first in its keys: {odd}")
    notices: list[str] = []
    names = _describing(rows[0], notices, lambda key: (_word(row[key]) or "" for row in rows))
    meta = {role: tuple(_word(row[key]) or "" for row in rows) for role, key in names.items()}
    ids = numbered(meta["case"]) if "case" in meta else row_ids(len(rows))
    columns: dict[str, Column] = {}
    texts: dict[str, tuple[str, ...]] = {}
    label_names: tuple[str, ...] | None = None
    hear = listener(notices)
    grids = {tuple(one.shape[1:]) for one in map(_tensor, rows[0].values()) if one is not None}
    for key in rows[0]:
        values = [row[key] for row in rows]
        if key in names.values():
            continue
        if key == "label" and isinstance(values[0], str):
            columns[key], label_names = labels_from_text(values, _SOURCE, ids)
        elif isinstance(values[0], str):
            texts[key] = tuple(str(value) for value in values)
        elif _tensor(values[0]) is None:
            hear(
                f"{_SOURCE}: {key} ({type(values[0]).__name__}) is empty, or no tensor, number or text; left out"
            )
        else:
            role = _role(key, values[0], rows[0], hear)
            columns[role] = _column(role, values, ids, grids, hear)
    if not columns:
        raise UserError("; ".join([f"{_SOURCE}: holds nothing that can be used", *notices]))
    patients = persons(meta, ids, _SOURCE, notices)
    return Table(
        source=_SOURCE,
        ids=ids,
        columns=columns,
        patients=patients,
        split_of=splits_of(meta["split"], _SOURCE) if "split" in meta else None,
        texts=texts,
        label_names=label_names,
        notices=notices,
    )


def _rows(items: Iterable[Mapping[str, Any] | Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One dict for each case; the dicts of one item get one patient, where they name none."""
    rows = []
    for number, item in enumerate(items):
        if isinstance(item, Mapping):
            rows.append(dict(item))
            continue
        if not isinstance(item, Sequence) or not all(isinstance(part, Mapping) for part in item):
            raise UserError(
                f"{_SOURCE}: item {number} is {type(item).__name__}, not a dict; give each tensor a name, "
                "{'image': tensor}"
            )
        named = any("patient" in _describing(part, []) for part in item)
        own = {} if named else {"patient": f"{number:04d}"}
        rows += [{**own, **part} for part in item]
    if not rows:
        raise UserError(f"{_SOURCE}: gives no case")
    return rows


def _describing(
    row: Mapping[str, Any],
    notices: list[str],
    words_of: Callable[[str], Iterable[str]] = lambda key: (),
) -> dict[str, str]:
    """Which key says what of a case, of those with text or one number."""
    plain = [key for key, value in row.items() if _word(value) is not None]
    found = describing(plain, _SOURCE, notices, words_of)
    return {role: key for role, key in found.items() if role in _METADATA}


def _word(value: Any) -> str | None:
    """Text or one number as text, be it in a tensor; None of all else."""
    if isinstance(value, (np.ndarray, Tensor)):
        value = value.item() if math.prod(value.shape) == 1 else None
    return str(value) if isinstance(value, str | int | float | np.generic) else None


def _role(key: str, value: Any, row: Mapping[str, Any], notice: Callable[[str], None]) -> str:
    """The name of a column: labels per voxel are a mask, which `label` never is."""
    data = _tensor(value)
    per_voxel = data is not None and data.ndim >= 2 and data.numel() > 1
    labels = _is_label_map(value) and not names_mask(key)
    if not per_voxel or not (key == "label" or labels):
        return key
    role = "mask" if "mask" not in row and key == "label" else f"{key}_mask"
    if role in row:
        raise UserError(
            f"{_SOURCE}: {key} holds labels per voxel, and there is a {role} too; rename one"
        )
    notice(f"{_SOURCE}: {key} holds labels per voxel; it is called {role} here")
    return role


def _column(
    key: str,
    values: list[Any],
    ids: tuple[str, ...],
    grids: set[tuple[int, ...]],
    notice: Callable[[str], None],
) -> ArrayColumn:
    where = f"{_SOURCE}: {key}"
    data = _stacked([_plain(value, where) for value in values], where, ids)
    if key == "label":
        if data.numel() != len(data):
            raise UserError(
                f"{where}: one label per case is needed, found shape {tuple(data.shape[1:])}"
            )
        return labels_from(data, where, ids)
    if data.is_complex():
        return ArrayColumn(data.to(torch.complex64), "raw", where)
    if names_raw(key):
        return ArrayColumn(data.float(), "raw", where)
    if data[0].numel() == 1 and data.ndim <= 2:
        return ArrayColumn(data.reshape(len(data)).float(), "scalar", where)
    if data.ndim < 3:
        return ArrayColumn(data.float(), "raw", where)
    affines = _affines(values, where, notice)
    if names_mask(key):
        if data.shape[1] != 1 and tuple(data.shape[1:]) in grids:
            data = data[:, None]
        return ArrayColumn(labels_per_voxel(data, where, notice), "mask", where, affines)
    _check_channels(data, where)
    limits = (0.0, 255.0) if data.dtype == torch.uint8 else None
    return ArrayColumn(data, "image", where, affines, range=limits)


def _stacked(tensors: list[Tensor], where: str, ids: tuple[str, ...]) -> Tensor:
    other = next((i for i, one in enumerate(tensors) if one.shape != tensors[0].shape), None)
    if other is not None:
        raise UserError(
            f"{where}: shape {tuple(tensors[other].shape)} of case {ids[other]} differs from "
            f"{tuple(tensors[0].shape)} of case {ids[0]}; resize them to one size"
        )
    return torch.stack(tensors)


def _check_channels(data: Tensor, where: str) -> None:
    """Refuse images (N, C, *S) whose first axis is rather one of space.

    Raises:
        UserError: no channel axis, or as many channels as voxels along an axis.
    """
    shape = tuple(data.shape[1:])
    if data.ndim == 3 or (shape[0] > MOST_CHANNELS and shape[0] >= min(shape[1:])):
        raise UserError(
            f"{where}: shape {shape} of a case has no channel axis in front; images are (C, *S): "
            "value[None] adds one, MONAI's EnsureChannelFirstd moves one"
        )


def _tensor(value: Any) -> Tensor | None:
    """A plain tensor from a tensor, a MetaTensor, a TorchIO image, an array or a number; else None."""
    carried = getattr(value, "data", None)
    image = isinstance(carried, (np.ndarray, Tensor)) and not isinstance(
        value, (np.ndarray, Tensor)
    )
    value = carried if image else value
    if isinstance(value, Tensor):
        plain = value.detach().cpu().as_subclass(Tensor)
        if not plain.numel():
            return None
        # TorchIO gives pictures a third axis of space
        return plain[..., 0] if image and plain.ndim > 3 and plain.shape[-1] == 1 else plain
    if isinstance(value, (str, Mapping)):
        return None
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return as_tensor(array) if array.dtype.kind in "biufc" and array.size else None


def _plain(value: Any, where: str) -> Tensor:
    found = _tensor(value)
    if found is None:
        raise UserError(f"{where}: is neither tensor, array, number nor text")
    return found


def _is_label_map(value: Any) -> bool:
    """Whether a TorchIO image says that it holds labels."""
    return getattr(value, "type", None) == "label"


def _affines(values: list[Any], where: str, notice: Callable[[str], None]) -> Tensor | None:
    """Index -> RAS mm of every value (N, 4, 4); None where not all carry one."""
    known = [one for value in values if (one := _affine_of(value, where)) is not None]
    if known and len(known) < len(values):
        notice(f"{where}: {len(known)} of {len(values)} cases have an affine; there is no geometry")
    return torch.stack(known) if known and len(known) == len(values) else None


def _affine_of(value: Any, where: str) -> Tensor | None:
    affine = getattr(value, "affine", None)
    if affine is None:
        return None
    found = np.asarray(affine, dtype=np.float64)
    if found.shape == (3, 3):  # of a picture
        flat, found = found, np.eye(4)
        found[:2, :2], found[:2, 3] = flat[:2, :2], flat[:2, 2]
    if found.shape != (4, 4):
        raise UserError(f"{where}: its affine has shape {found.shape}; 4 x 4 is expected")
    meta = getattr(value, "meta", None)
    if isinstance(meta, Mapping) and str(meta.get("space", "")).upper().endswith("LPS"):
        found = np.diag([-1.0, -1.0, 1.0, 1.0]) @ found
    return as_affine(found, where)
