"""Made pairs of images and label maps, kept as pictures are stored."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....diffusion.noise import derive
from ....errors import UserError
from ....training import processes
from ....training.tensorfile import opened, save
from ...recipe import Batch

__all__ = ["PASSED", "Joined", "Pairs", "kept", "made"]

PASSED = "passed"
"""Key of a made pair: whether the gate let all of its images through."""


@dataclass(frozen=True)
class Pairs:
    """Images uint8 (N, C, *S), 0 to 255 for -1 to 1, by key, and the labels "mask" uint8 (N, 1, *S)."""

    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.tensors["mask"])

    @property
    def fingerprint(self) -> str:
        """sha256 of all of them."""
        digest = hashlib.sha256()
        for key, value in sorted(self.tensors.items()):
            digest.update(f"{key} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        return digest.hexdigest()

    def batch(self, indices: Sequence[int], /) -> Batch:
        rows = torch.as_tensor(indices, dtype=torch.long)
        return {
            key: value[rows].long() if key == "mask" else value[rows].float() / 127.5 - 1
            for key, value in self.tensors.items()
        }

    def shuffled(self) -> "Pairs":
        """The same images, each with the labels of the next."""
        return Pairs({**self.tensors, "mask": self.tensors["mask"].roll(1, 0)})

    def write(self, path: Path) -> None:
        """Write them as safetensors."""
        save(path, self.tensors, {})

    @classmethod
    def read(cls, path: Path) -> "Pairs":
        """Read them.

        Raises:
            UserError: the file is missing or damaged.
        """
        with opened(path) as file:
            return cls({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118


def made(
    draw: Callable[[Batch], Batch],
    count: int,
    seed: int,
    discard: bool,
    batch: int = 32,
    progress: Callable[[float], None] = lambda done: None,
) -> Pairs:
    """Draw pairs.

    Args:
        draw: {"seed" (B,)} -> images in [-1, 1] by key, "mask" and `PASSED`.
        count: pairs drawn.
        seed: pair k depends on it and on k alone.
        discard: leave out those that did not pass the gate.
        batch: pairs at once.
        progress: told how many are done.

    Raises:
        UserError: fewer than two are left.
    """
    parts: list[Batch] = []
    for first in range(0, count, batch):
        rows = range(first, min(first + batch, count))
        drawn = draw({"seed": torch.tensor([derive(seed, "pair", k) for k in rows])})
        passed = drawn.pop(PASSED).cpu()
        good = passed if discard else torch.ones_like(passed)
        parts.append({key: _stored(key, value)[good] for key, value in drawn.items()})
        progress(rows.stop)
    tensors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    if len(tensors["mask"]) < 2:
        raise UserError(
            f"the gate let {len(tensors['mask'])} of {count} made images through, so that nothing can be learned "
            "from them: train the images longer (--images.minutes), allow more --attempts, or --no-discard"
        )
    return Pairs(tensors)


def _stored(key: str, value: Tensor) -> Tensor:
    value = value.detach().cpu()
    stored = value if key == "mask" else ((value.float() + 1) * 127.5).round().clamp(0, 255)
    return stored.to(torch.uint8)


class Joined:
    """Two sets of cases as one, of keys that both have.

    Args:
        first, second: the cases.
        keys: of them.
    """

    def __init__(self, first: Any, second: Any, keys: Sequence[str]) -> None:
        self.first, self.second, self.keys = first, second, tuple(keys)
        self.fingerprint = f"{first.fingerprint} and {second.fingerprint}"

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def batch(self, indices: Sequence[int], /) -> Batch:
        """In the order asked for."""
        here = [k for k, row in enumerate(indices) if row < len(self.first)]
        there = [k for k, row in enumerate(indices) if row >= len(self.first)]
        parts = []
        if here:
            parts.append(self.first.batch([indices[k] for k in here]))
        if there:
            parts.append(self.second.batch([indices[k] - len(self.first) for k in there]))
        back = torch.tensor([*here, *there]).argsort()
        return {key: torch.cat([part[key] for part in parts])[back] for key in self.keys}


def kept(path: Path, make: Callable[[], Pairs]) -> Pairs:
    """The pairs in a file; made and written where there is none."""
    if path.is_file():
        return Pairs.read(path)
    found = make()
    if processes.is_main():
        found.write(path)
    return found
