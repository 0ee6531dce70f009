"""What `predict` shows of a case: what was given, what came out, what is known of it, side by side.

A strip is `pictures/CASE.png` (or .jpg, of large images); its headings stand in `predictions.json`. For reports:
no number is taken from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

__all__ = ["Strips"]

_UNSHOWN = ("displacement", "path", "expected")
"""Vectors, series, and what the mean of draws says as well."""

Outputs = Mapping[str, Tensor]
MOST, FEW = 200, 24
"""Cases that are shown; of which the simulated measurement is shown too, which is made again for that."""


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
                heads, pictures = zip(*tiles, strict=True)
                file = write_strip(path, pictures)
                shown = {"file": f"{FOLDER}/{file}", "heads": list(heads)}
                found[row] = {"shown": {**shown, **self._volumes(row)}}
        return found

    def _volumes(self, row: int) -> dict[str, Any]:
        """The images of a case of volumes as the viewer takes them, of the first cases."""
        if row >= VOLUMES:
            return {}
        files = {}
        for key in self.cases.image_keys:
            image = self.cases.image(row, key)
            if orientation_of(image) and image.affine is not None and len(image.data) == 1:
                name = f"{self.cases.ids[row]}-{key}-given.nii.gz"
                write_volume(
                    self.out / FOLDER / name, image.data[0].double().numpy(), image.affine.numpy()
                )
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
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Heading and picture of each column."""
        like = self._like(row)
        axes = len(like.size)
        if (entered := self._entered(place, row, batch)) is not None:
            yield self._tile("", entered, like, "measured, simulated")
        for key, value in batch.items():
            if value.dim() == axes + 2 and not value.is_complex():
                yield self._tile(key, value[place], like, f"{key}, given")
        count = max((each.count for each in sums.values()), default=1)
        for key, value in outputs.items():
            if key.startswith("_") or value.dim() != axes + 2 or key in _UNSHOWN:
                continue
            if key not in sums:
                yield self._tile(key, value[place], like, key)
                continue
            mean = sums[key].mean[place]
            mean = mean.abs() if mean.is_complex() else mean
            yield self._tile(key, mean, like, f"{key}, mean of {count}")
            if key not in self.opened.recipe.task.raw:
                spread = sums[key].std()[place]
                yield self._heat(spread, like, f"where the {count} differ")

    def _tile(self, key: str, value: Tensor, like: Image, head: str) -> tuple[str, np.ndarray]:
        if key in self.opened.recipe.task.raw:
            return self._heat(value, like, head)
        data = _upright(value, like)
        labels = not value.is_floating_point()
        if not labels and key == "magnitude":
            data = 2 * data / max(float(data.max()), 1e-12) - 1
        return head, labelled(data) if labels else grey(data)

    def _heat(self, value: Tensor, like: Image, head: str) -> tuple[str, np.ndarray]:
        head = head if len(value) == 1 else f"{head}, the first of {len(value)}"
        data = _upright(value[:1].double().abs(), like)
        most = float(np.quantile(data, 0.995))
        return f"{head}, 0 to {most:.3g}", heat(data, most)

    def _like(self, row: int) -> Image:
        """The grid that pictures lie on: of the first image the case has."""
        keys = [key for key in self.cases.image_keys if key not in self.opened.recipe.task.pictures]
        if keys:
            return self.cases.image(row, keys[0])
        size = getattr(self.opened.recipe, "size", ()) or (1, 1)
        return Image(torch.zeros(1, *size))


def _upright(value: Tensor, like: Image) -> np.ndarray:
    """`(C, *S)` as `data.shown` takes it: volumes in RAS."""
    return upright(Image(value.detach().cpu(), like.affine)).data.numpy()
