"""Looking once at every case: shapes, broken voxels, constant images, byte-identical images."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .columns import ArrayColumn, Column, FileColumn, content_hash, in_threads
from .copies import copies
from .image import Image
from .joined import JoinedColumn
from .kept import bytes_of, most_held
from .rows import RowsColumn
from .segments import names_of, same_labels

SCAN_BYTES = 2 << 30
"""Files of a column are all decoded at opening up to this total size; beyond it only a few are."""
SLIVER_OF_8_BITS = 1 / 8
"""Of 0 to 255; data that fill less of it are brought to [-1, 1] by their own range."""
VOXELS_DIFFER = 1.5
"""Times as large along one axis in one image as in another: so much is told."""


@dataclass(frozen=True)
class Seen:
    """What a look at the images of one column found.

    Attributes:
        shapes: `(C, *S)` of each image (of the few looked at in a large set).
        digests: hash of each image; None for constant images, which are alike without being copies.
        constant: rows of constant images.
        ranges: the value ranges that images declare; None among them where one declares none.
        values: 0.5 % and 99.5 % quantiles of values, the lowest and the highest of all images.
        notices: one line each.
        named: what labels show, by number, of segmentations that say it.
    """

    shapes: tuple[tuple[int, ...], ...]
    digests: tuple[str | None, ...]
    constant: tuple[int, ...]
    ranges: frozenset[tuple[float, float] | None]
    values: tuple[float, float]
    notices: tuple[str, ...] = ()
    named: Mapping[int, str] = field(default_factory=dict)


def scan(
    column: Column,
    key: str,
    source: str,
    ids: Sequence[str],
    empty: Collection[int] = (),
) -> Seen:
    """Look at every image or mask of a column.

    Args:
        column, key: the images.
        source, ids: of the data, for messages.
        empty: rows of cases that have no image (see `gaps`).

    Raises:
        UserError: shapes that do not mix, NaN or infinite voxels, or every image is constant.
    """
    if too_large(column):
        return _scan_few(column, key, source, ids, empty)
    looks = _look_array(column) if isinstance(column, ArrayColumn) else _look_files(column)
    shapes = [look.shape for look in looks]
    notices = _same_shapes(shapes, key, source, ids)
    if column.kind == "image":
        notices += _same_voxels([look.spacing for look in looks], key, source, ids)
    labels = [look.labels for look in looks]
    same_labels(labels, key, source, ids)
    _finite(looks, key, source, ids)
    there = [look for row, look in enumerate(looks) if row not in empty]
    constant = tuple(row for row, look in enumerate(looks) if look.constant and row not in empty)
    if column.kind == "image" and constant:
        if len(constant) == len(there):
            raise UserError(
                f"{source}: every image of {key!r} is constant (one grey value): there is nothing in them to see"
            )
        notices += (f"{source}: {key} is constant (one grey value) in {_named(constant, ids)}",)
    ranges = frozenset(look.range for look in there)
    digests: tuple[str | None, ...]
    digests = tuple(None if look.constant else look.digest for look in looks)
    values, named = _widest(there), names_of(labels)
    return Seen(tuple(shapes), digests, constant, ranges, values, notices, named)


def _scan_few(
    column: Column, key: str, source: str, ids: Sequence[str], empty: Collection[int]
) -> Seen:
    """Decode a few files of a large column; compare all by the bytes of their files."""
    there = [row for row in range(len(column)) if row not in empty]
    few = [there[place] for place in spread(len(there), 8)]
    images = [column.image(row) for row in few]
    shapes = tuple(tuple(image.data.shape) for image in images)
    names = [ids[row] for row in few]
    notices = _same_shapes(shapes, key, source, names)
    if column.kind == "image":
        notices += _same_voxels([image.spacing_mm for image in images], key, source, names)
    labels = [image.labels for image in images]
    same_labels(labels, key, source, names)
    line = f"{source}: {key} is large; {len(few)} of {len(column)} files were checked on opening"
    return Seen(
        shapes=shapes,
        digests=tuple(None if row in empty else column.hashed(row) for row in range(len(column))),
        constant=(),
        ranges=frozenset(image.range for image in images),
        values=_widest([_look(image) for image in images]),
        notices=(*notices, line),
        named=names_of(labels),
    )


@dataclass(frozen=True)
class _Look:
    shape: tuple[int, ...]
    broken: int
    constant: bool
    digest: str
    range: tuple[float, float] | None
    values: tuple[float, float]
    spacing: tuple[float, ...] | None
    labels: tuple[tuple[str, str, str], ...]


def _widest(looks: Sequence[_Look]) -> tuple[float, float]:
    lows, highs = zip(*(look.values for look in looks), strict=True)
    return min(lows), max(highs)


def _quantiles(data: Tensor) -> tuple[float, float]:
    """0.5 % and 99.5 % quantiles of some ten thousand values."""
    some = data.flatten()[:: max(1, data.numel() // 10_000)].numpy()
    some = np.sort(some if some.dtype.kind == "f" else some.astype(np.float64))
    # a tenth of the time of torch.quantile, which is most of opening many small pictures
    low, high = np.interp(np.array([0.005, 0.995]) * (len(some) - 1), np.arange(len(some)), some)
    return float(low), float(high)


def _look(image: Image) -> _Look:
    data = image.data
    broken = 0
    if data.is_floating_point():
        broken = int((~torch.isfinite(data)).sum())
    constant = not broken and bool((data == data.flatten()[0]).all())
    values = (0.0, 0.0) if broken else _quantiles(data)
    about = (image.range, values, image.spacing_mm, image.labels)
    return _Look(tuple(data.shape), broken, constant, content_hash(data), *about)


def _look_array(column: ArrayColumn) -> list[_Look]:
    return [_look(column.image(row)) for row in range(len(column))]


def _look_files(column: Column) -> list[_Look]:
    """Decoded and looked at in threads, so that a large set never lies in memory whole."""
    looks = in_threads(lambda row: _look(column.image(row)), range(len(column)))
    if isinstance(column, RowsColumn):
        column.digests.update(enumerate(look.digest for look in looks))
    return looks


def too_large(column: Column) -> bool:
    """Whether the files of a column are too large to be decoded at opening."""
    if isinstance(column, FileColumn):
        files = {*column.paths}.union(*column.members)
        return sum(path.stat().st_size for path in files if path.is_file()) > SCAN_BYTES
    if isinstance(column, JoinedColumn):
        return any(too_large(part) for part in column.parts)
    inner = getattr(column, "column", None)
    return inner is not None and too_large(inner)


def told_of_copies(source: str, columns: Mapping[str, Column]) -> list[str]:
    """A line where decoded images will be copied to disk because memory does not hold them all."""
    total = 0
    for column in columns.values():
        plain = isinstance(column, RowsColumn) and column.size is None
        if not plain and len(column) and column.stamp(0):
            size = bytes_of(column.image(0)) * len(column)
            total += size if size > most_held() else 0
    if not total:
        return []
    held = f"{source}: images take {total / 2**30:.3g} GiB decoded and stay on disk"
    there = copies()
    if not there.room_for(1):
        return [f"{held}; there is no room for copies, and files are decoded each time"]
    return [
        f"{held}, as copies in {there.folder} (at most {there.most / 2**30:.3g} GiB; RADIFFUSE_CACHE_GIB sets "
        "another limit, 0 for none, RADIFFUSE_CACHE another folder)"
    ]


def _same_shapes(
    shapes: Sequence[tuple[int, ...]], key: str, source: str, ids: Sequence[str]
) -> tuple[str, ...]:
    """A notice where sizes differ (one by one they can still be used).

    Raises:
        UserError: some are volumes and some pictures, or some grey and some in colour.
    """
    if len(set(shapes)) == 1:
        return ()
    told = differing(shapes, key, source, ids)
    if len({len(shape) for shape in shapes}) > 1:
        raise UserError(f"{told}; pictures and volumes do not mix: give them apart")
    if len({shape[0] for shape in shapes}) > 1:
        raise UserError(f"{told}; grey and colour images do not mix: convert them to one kind")
    return (f"{told}; --size resizes all to one size",)


def _same_voxels(
    spacings: Sequence[tuple[float, ...] | None], key: str, source: str, ids: Sequence[str]
) -> tuple[str, ...]:
    """A notice where voxels differ in size: a network sees voxels, and takes a wide one for a narrow one."""
    known = {name: mm for name, mm in zip(ids, spacings, strict=True) if mm is not None}
    for axis in range(max(map(len, known.values()), default=0)):
        along = {name: mm[axis] for name, mm in known.items() if axis < len(mm)}
        fine, coarse = min(along, key=along.__getitem__), max(along, key=along.__getitem__)
        if along[coarse] > VOXELS_DIFFER * along[fine]:
            told = " and ".join(
                f"{' x '.join(f'{mm:.3g}' for mm in known[name])} mm in {name}"
                for name in (fine, coarse)
            )
            return (
                f"{source}: voxels of {key!r} differ in size, {told}: they are taken as they are, as if all were "
                "of one size; resample them to one before, if anatomy is to have one scale",
            )
    return ()


def differing(shapes: Sequence[tuple[int, ...]], key: str, source: str, ids: Sequence[str]) -> str:
    """Which shapes there are, how often, with a case of each."""
    common = Counter(shapes).most_common(3)
    told = ", ".join(
        f"{_shape(shape)} in {count} case{'s' if count > 1 else ''} ({ids[shapes.index(shape)]})"
        for shape, count in common
    )
    more = len(set(shapes)) - len(common)
    rest = f" and {more} other shapes" if more else ""
    return f"{source}: images of {key!r} differ in shape: {told}{rest}"


def _shape(shape: Sequence[int]) -> str:
    size = "x".join(str(n) for n in shape[1:])
    return size if shape[0] == 1 else f"{size} with {shape[0]} channels"


def _finite(looks: Sequence[_Look], key: str, source: str, ids: Sequence[str]) -> None:
    bad = [row for row, look in enumerate(looks) if look.broken]
    if bad:
        first = looks[bad[0]]
        more = f" ({len(bad)} such cases)" if len(bad) > 1 else ""
        raise UserError(
            f"{source}: {key!r} of case {ids[bad[0]]} holds {first.broken} NaN or infinite "
            f"voxels{more}; mend or remove it"
        )


def _named(rows: Sequence[int], ids: Sequence[str]) -> str:
    names = ", ".join(ids[row] for row in rows[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f"case{'s' if len(rows) > 1 else ''} {names}{more}"


def spread(count: int, most: int) -> list[int]:
    """Up to `most` row numbers, evenly over `count`."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def outside(values: tuple[float, float], limits: tuple[float, float], key: str, source: str) -> str:
    """A notice where images lie mostly outside of the range that becomes [-1, 1], or fill little of it."""
    low, high = limits
    span = high - low
    fits = low - 0.2 * span <= values[0] and values[1] <= high + 0.2 * span
    if fits and values[1] - values[0] >= 0.1 * span:
        return ""
    return (
        f"{source}: values of {key!r} go from {values[0]:g} to {values[1]:g}, and {low:g} to {high:g} "
        "become [-1, 1]: --range LOW HIGH names another range"
    )


def value_range(
    column: Column,
    declared: frozenset[tuple[float, float] | None],
    rows: Sequence[int],
    key: str,
    source: str,
) -> tuple[tuple[float, float], str | None]:
    """Range of stored values that becomes [-1, 1], and a notice where it had to be derived.

    8-bit images declare 0 to 255, which is taken where the data fill at least an eighth of it (labels
    and drawings do not). 16-bit pictures declare 0 to 65535, which is taken where the
    data fill at least half of it (a 12-bit detector in a 16-bit file does not). Otherwise, and
    where images declare different ranges, it is the 0.1 % and 99.9 % quantiles over up to 64
    training cases, spread evenly.
    """
    said = next(iter(declared)) if len(declared) == 1 else None
    little = {255.0: SLIVER_OF_8_BITS, 65535.0: 0.5}
    if said is not None and said[1] not in little:
        return said, None
    sample = [rows[i] for i in spread(len(rows), 64)]
    parts = [_thinned(column.image(row).data, 1 << 16) for row in sample]
    values = np.sort(torch.cat(parts).numpy())  # torch would keep the order of them beside
    if said is not None and float(values[-1] - values[0]) >= little[said[1]] * said[1]:
        return said, None
    last = len(values) - 1
    low, high = float(values[round(0.001 * last)]), float(values[round(0.999 * last)])
    if low == high:
        low, high = float(values[0]), float(values[-1])
    low, high = float(f"{low:.6g}"), float(f"{high:.6g}")
    if low == high:
        high = low + 1
    why = "declares no value range"
    if len(declared) > 1:
        why = "declares different value ranges in different files"
    elif said is not None:
        bits, filled = (
            (8 if said[1] == 255 else 16),
            f"{float(values[0]):g} to {float(values[-1]):g}",
        )
        why = f"fills little of the {bits} bits it is stored in ({filled})"
    count = f"{len(sample)} training case{'s' if len(sample) > 1 else ''}"
    return (low, high), (
        f"{source}: {key} {why}; {low:g} to {high:g} (0.1 % and 99.9 % quantiles of {count}) "
        "becomes [-1, 1], values outside are clipped; --range LOW HIGH fixes it"
    )


def _thinned(data: Tensor, most: int) -> Tensor:
    """All values, or every n-th so that at most `most` are left."""
    flat = data.flatten()
    step = -(-flat.numel() // most)
    return flat[::step].double()


def check_scalars(columns: Mapping[str, Column], source: str, ids: Sequence[str]) -> list[str]:
    """Refuse infinite numbers in columns of one number per case; a notice of each that some cases lack (NaN)."""
    notices = []
    for key, column in columns.items():
        if column.kind != "scalar":
            continue
        values = column.stack(range(len(column)))
        if len(bad := values.isinf().nonzero()):
            raise UserError(f"{source}: {key!r} of case {ids[int(bad[0])]} is infinite")
        if 0 < len(lacking := values.isnan().nonzero()) < len(column):
            notices.append(
                f"{source}: {key!r} is missing in {len(lacking)} of {len(column)} cases, as {ids[int(lacking[0, 0])]}; "
                "models are told numbers that every training case has"
            )
    return notices


def check_measured(columns: Mapping[str, Column], source: str, ids: Sequence[str]) -> None:
    """Refuse k-space that is not finite; of stored cases some are read."""
    for key, column in columns.items():
        if column.kind != "raw" or not column.stack([0]).is_complex():
            continue
        stored = isinstance(column, RowsColumn)
        for row in spread(len(column), 8) if stored else range(len(column)):
            broken = int((~torch.isfinite(column.stack([row]))).sum())
            if broken:
                raise UserError(
                    f"{source}: {key!r} of case {ids[row]} holds {broken} NaN or infinite numbers; mend it"
                )
