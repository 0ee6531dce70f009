"""Training cases whose codes are kept: an auto-encoder that does not change need not see an image twice."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...data.cases import Cases
from ..recipe import Batch
from .denoising import CODE, DEVIATION, CodeDenoising

__all__ = ["KeptCodes", "kept_codes"]

SHARE = 0.25
"""Of the memory that is free, for codes."""


class KeptCodes:
    """Cases with the laws of their codes in place of images.

    Args:
        cases: all of them.
        columns: of each case, "code" and "deviation" as the network sees them (N, C_z, *L), and what it is told.
    """

    def __init__(self, cases: Cases, columns: Batch) -> None:
        self.cases, self.columns = cases, columns
        self.fingerprint, self.ids = cases.fingerprint, cases.ids

    def __len__(self) -> int:
        return len(self.cases)

    def batch(self, indices: Sequence[int]) -> Batch:
        return {key: column[list(indices)] for key, column in self.columns.items()}


@torch.no_grad()
def kept_codes(
    objective: CodeDenoising,
    cases: Cases,
    free: int,
    progress: Callable[[int, int], Any] = lambda done, of: None,
    batch: int = 8,
) -> KeptCodes | None:
    """The cases with their codes; None where these would take more than a quarter of the memory.

    Args:
        objective: of the second stage.
        cases: to train on, as they are: not augmented.
        free: bytes of memory.
        progress: called with (cases done, all of them).
    """
    laws: list[Batch] = []
    for first in range(0, len(cases), batch):
        read = cases.batch(range(first, min(first + batch, len(cases))))
        mean, deviation = objective.law(read["image"])
        told = {key: value for key, value in read.items() if key != "image"}
        laws.append({**told, CODE: mean.cpu(), DEVIATION: deviation.cpu()})
        if first == 0 and len(cases) / len(mean) * _bytes(laws[0]) > SHARE * free:
            return None
        progress(min(first + batch, len(cases)), len(cases))
    return KeptCodes(cases, {key: torch.cat([part[key] for part in laws]) for key in laws[0]})


def _bytes(batch: Batch) -> int:
    return sum(value.numel() * value.element_size() for value in batch.values())
