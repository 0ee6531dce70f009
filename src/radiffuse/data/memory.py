"""Cases handed over as Python objects: an iterable of dicts of tensors."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .columns import ArrayColumn, Column, names_mask, names_raw
from .formats.stored import as_tensor
from .table import Table, labels_from, labels_from_text, numbered, row_ids, splits_of

_SOURCE = "the iterable"
_METADATA = ("case", "patient", "split")


def table_from(items: Iterable[Mapping[str, Any]]) -> Table:
    """A table from dicts; see `dataset.from_iterable`."""
    rows = [dict(item) for item in items]
    if not rows:
        raise UserError(f"{_SOURCE}: gives no case")
    for number, row in enumerate(rows):
        if set(row) != set(rows[0]):
            odd = ", ".join(sorted(set(row) ^ set(rows[0])))
            raise UserError(f"{_SOURCE}: case {number} differs from the first in its keys: {odd}")
    meta = {key: tuple(str(row[key]) for row in rows) for key in _METADATA if key in rows[0]}
    ids = numbered(meta["case"]) if "case" in meta else row_ids(len(rows))
    columns: dict[str, Column] = {}
    texts: dict[str, tuple[str, ...]] = {}
    label_names: tuple[str, ...] | None = None
    for key in rows[0]:
        values = [row[key] for row in rows]
        if key in _METADATA:
            continue
        if key == "label" and isinstance(values[0], str):
            columns[key], label_names = labels_from_text(values, _SOURCE, ids)
        elif isinstance(values[0], str):
            texts[key] = tuple(values)
        elif not isinstance(values[0], dict):
            columns[key] = _column(key, values, ids)
    return Table(
        source=_SOURCE,
        ids=ids,
        columns=columns,
        patients=meta.get("patient"),
        split_of=splits_of(meta["split"], _SOURCE) if "split" in meta else None,
        texts=texts,
        label_names=label_names,
    )


def _column(key: str, values: list[Any], ids: tuple[str, ...]) -> ArrayColumn:
    where = f"{_SOURCE}: {key}"
    tensors = [_plain(value, where) for value in values]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        other = next(i for i, tensor in enumerate(tensors) if tensor.shape != tensors[0].shape)
        raise UserError(
            f"{where}: shape {tuple(tensors[other].shape)} of case {ids[other]} differs from "
            f"{tuple(tensors[0].shape)} of case {ids[0]}; resize them to one size"
        )
    data = torch.stack(tensors)
    if key == "label":
        return labels_from(data, where, ids)
    if data.is_complex() or names_raw(key):
        return ArrayColumn(data, "raw", where)
    if data[0].numel() == 1 and data.ndim <= 2:
        return ArrayColumn(data.reshape(len(data)).float(), "scalar", where)
    if data.ndim < 3:
        return ArrayColumn(data.float(), "raw", where)
    affines = [_affine_of(value) for value in values]
    known = [affine for affine in affines if affine is not None]
    stacked = torch.stack(known) if len(known) == len(affines) else None
    if names_mask(key):
        return ArrayColumn(data.long(), "mask", where, stacked)
    limits = (0.0, 255.0) if data.dtype == torch.uint8 else None
    return ArrayColumn(data, "image", where, stacked, range=limits)


def _plain(value: Any, where: str) -> Tensor:
    """A plain tensor from a tensor, a MetaTensor, a TorchIO image, an array or a number."""
    value = getattr(value, "data", value) if not isinstance(value, (np.ndarray, Tensor)) else value
    if isinstance(value, Tensor):
        return value.detach().cpu().as_subclass(Tensor)
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biufc":
        raise UserError(f"{where}: is neither tensor, array, number nor text")
    return as_tensor(array)


def _affine_of(value: Any) -> Tensor | None:
    affine = getattr(value, "affine", None)
    if affine is None:
        return None
    found = torch.as_tensor(np.asarray(affine), dtype=torch.float64)
    return found if found.shape == (4, 4) else None
