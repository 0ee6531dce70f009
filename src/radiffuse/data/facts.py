"""What recipes need to know of their data, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .columns import Column
from .scan import spread, too_large
from .transforms import to_unit

__all__ = [
    "AT_ONCE",
    "Facts",
    "labels_of",
    "moments",
    "sample_of",
    "scalars_of",
    "spacing_of",
]

Range = tuple[float, float]


AT_ONCE = 1 << 24
"""Voxels that are measured at once, where a case has fewer."""
SAMPLE = 1 << 25
"""Voxels of the sample from which diameter and spectrum are measured; mean and deviation have twice as many."""


@dataclass(frozen=True)
class Facts:
    """What a recipe needs to know of its data; plain values.

    Attributes:
        keys: data keys, for example ("image", "label").
        channels: number of channels by image key.
        size: spatial size by image key.
        classes: number of classes of "label" (largest label + 1); 0 if there is none.
        class_names: a name for each class, or ().
        std, mean: over the training images of the first image key, scaled to [-1, 1].
        diameter: largest L2 distance between two of (up to 512) training images, scaled so
            (Song & Ermon 2020, technique 1).
        cases: number of cases, all splits together.
        mask_classes: number of labels (largest + 1) by mask key, over training cases.
        mask_names: a name for each of them, by mask key where the data say so.
        mask_size: spatial size by mask key.
        spectrum: power of training images by frequency, by image key (see `spectrum.power`).
        scalars: quantiles of each column of numbers over training cases, 0 to 100 % in steps of 10.
        scalar_correlation: of their normal scores, in that order.
        spacing: mm along each axis of the first image key, the median over up to 64 training cases; () where
            nothing is known of it.
        raw: shape of a case by key of what is no image (k-space).
        stain: the reference that tiles of histology were brought to (`stained`); () where they are as stored.
    """

    keys: tuple[str, ...]
    channels: dict[str, int]
    size: dict[str, tuple[int, ...]]
    classes: int
    class_names: tuple[str, ...]
    std: float
    mean: float
    diameter: float
    cases: int
    mask_classes: dict[str, int] = field(default_factory=dict)
    spectrum: dict[str, tuple[float, ...]] = field(default_factory=dict)
    scalars: dict[str, tuple[float, ...]] = field(default_factory=dict)
    scalar_correlation: tuple[tuple[float, ...], ...] = ()
    mask_size: dict[str, tuple[int, ...]] = field(default_factory=dict)
    spacing: tuple[float, ...] = ()
    raw: dict[str, tuple[int, ...]] = field(default_factory=dict)
    stain: tuple[float, ...] = ()
    mask_names: dict[str, tuple[str, ...]] = field(default_factory=dict)


def scalars_of(columns: Mapping[str, Column], rows: Sequence[int]) -> dict[str, Any]:
    """Quantiles and correlation of the columns of numbers that all of these cases have, as `Facts` names them."""
    stacked = {k: c.stack(rows) for k, c in columns.items() if c.kind == "scalar"}
    known = {k: v for k, v in stacked.items() if not v.isnan().any()}
    if not known:
        return {}
    values = torch.stack([value.double() for value in known.values()])
    correlation = torch.corrcoef(torch.stack([_scores(row) for row in values]))
    correlation = correlation.reshape(len(known), -1).nan_to_num(0.0).fill_diagonal_(1.0)
    quantiles = values.quantile(torch.linspace(0, 1, 11, dtype=torch.float64), dim=1).T
    return {
        "scalars": dict(zip(known, map(_numbers, quantiles), strict=True)),
        "scalar_correlation": tuple(map(_numbers, correlation)),
    }


def _scores(values: Tensor) -> Tensor:
    """Normal scores: the normal quantile of each value's rank, of equal values their mean rank's."""
    _, which, counts = values.unique(return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0) - counts / 2
    return torch.special.ndtri((ranks / len(values))[which])


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())


def moments(column: Column, rows: Sequence[int], limits: Range) -> tuple[float, float, float]:
    """Mean and deviation (of a sample of a very large set), diameter (of up to 512 images)."""
    total = square = 0.0
    count = 0
    voxels = column.image(rows[0]).data.numel()
    few = [rows[i] for i in spread(len(rows), max(2, 2 * SAMPLE // voxels))]
    at_once = min(64, max(1, AT_ONCE // voxels))
    for start in range(0, len(few), at_once):
        x = to_unit(column.stack(few[start : start + at_once]), limits)
        total += float(x.sum(dtype=torch.float64))
        square += float(x.square().sum(dtype=torch.float64))
        count += x.numel()
    mean = total / count
    flat = sample_of(column, rows, limits).flatten(1)
    diameter = float(torch.cdist(flat, flat).max())
    return mean, max(square / count - mean**2, 0.0) ** 0.5, diameter


def sample_of(column: Column, rows: Sequence[int], limits: Range) -> Tensor:
    """Up to 512 images in [-1, 1], fewer of large volumes."""
    voxels = column.image(rows[0]).data.numel()
    some = [rows[i] for i in spread(len(rows), max(2, min(512, SAMPLE // voxels)))]
    return to_unit(column.stack(some), limits)


def spacing_of(column: Column, rows: Sequence[int]) -> tuple[float, ...]:
    """Median distance of voxels along each axis of up to 64 images, mm; () where nothing is known of it."""
    some = [column.image(rows[i]).spacing_mm for i in spread(len(rows), 64)]
    known = [spacing for spacing in some if spacing is not None]
    if not known:
        return ()
    return tuple(float(f"{v:.4g}") for v in torch.tensor(known).double().median(0).values)


def labels_of(column: Column, rows: Sequence[int]) -> int:
    """The largest label of the masks, and one; of masks too large to be read at opening, of 256 of them."""
    some = [rows[i] for i in spread(len(rows), 256)] if too_large(column) else rows
    return max(int(column.image(row).data.max()) for row in some) + 1
