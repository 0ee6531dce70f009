"""Draw images from a generative recipe: one seed each, shared out over the processes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import processes
from ..data.dataset import Cases
from ..noise import derive
from .progress import progress_bar


def drawn_labels(recipe: Any, train: Cases, count: int, seed: int) -> Tensor | None:
    """Labels `(count,)` at the frequencies of training, for a recipe that is told the class."""
    if not getattr(recipe, "classes", 0) or "label" not in train.keys:
        return None
    labels = train.batch(range(len(train)))["label"]
    return labels[[derive(seed, "label", k) % len(labels) for k in range(count)]]


def generate(
    recipe: Any, objective: Any, count: int, labels: Tensor | None, *, seed: int, batch: int
) -> Tensor:
    """`(count, C, *S)` images in [-1, 1] on the CPU, the same on every process."""
    mine = processes.share(count, processes.rank(), processes.world())
    parts: list[Tensor] = []
    with progress_bar("sampling", len(mine)) as done:
        for first in range(mine.start, mine.stop, batch):
            rows = range(first, min(first + batch, mine.stop))
            images = recipe.predict(objective, _request(rows, labels, seed))["image"]
            parts.append(images.detach().float())
            done(rows.stop - mine.start)
    return _gathered(parts, mine, count)


def chain(recipe: Any, objective: Any, labels: Tensor | None, seed: int) -> Iterator[Tensor]:
    """The states of the sampling chain of samples 0 to 5, `(6, C, *S)` each, the last the result.

    A state wider than the images (noise of standard deviation above 1) is scaled to deviation 1.
    """
    rows = range(6 if labels is None else min(6, len(labels)))
    for state in recipe.trajectory(objective, _request(rows, labels, seed)):
        x = state.detach().float().cpu()
        yield x / x.std().clamp_min(1)


def _request(rows: range, labels: Tensor | None, seed: int) -> dict[str, Tensor]:
    request = {"seed": torch.tensor([derive(seed, k) for k in rows])}
    return request if labels is None else {**request, "label": labels[list(rows)]}


def _gathered(parts: list[Tensor], mine: range, count: int) -> Tensor:
    """Every process's part in its place: a sum of arrays that are 0 elsewhere."""
    if processes.world() == 1:
        return torch.cat(parts).cpu()
    shape = torch.tensor(parts[0].shape[1:] if parts else (0,), dtype=torch.float64)
    sides = [int(side) for side in processes.agree(_padded(shape.tolist()))]
    everything = torch.zeros(count, *(side for side in sides if side))
    if parts:
        everything = everything.to(parts[0].device)
        everything[mine.start : mine.stop] = torch.cat(parts)
    processes.sum_(everything)
    return everything.cpu()


def _padded(sides: list[float]) -> list[float]:
    """A shape as four numbers, so that a process without samples can learn it from the others."""
    return (sides + [0.0] * 4)[:4]
