"""Volumes predicted slice by slice: what a model of pictures says of each slice, put together again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..applications.task import Task
from ..data.cases import Cases
from ..data.neighbours import BESIDE, SUFFIX, neighbour
from ..data.slices import content
from ..diffusion.noise import derive

__all__ = ["Slicewise", "slicewise"]

Batch = dict[str, Tensor]
Answer = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Slicewise:
    """How volumes go through a model of pictures.

    Attributes:
        axis: of a volume, that numbers its slices.
        plane: its name.
        images: keys that are cut.
        given: keys of images that prediction reads: where these are constant there is nothing to predict.
        raw: outputs in numbers of their own.
        beside: offsets of the neighbouring slices that the model sees.
        at_once: slices in one call.
    """

    axis: int
    plane: str
    images: tuple[str, ...]
    given: tuple[str, ...]
    raw: tuple[str, ...]
    beside: tuple[int, ...]
    at_once: int

    def filled(self, batch: Batch) -> list[int]:
        """Numbers of the slices of one volume, a batch of one, that the model is given; all, where all are empty."""
        count = batch[self.images[0]].shape[2 + self.axis]
        found = content({key: batch[key][0] for key in self.given}, self.axis)
        return found.nonzero()[:, 0].tolist() or list(range(count))

    def __call__(self, answer: Answer, batch: Batch) -> Batch:
        """The outputs of one volume: images as (1, C, *S), numbers as (1, slices, ...)."""
        numbers = self.filled(batch)
        parts = [
            answer(self._part(batch, numbers, numbers[first : first + self.at_once]))
            for first in range(0, len(numbers), self.at_once)
        ]
        first = batch[self.given[0]][0].movedim(1 + self.axis, 0)
        return {
            key: self._together(key, torch.cat([part[key] for part in parts]), numbers, first)[None]
            for key in parts[0]
        }

    def _part(self, batch: Batch, there: Sequence[int], numbers: Sequence[int]) -> Batch:
        """Some slices as a batch of pictures."""
        found = {}
        for key, value in batch.items():
            if key in self.images:
                slices = value[0].movedim(1 + self.axis, 0)
                found[key] = slices[numbers]
                if key in BESIDE and self.beside:
                    sides = [
                        [neighbour(there, k, offset) for k in numbers] for offset in self.beside
                    ]
                    found[key + SUFFIX] = torch.cat([slices[side] for side in sides], 1)
            elif key == "seed":
                seeds = [derive(int(value), number) for number in numbers]
                found[key] = torch.tensor(seeds, device=value.device)
            else:
                found[key] = value.expand(len(numbers), *value.shape[1:])
        return found

    def _together(self, key: str, values: Tensor, numbers: Sequence[int], first: Tensor) -> Tensor:
        """Slices `(m, C, *S)` as a volume, numbers `(m, ...)` with one for each slice.

        An empty slice stays as it is given in images, and is 0 in label maps and in what is `raw`.
        """
        found = values.new_zeros(len(first), *values.shape[1:])
        picture = values.dim() == first.dim()
        if picture and key not in self.raw and values.is_floating_point():
            blank = first.amax((2, 3), keepdim=True)
            found[:] = blank if blank.shape[1] == found.shape[1] else blank[:, :1]
        found[list(numbers)] = values
        if not picture:
            return found
        volume = found.movedim(0, 1 + self.axis)
        if key != "displacement":
            return volume
        across = torch.zeros_like(volume[:1])
        return torch.cat([volume[: self.axis], across, volume[self.axis :]])

    def told(self, entry: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """What `predictions.json` says of a volume: numbers of its slices, none where one is empty."""
        numbers = self.filled(batch)
        count = batch[self.images[0]].shape[2 + self.axis]
        empty = sorted({*range(count)} - {*numbers})
        values = {
            key: [None if k in empty else value for k, value in enumerate(each)]
            for key, each in entry["values"].items()
        }
        return {
            **entry,
            "values": values,
            "slices": {"plane": self.plane, "count": count, "empty": empty},
        }


def slicewise(cases: Cases, task: Task, beside: Sequence[int], at_once: int) -> Slicewise | None:
    """How the volumes that `cases` are slices of are predicted; None where they are none."""
    volumes = cases.volumes
    if volumes is None:
        return None
    images = (*cases.image_keys, *cases.mask_keys)
    images = tuple(key for key in images if key in volumes.columns)
    given = tuple(key for key in task.given or task.reads if key in cases.image_keys)
    return Slicewise(
        volumes.axis, volumes.plane, images, given or images, task.raw, tuple(beside), at_once
    )
