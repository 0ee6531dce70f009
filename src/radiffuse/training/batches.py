"""Which cases are in which step, and fetching them ahead of time.

Everything is a pure function of (seed, step), so that a run can go on from any step without any
stored state of a random generator.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..nn.augment import Augment
from . import processes
from .options import TrainOptions

Batch = dict[str, Tensor]

_AHEAD = 2
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Readable(Protocol):
    """What the loop needs of a list of cases."""

    def __len__(self) -> int: ...
    def batch(self, indices: list[int], /) -> Batch: ...


def augmentation(options: TrainOptions, cases: Any) -> Augment:
    """The random views that the options ask for, turned in mm where the cases tell the size of their voxels."""
    spacing = getattr(cases, "spacing", ()) if options.turn else ()
    return Augment(options.mirror, options.turn, options.zoom, options.shift, spacing)


def seed_of(*parts: int) -> int:
    """A seed in 0 .. 2^63 - 1 from integers; the same on every machine."""
    text = ",".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Order:
    """Every epoch is a fresh permutation of the cases; batches run on across epochs."""

    def __init__(self, cases: int, seed: int) -> None:
        self.cases = cases
        self.seed = seed
        self._epoch = -1
        self._permutation: list[int] = []

    def __call__(self, start: int, count: int) -> list[int]:
        """Cases number start .. start + count - 1 of the endless sequence."""
        return [self._at(*divmod(place, self.cases)) for place in range(start, start + count)]

    def _at(self, epoch: int, place: int) -> int:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
            self._permutation = torch.randperm(self.cases, generator=generator).tolist()
            self._epoch = epoch
        return self._permutation[place]


@dataclass(frozen=True)
class Part:
    """One micro-batch: its number among all of the step, its share of the batch, its tensors."""

    slot: int
    weight: float
    batch: Batch


class Batches:
    """The micro-batches of this process, step by step, read in one thread ahead of their use.

    Args:
        cases: what is read.
        batch: images in one step over all processes.
        accumulate: micro-batches of one process.
        seed: of the order.
    """

    def __init__(self, cases: Readable, *, batch: int, accumulate: int, seed: int) -> None:
        self.cases = cases
        self.batch = batch
        self.slots = accumulate * processes.world()
        first = processes.rank() * accumulate
        self._mine = range(first, first + accumulate)
        self._order = Order(len(cases), seed)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="radiffuse-read")
        self._coming: dict[int, Future[list[Part]]] = {}

    def __call__(self, step: int, last: float) -> list[Part]:
        """The micro-batches of `step`; those of the next steps, up to `last`, start to be read.

        An error in the reading thread is raised here as it is.
        """
        for ahead in range(step, step + _AHEAD + 1):
            if ahead not in self._coming and ahead <= max(last, step):
                self._coming[ahead] = self._thread.submit(self._read, ahead)
        return self._coming.pop(step).result()

    def indices(self, step: int) -> list[int]:
        """The cases of `step`, over all processes."""
        return Order(self._order.cases, self._order.seed)(step * self.batch, self.batch)

    def close(self) -> None:
        """Stop reading ahead."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _read(self, step: int) -> list[Part]:
        indices = self._order(step * self.batch, self.batch)
        parts = []
        for slot in self._mine:
            mine = [indices[i] for i in processes.share(self.batch, slot, self.slots)]
            batch = self.cases.batch(mine)
            if torch.cuda.is_available():
                batch = {key: value.pin_memory() for key, value in batch.items()}
            parts.append(Part(slot, len(mine) / self.batch, batch))
        return parts


def place(batch: Mapping[str, Tensor], device: torch.device, channels_last: bool) -> Batch:
    """`batch` on `device`, images with channels last if asked for."""
    moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    return {key: last(value) for key, value in moved.items()} if channels_last else moved


def last(tensor: Tensor) -> Tensor:
    """The same values with channels last in memory, where torch has such a format."""
    memory_format = _CHANNELS_LAST.get(tensor.dim())
    return tensor if memory_format is None else tensor.contiguous(memory_format=memory_format)
