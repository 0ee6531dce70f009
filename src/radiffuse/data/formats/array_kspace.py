"""K-space in array files: the order of its axes, and the mask beside it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..columns import ArrayColumn, Column
from ..rows import RowsColumn, StoredArray
from .array_files import told_of
from .sampling import (
    arranged,
    axes_said,
    check_coils,
    check_origin,
    complex_numbers,
    order_of,
    sampling_mask,
)

__all__ = ["kspace_column"]

Array = np.ndarray | StoredArray


def kspace_column(
    kspace: Array, mask: Array | None, said: str, path: Path, notices: list[str]
) -> Column:
    """`kspace` of an array file, complex (N, coils, *S), times the `mask` beside it.

    Args:
        kspace: complex, or pairs of real and imaginary part in a last axis; slices first.
        mask: of columns or points, for all slices or each; 0 and 1.
        said: what a text of the file calls its axes ("NHWC"); "": slices, coils (if any), rows, columns.
        path, notices: for messages.

    Raises:
        UserError: no complex numbers, unknown axes, a mask of another size or of other values than 0 and 1.
    """
    shape = kspace.shape if kspace.dtype.kind == "c" else kspace.shape[:-1]
    text = np.array(said) if said else None
    axes = axes_said(shape, text, False, path)
    if text is None:
        check_coils(shape, axes, path)
    kept = torch.ones(1, dtype=torch.bool)
    if mask is not None:
        kept = _kept(mask, axes, shape, path, isinstance(kspace, StoredArray))
        notices.append(
            f"{path}: mask is taken as what was sampled of kspace ({float(kept.float().mean()):.0%} of it)"
        )
    convert = _converter(axes, kept, path, notices)
    where = f"{path}: kspace"
    if isinstance(kspace, StoredArray):
        notices.append(told_of(kspace, where, path))
        return RowsColumn(kspace, convert, "raw", where, None)
    data = convert(kspace)
    check_origin(data, path, notices)
    return ArrayColumn(data, "raw", where)


def _kept(mask: Array, axes: str, shape: tuple[int, ...], path: Path, stored: bool) -> Tensor:
    if isinstance(mask, StoredArray):
        raise UserError(
            f"{path}: its mask is too large to be held; where it is the same for all slices, store it once"
        )
    kept = sampling_mask(mask, axes, shape, path)
    if stored and len(kept) > 1:
        raise UserError(
            f"{path}: kspace is too large to be held, and its mask differs from slice to slice; store kspace "
            "with 0 where nothing was sampled, without the mask"
        )
    return kept


def _converter(
    axes: str, kept: Tensor, path: Path, notices: list[str]
) -> Callable[[np.ndarray], Tensor]:
    def convert(part: np.ndarray) -> Tensor:
        numbers = complex_numbers(part, path, notices)
        data = torch.from_numpy(arranged(numbers, axes, order_of(axes)).astype(np.complex64))
        return data if kept.all() else data * kept

    return convert
