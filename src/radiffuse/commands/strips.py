"""What `predict` shows of a case: what was given, what came out, what is known of it, side by side.

A strip is `pictures/CASE.webp`; its headings, scales and units stand in
`predictions.json`. For reports: no number is taken from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Cases
from ..data.image import Image, orientation_of, upright
from ..metrics.estimate import Sums
from ..report.layer import VOLUMES, write_volume
from ..report.strip import FOLDER, grey, heat, labelled, write_strip
from ..runs.run import Run
from .subset import in_units_of

__all__ = ["Strips"]

_UNSHOWN = ("displacement", "path", "expected")
"""Vectors, series, and what the mean of draws says as well."""

Outputs = Mapping[str, Tensor]
MOST, FEW = 200, 24
MOST_LABELS = 64
"""Cases that are shown; of which the simulated measurement is shown too, which is made again for that."""


@dataclass(frozen=True)
class Tile:
    """One column of a strip: its heading, its picture, and what its values are (`records.Column`)."""

    head: str
    picture: np.ndarray
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Strips:
    """Writes the strips of a command.

    Attributes:
        opened: the run.
        cases: all that are predicted.
        out: folder of the predictions.
        cut: whether they are volumes that go slice by slice.
    """

    opened: Run
    cases: Cases
    out: Path
    cut: bool

    def __call__(
        self, rows: Mapping[int, int], batch: Outputs, outputs: Outputs, sums: Mapping[str, Sums]
    ) -> dict[int, dict[str, Any]]:
        """Write those of some cases, and say their headings, by row.

        Args:
            rows: of the cases, by their place in the batch.
            batch: what they hold, and "seed" of the draw.
            outputs: of the last draw, label maps of all.
            sums: of several draws; {} of one.
        """
        found = {}
        for place, row in ((place, row) for place, row in rows.items() if row < MOST):
            tiles = list(self._tiles(place, row, batch, outputs, sums))
            if tiles:
                path = self.out / FOLDER / self.cases.ids[row]
                file, widths = write_strip(path, [tile.picture for tile in tiles])
                shown = {
                    "file": f"{FOLDER}/{file}",
                    "heads": [tile.head for tile in tiles],
                    "columns": [
                        {**tile.about, "width": width}
                        for tile, width in zip(tiles, widths, strict=True)
                    ],
                    "unit": unit_of(self._like(row)),
                    **({"names": self._names} if self._names else {}),
                }
                found[row] = {"shown": {**shown, **self._volumes(row)}}
        return found

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Names of labels by mask key: of these cases, or of the training's."""
        facts = self.opened.manifest.get("data", {}).get("facts", {})
        known = {**facts.get("mask_names", {}), **self.cases.mask_names}
        return {key: list(names) for key, names in known.items()}

    def _volumes(self, row: int) -> dict[str, Any]:
        """The images of a case of volumes as the viewer takes them, of the first cases."""
        if row >= VOLUMES:
            return {}
        files = {}
        for key in (*self.cases.image_keys, *self.cases.mask_keys):
            image = self.cases.image(row, key)
            if orientation_of(image) and image.affine is not None and len(image.data) == 1:
                name = f"{self.cases.ids[row]}-{key}-given.nii.gz"
                values, labels = image.data[0].double().numpy(), key in self.cases.mask_keys
                write_volume(self.out / FOLDER / name, values, image.affine.numpy(), labels)
                files[key] = f"{FOLDER}/{name}"
        return {"given": files} if files else {}

    def _entered(self, place: int, row: int, batch: Outputs) -> Tensor | None:
        """What the method started from, where it simulates that."""
        make = getattr(self.opened.recipe, "entered", None)
        simulated = getattr(self.opened.recipe, "simulated", True) is not False
        if (
            make is None
            or not simulated
            or self.cut
            or row >= FEW
            or {"kspace", "noisy"} & set(batch)
        ):
            return None
        entered: Tensor = make({key: value[place : place + 1] for key, value in batch.items()})
        return entered[0]

    def _tiles(
        self, place: int, row: int, batch: Outputs, outputs: Outputs, sums: Mapping[str, Sums]
    ) -> Iterator[Tile]:
        """One for each column."""
        like = self._like(row)
        axes = len(like.size)
        if (entered := self._entered(place, row, batch)) is not None:
            yield self._tile("", entered, row, "measured, simulated")
        for key, value in batch.items():
            if value.dim() == axes + 2 and not value.is_complex():
                yield self._tile(key, value[place], row, f"{key}, given")
        count = max((each.count for each in sums.values()), default=1)
        for key, value in outputs.items():
            if key.startswith("_") or value.dim() != axes + 2 or key in _UNSHOWN:
                continue
            if key not in sums:
                yield self._tile(key, value[place], row, key)
                yield from self._off(key, value[place], batch, place, row)
                continue
            mean = sums[key].mean[place]
            mean = mean.abs() if mean.is_complex() else mean
            yield self._tile(key, mean, row, f"{key}, mean of {count}")
            yield from self._off(key, mean, batch, place, row)
            if key not in self.opened.recipe.task.raw:
                yield self._spread(key, sums[key].std()[place], row, f"where the {count} differ")

    def _off(self, key: str, value: Tensor, batch: Outputs, place: int, row: int) -> Iterator[Tile]:
        """How far an answer is from what was given under its name."""
        given = batch.get(key)
        if given is None or given[place].shape != value.shape or given.is_complex():
            return
        if value.is_floating_point():
            apart = (value.cpu() - given[place].cpu()).abs()
            yield self._spread(key, apart, row, f"{key}, off what was given")
        else:
            wrong = (value.cpu() != given[place].cpu()).double()
            about = {"kind": "heat", "key": key, "most": 1.0, "unit": "(1: another label)"}
            picture = heat(_upright(wrong, self._like(row)), 1.0)
            yield Tile(f"{key}, off what was given", picture, about)

    def _tile(self, key: str, value: Tensor, row: int, head: str) -> Tile:
        """Labels in colours, raw values by their largest, images in grey."""
        if key in self.opened.recipe.task.raw and key != "magnitude":
            first = "" if len(value) == 1 else f", {self._first(key)}"
            share = key == "probability"
            return self._heat(key, value, row, head + first, most=1.0 if share else None)
        data = _upright(value, self._like(row))
        if not value.is_floating_point():
            there = [int(label) for label in np.unique(data) if label]
            return Tile(
                head,
                labelled(data),
                {"kind": "labels", "key": key, "labels": there[:MOST_LABELS]},
            )
        if key == "magnitude":
            top = max(float(data.max()), 1e-12)
            return Tile(head, grey(2 * data / top - 1), {"kind": "grey", "key": key, "most": top})
        low, high = self._limits(key, row)
        about = {"kind": "grey", "key": key, "least": low, "most": high}
        return Tile(head, grey(data), {**about, "unit": unit_of(self._like(row))})

    def _first(self, key: str) -> str:
        """What the first of several channels is called."""
        names = self._names.get("mask", ())
        return names[1] if key == "probability" and len(names) > 1 and names[1] else "the first"

    def _spread(self, key: str, value: Tensor, row: int, head: str) -> Tile:
        """A deviation or difference of images, from [-1, 1] in stored units."""
        low, high = self._limits(key, row)
        return self._heat(key, value * (high - low) / 2, row, head, unit_of(self._like(row)))

    def _heat(
        self,
        key: str,
        value: Tensor,
        row: int,
        head: str,
        unit: str = "",
        most: float | None = None,
    ) -> Tile:
        """The first channel of what is not below zero, up to `most` or nearly its largest value."""
        data = _upright(value[:1].double().abs(), self._like(row))
        top = most or float(np.quantile(data, 0.995)) or float(data.max())
        about = {"kind": "heat", "key": key, "most": top, "unit": unit}
        return Tile(head, heat(data, top), about)

    def _limits(self, key: str, row: int) -> tuple[float, float]:
        """The stored values that are -1 and 1 of an image."""
        own = key if key in self.cases.image_keys else ""
        images = [k for k in self.cases.image_keys if k not in self.opened.recipe.task.pictures]
        if own or images:
            of = own or images[0]
            like = in_units_of(self.opened, key or of, self.cases.image(row, of), of)
            return like.range or self.cases.ranges.get(of, (-1.0, 1.0))
        return -1.0, 1.0

    def _like(self, row: int) -> Image:
        """The grid that pictures lie on: of the first image the case has."""
        keys = [key for key in self.cases.image_keys if key not in self.opened.recipe.task.pictures]
        if keys:
            return self.cases.image(row, keys[0])
        size = getattr(self.opened.recipe, "size", ()) or (1, 1)
        return Image(torch.zeros(1, *size))


def unit_of(image: Image) -> str:
    """The unit of its stored values."""
    return "HU" if image.modality == "CT" else "stored units"


def _upright(value: Tensor, like: Image) -> np.ndarray:
    """`(C, *S)` as `data.shown` takes it: volumes in RAS."""
    return upright(Image(value.detach().cpu(), like.affine)).data.numpy()
