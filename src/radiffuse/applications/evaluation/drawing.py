"""What a method says of held-out cases, batch by batch and draw by draw, the same in every evaluation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...diffusion.noise import derive
from ...errors import UserError
from ...metrics.calibration import crps
from ...metrics.estimate import Sums
from ...training.objective import device_of
from ..recipe import Batch
from .asked import Asked
from .progress import progress_bar

__all__ = ["Drawn", "drawn", "in_batches", "predicted", "predictions"]

Told = Sequence[str] | Mapping[str, Tensor]
"""Keys that are read from the cases batch by batch, or tensors of all cases."""


def predictions(
    recipe: Any,
    objective: Any,
    cases: Cases,
    asked: Asked,
    told: Told,
    title: str,
    samples: int = 1,
) -> Iterator[tuple[range, Iterator[Batch]]]:
    """Numbers of the cases of a batch, and their predictions, one a draw, on the CPU.

    Draw k of a case depends on `asked.seed`, the case's name and k alone. The draws of a batch are
    made as they are taken, and are to be taken before the next batch.

    Args:
        recipe, objective: what predicts.
        cases: that are predicted.
        asked: says seed and batch.
        told: what the recipe is told of them.
        title: of the progress bar.
        samples: draws of each case.

    Raises:
        UserError: a prediction is not finite.
    """
    device = device_of(objective)
    with progress_bar(title, len(cases) * samples) as done:

        def several(rows: range) -> Iterator[Batch]:
            batch = _told(cases, told, rows)
            given = {key: value.to(device) for key, value in batch.items()}
            for k in range(samples):
                seeds = torch.tensor([derive(asked.seed, cases.ids[row], k) for row in rows])
                with torch.no_grad():
                    made = recipe.predict(objective, {**given, "seed": seeds})
                found = {key: value.detach().cpu() for key, value in made.items()}
                _check_finite(found, cases.ids[rows.start : rows.stop])
                yield found
                done(rows.start * samples + (k + 1) * len(rows))

        for first in range(0, len(cases), asked.batch):
            rows = range(first, min(first + asked.batch, len(cases)))
            yield rows, several(rows)


def _told(cases: Cases, told: Told, rows: range) -> Batch:
    if isinstance(told, Mapping):
        return {key: value[rows.start : rows.stop] for key, value in told.items()}
    batch = cases.batch(rows)
    return {key: batch[key] for key in told}


def _check_finite(made: Batch, names: Sequence[str]) -> None:
    for key, value in made.items():
        fine = torch.isfinite(value).flatten(1).all(1) if value.dim() > 1 else torch.isfinite(value)
        if not bool(fine.all()):
            raise UserError(
                f"the prediction of {names[int((~fine).nonzero()[0])]} ({key}) is not finite"
            )


def predicted(
    recipe: Any, objective: Any, cases: Cases, asked: Asked, told: Told, title: str
) -> Batch:
    """One draw of every case, all outputs."""
    parts = [
        next(several) for _, several in predictions(recipe, objective, cases, asked, told, title)
    ]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


@dataclass(frozen=True)
class Drawn:
    """Several draws of one output of every case, summed up.

    Attributes:
        mean, std: over the draws, `(n, C, *S)`; std is 0 for one draw.
        first: the first draw.
        crps: of the draws, (n,), where there are several and the truth is known.
    """

    mean: Tensor
    std: Tensor
    first: Tensor
    crps: Tensor | None = None

    @classmethod
    def of_one(cls, x: Tensor) -> "Drawn":
        """What has no randomness, kept to [-1, 1]."""
        x = x.clamp(-1, 1)
        return cls(x, torch.zeros_like(x), x)


def drawn(
    batches: Iterable[tuple[range, Iterator[Batch]]], key: str, truth: Tensor | None = None
) -> Drawn:
    """The draws of `predictions` of one output, summed up batch by batch.

    Args:
        batches: what `predictions` gives.
        key: of the output.
        truth: of all cases, `(n, C, *S)`, for `Drawn.crps`.
    """
    parts, scores = [], []
    for rows, several in batches:
        sums, each = Sums(), []
        for made in several:
            sums.add(made[key].float())
            each += [] if truth is None else [made[key].float()]
        parts.append((sums.mean, sums.std(), sums.first))
        if truth is not None and len(each) > 1:
            scores.append(crps(torch.stack(each), truth[rows.start : rows.stop].float()))
    mean, std, first = (torch.cat(each) for each in zip(*parts, strict=True))
    return Drawn(mean, std, first, torch.cat(scores) if scores else None)


def in_batches(
    make: Callable[[Batch], Tensor], parts: Mapping[str, Tensor], batch: int, device: torch.device
) -> Tensor:
    """A function of batches applied to all rows of `parts`, `batch` at once, joined on the CPU."""
    rows = range(0, len(next(iter(parts.values()))), batch)
    with torch.no_grad():
        made = [
            make({key: value[k : k + batch].to(device) for key, value in parts.items()}).cpu()
            for k in rows
        ]
    return torch.cat(made)
