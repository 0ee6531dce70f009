"""Cases: what training, prediction and evaluation read, whatever the files look like."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from ..diffusion.spectrum import power
from ..errors import UserError
from .columns import Column
from .facts import AT_ONCE, Facts, labels_of, moments, sample_of, scalars_of, spacing_of
from .image import Image
from .names import safe_names
from .scan import differing
from .slices import Volumes
from .table import SPLITS
from .transforms import to_unit

Range = tuple[float, float]


@dataclass(frozen=True, repr=False)
class Cases:
    """Cases in memory or on disk.

    Attributes:
        source: path or name that was opened.
        columns: data by key, over all cases of the source.
        rows: which of these are here (a split has some of them).
        all_ids, all_patients, all_splits: one for each case of the source; ids are names of files.
        ranges: range of stored values that becomes [-1, 1], by image key. Hand it to `open_cases`
            for prediction, so that it reads with the range of training.
        class_names: a name for each class, or ().
        mask_names: a name for each label per voxel ("" where it has none), by mask key where the data say so.
        all_texts: plain text by name (no tensors): `texts` gives the rows here.
        shapes: `(C, *S)` by key, of every case where they differ; () where they are all alike.
        lines: notices so far.
        known: fingerprint where it is known without reading.
        split_here: whether the splits were drawn here, because the data name none.
        all_names: what the data call each case, where that is no name of a file; else as `all_ids`.
        orientation: axis codes of all volumes ("RAS"); "" where there are none or nothing is known.
        codes: the stored numbers that mean the labels 0, 1, 2 ... of masks; () without masks.
        volumes: what the cases are slices of; None where they are none.
    """

    source: str
    columns: Mapping[str, Column]
    rows: tuple[int, ...]
    all_ids: tuple[str, ...]
    all_patients: tuple[str, ...]
    all_splits: tuple[str, ...]
    ranges: Mapping[str, Range]
    class_names: tuple[str, ...] = ()
    all_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    known: str | None = None
    split_here: bool = False
    all_names: tuple[str, ...] = ()
    orientation: str = ""
    codes: tuple[int, ...] = ()
    volumes: Volumes | None = None
    mask_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        """How many cases of which keys, in one line."""
        splits = ", ".join(f"{self.split_of.count(s)} {s}" for s in SPLITS if s in self.split_of)
        return f"Cases({self.source}: {len(self)} cases ({splits}), {', '.join(self.keys)})"

    def __getitem__(self, index: int) -> dict[str, Image | float | Tensor | str]:
        """One case by key: images in stored units with their geometry, numbers, raw values, and text."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.source}: there are {len(self)} cases, not {index}")
        index %= len(self)
        found: dict[str, Image | float | Tensor | str] = {"case": self.ids[index]}
        for key, column in self.columns.items():
            if column.kind in ("image", "mask"):
                found[key] = self.image(index, key)
            else:
                (value,) = column.stack([self.rows[index]])
                found[key] = value if value.ndim else value.item()
        return found | {key: cells[index] for key, cells in self.texts.items()}

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each case, unique."""
        return tuple(self.all_ids[row] for row in self.rows)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """Median distance of voxels of the first images, or masks, along each axis, mm; () where it is not known."""
        keys = self.image_keys or self.mask_keys
        return spacing_of(self.columns[keys[0]], self.rows) if keys else ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the data call each case."""
        return tuple((self.all_names or self.all_ids)[row] for row in self.rows)

    @property
    def patients(self) -> tuple[str, ...]:
        """Patient of each case; the case itself where unknown."""
        return tuple(self.all_patients[row] for row in self.rows)

    @property
    def split_of(self) -> tuple[str, ...]:
        """ "train", "val" or "test" of each case."""
        return tuple(self.all_splits[row] for row in self.rows)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of a batch; image keys first."""
        return tuple(self.columns)

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Keys whose tensors are images in [-1, 1]."""
        return tuple(key for key, column in self.columns.items() if column.kind == "image")

    @property
    def mask_keys(self) -> tuple[str, ...]:
        """Keys whose tensors are labels per voxel."""
        return tuple(key for key, column in self.columns.items() if column.kind == "mask")

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know, one line each; the same remark on several files is one line."""
        groups: dict[str, list[str]] = {}
        for line in dict.fromkeys(self.lines):
            groups.setdefault(line.partition(": ")[2] or line, []).append(line)
        return tuple(
            lines[0] + (f" (and {len(lines) - 1} more files)" if len(lines) > 1 else "")
            for lines in groups.values()
        )

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Text columns (sequence, sex ...) of the cases here."""
        return {
            key: tuple(cells[row] for row in self.rows) for key, cells in self.all_texts.items()
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over ids, splits and stored bytes of every key, the same on every machine."""
        digest = hashlib.sha256((self.known or "").encode())
        for row in self.rows:
            digest.update(f"\0{self.all_ids[row]}\0{self.all_splits[row]}".encode())
            if self.known is None:
                for key, column in sorted(self.columns.items()):
                    digest.update(f"\0{key}\0{column.hashed(row)}".encode())
        return digest.hexdigest()

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Tensors of some cases.

        Returns:
            By key: images float32 `(B, C, *S)` in [-1, 1]; masks int64 `(B, 1, *S)`; "label" int64
            `(B,)`; other numbers float32 `(B,)`; coordinates and k-space as stored, `(B, ...)`.

        Raises:
            UserError: a file cannot be read, or its voxels are NaN or infinite.
        """
        rows = [self.rows[index] for index in indices]
        return {key: self._tensor(key, column, rows) for key, column in self.columns.items()}

    def _tensor(self, key: str, column: Column, rows: Sequence[int]) -> Tensor:
        stored = column.stack(rows)
        if column.kind == "image":
            return to_unit(stored, self.ranges[key])
        return stored.long() if column.kind == "mask" else stored

    def split(self, name: str) -> "Cases":
        """The cases of one split.

        Raises:
            UserError: no case belongs to it; names the splits there are.
        """
        rows = tuple(row for row in self.rows if self.all_splits[row] == name)
        if not rows:
            here = ", ".join(split for split in SPLITS if split in self.split_of)
            raise UserError(f"{self.source}: has no split {name!r}; it has {here}")
        return replace(self, rows=rows)

    def held_out(self) -> "Cases":
        """The test split, or val where there is no test.

        Raises:
            UserError: all cases are training cases.
        """
        if set(self.split_of) == {"train"}:
            raise UserError(
                f"{self.source}: all of its cases are for training and none is held out; name others with "
                "--data, or take these with --split train"
            )
        return self.split("test" if "test" in self.split_of else "val")

    def take(self, indices: Sequence[int]) -> "Cases":
        """Some of the cases, in that order."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))

    def without(self, keys: Collection[str]) -> "Cases":
        """The cases without some of their data."""
        columns = {key: column for key, column in self.columns.items() if key not in keys}
        return replace(self, columns=columns, volumes=self.volumes and self.volumes.without(keys))

    def whole(self) -> "Cases":
        """The volumes that these are slices of, as cases; others as they are."""
        if self.volumes is None:
            return self
        first: dict[int, int] = {}
        for row in self.rows:
            first.setdefault(self.volumes.of[row], row)
        count = len(self.volumes.names)
        patients, splits = [""] * count, [""] * count
        for row, volume in enumerate(self.volumes.of):
            patients[volume], splits[volume] = self.all_patients[row], self.all_splits[row]
        return replace(
            self,
            columns=self.volumes.columns,
            rows=tuple(first),
            all_ids=safe_names(self.volumes.names),
            all_names=self.volumes.names,
            all_patients=tuple(patients),
            all_splits=tuple(splits),
            all_texts={},
            shapes={},
            volumes=None,
        )

    def kept(self, choose: Callable[[dict[str, Tensor]], Tensor]) -> "Cases":
        """The cases whose batches `choose` says True of, `(B,)` bool; read in parts."""
        rows: list[int] = []
        keys = self.image_keys or self.mask_keys
        voxels = max(
            (self.columns[key].image(self.rows[0]).data.numel() for key in keys), default=1
        )
        at_once = min(64, max(1, AT_ONCE // voxels))
        for first in range(0, len(self), at_once):
            part = range(first, min(first + at_once, len(self)))
            flags = choose(self.batch(part)).tolist()
            rows += [row for row, good in zip(part, flags, strict=True) if good]
        return self if len(rows) == len(self) else self.take(rows)

    def image(self, index: int, key: str) -> Image:
        """One image in stored units with its geometry (on the grid of `size` where one was asked).

        Its `range` is the one that `batch` scaled by, so `save_like` gives predictions back in the
        values of the input.
        """
        if key not in self.columns or self.columns[key].kind not in ("image", "mask"):
            raise UserError(f"{self.source}: {key!r} is no image; there are {', '.join(self.keys)}")
        image = self.columns[key].image(self.rows[index])
        return replace(image, range=self.ranges.get(key, image.range))

    def where(self, index: int, key: str) -> str:
        """Where one case of a key lies: its file, or the array."""
        return self.columns[key].source(self.rows[index])

    def check_shapes(self) -> None:
        """Refuse images of different size, which cannot make a batch.

        Raises:
            UserError: says which case has which shape.
        """
        for key, shapes in self.shapes.items():
            here = [shapes[row] for row in self.rows]
            if len(set(here)) > 1:
                told = differing(here, key, self.source, self.ids)
                raise UserError(f"{told}; --size resizes all to one size")

    def facts(self) -> Facts:
        """Measure the data; see `Facts`.

        Raises:
            UserError: images differ in size.
        """
        self.check_shapes()
        training = tuple(row for row in self.rows if self.all_splits[row] == "train") or self.rows
        columns, ranges = self.columns, self.ranges
        images = {key: columns[key].image(training[0]).data.shape for key in self.image_keys}
        key = self.image_keys[0] if images else ""
        mean, std, diameter = (0.0,) * 3
        if images:
            mean, std, diameter = moments(columns[key], training, ranges[key])
        classes = 0
        if "label" in columns:
            labels = columns["label"].stack(self.rows)
            classes = max(int(labels.max()) + 1, len(self.class_names))
        return Facts(
            keys=self.keys,
            channels={key: shape[0] for key, shape in images.items()},
            size={key: tuple(shape[1:]) for key, shape in images.items()},
            classes=classes,
            class_names=self.class_names,
            std=std,
            mean=mean,
            diameter=diameter,
            cases=len(self),
            mask_classes={key: labels_of(columns[key], training) for key in self.mask_keys},
            mask_names=dict(self.mask_names),
            mask_size={key: columns[key].image(training[0]).size for key in self.mask_keys},
            spectrum={key: power(sample_of(columns[key], training, ranges[key])) for key in images},
            **scalars_of(columns, training),
            spacing=spacing_of(columns[key], training) if images else (),
            raw={
                key: tuple(column.stack(training[:1]).shape[1:])
                for key, column in columns.items()
                if column.kind == "raw"
            },
            stain=getattr(columns.get("image"), "reference", ()),
        )


def with_one_range(cases: Cases, keys: Sequence[str]) -> Cases:
    """The same cases, `keys` scaled to [-1, 1] by one range that holds all of theirs.

    Keys that are not there get it too: a model may be told later what it was not trained on.
    """
    here = [cases.ranges[key] for key in keys if key in cases.ranges]
    if not here:
        return cases
    both = (min(low for low, _ in here), max(high for _, high in here))
    beside = [key for key in cases.ranges if key.removesuffix("_neighbours") in keys]
    return replace(cases, ranges={**cases.ranges, **dict.fromkeys([*keys, *beside], both)})


def with_any_size(cases: Cases) -> Cases:
    """The same cases, for a method of windows: held-out images may differ in size from the others.

    Raises:
        UserError: training images differ in size.
    """
    training = tuple(row for row in cases.rows if cases.all_splits[row] == "train")
    replace(cases, rows=training).check_shapes()
    return replace(cases, shapes={})
