"""Classical methods beside a reconstruction, their weights chosen on training cases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...data.dataset import Cases
from ...errors import UserError
from ...inverse import Measurement
from ...inverse.classical import (
    biharmonic,
    cg_sense,
    cubic_upsampling,
    filtered_back_projection,
    non_local_means,
)
from ...inverse.compressed import l1_wavelet, total_variation
from ...operators.tomography import hann
from ..evaluation.asked import spread
from ..evaluation.progress import progress_bar
from ..tuning import Tuned, tune
from .measuring import reference

__all__ = [
    "PLAIN",
    "TUNING",
    "WEIGHTED",
    "Baseline",
    "Chosen",
    "Weighted",
    "classical",
    "tuning_of",
]

TUNING = 4


Baseline = Callable[[Measurement, Tensor], Tensor]


Weighted = Callable[[Measurement, Tensor, float, int], Tensor]


def _cg_sense(measurement: Measurement, like: Tensor, weight: float, work: int) -> Tensor:
    return cg_sense(measurement, like, weight)


def _l1_wavelet(measurement: Measurement, like: Tensor, weight: float, work: int) -> Tensor:
    return l1_wavelet(measurement, like, weight, iterations=work // 3)


def _total_variation(measurement: Measurement, like: Tensor, weight: float, work: int) -> Tensor:
    return total_variation(measurement, like, weight, iterations=work, tolerance=1e-3)


WEIGHTED: dict[str, dict[str, tuple[Weighted, tuple[float, ...]]]] = {
    "mri": {
        "cg_sense": (_cg_sense, (1e-3, 1e-2, 1e-1)),
        "l1_wavelet": (_l1_wavelet, (4e-3, 1.6e-2)),
        "total_variation": (_total_variation, (4e-3, 1.6e-2)),
    },
    "ct": {"total_variation": (_total_variation, (1.0, 4.0))},
    "super-resolution": {},
    "noise": {"total_variation": (_total_variation, (0.03, 0.1))},
    "inpainting": {"total_variation": (_total_variation, (1e-3, 1e-2))},
}
"""Baselines with a weight, and the grid from which it is chosen on training cases."""


PLAIN: dict[str, dict[str, Baseline]] = {
    "mri": {},
    "ct": {
        "fbp": filtered_back_projection,
        "fbp_hann": lambda m, x: filtered_back_projection(m, x, hann),
    },
    "super-resolution": {"cubic": cubic_upsampling},
    "noise": {"non_local_means": non_local_means},
    "inpainting": {"biharmonic": biharmonic},
}


def classical(recipe: Any, train: Cases, work: int = 300) -> dict[str, Baseline]:
    """The classical methods of a measurement, their weights chosen on a few training cases.

    Args:
        recipe: says what is measured.
        train: cases that choose the weights.
        work: iterations of total variation at most; wavelets take a third of them.
    """
    found = {name: _unbiased(method) for name, method in PLAIN[recipe.measurement].items()}
    weighted = WEIGHTED[recipe.measurement]
    if not weighted:
        return found
    images = _images(train, spread(len(train), TUNING))
    acquired = recipe.acquire({"image": images})
    truth = reference(recipe, images).to(acquired.first.dtype)
    with progress_bar("tuning baselines", len(weighted)) as done:
        for number, (name, (method, grid)) in enumerate(weighted.items(), start=1):
            tried = _with_work(method, work)
            tuned = tune(_magnitudes(tried), [(acquired.measurement, truth)], grid)
            found[name] = Chosen(tried, tuned)
            done(number)
    return found


def _with_work(method: Weighted, work: int) -> Callable[[Measurement, Tensor, float], Tensor]:
    return _unbiased(lambda m, like, weight: method(m, like, weight, work))


def _magnitudes(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method's images without their phases, which are of the scan and not of the stored image."""
    return lambda m, like, *rest: method(m, like, *rest).abs().to(like)


def _unbiased(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method whose image is brought back from the mean of the measurement to the signal."""
    return lambda m, *rest: m.unbiased(method(m, *rest))


@dataclass(frozen=True)
class Chosen:
    """A method with the weight that was chosen."""

    method: Callable[[Measurement, Tensor, float], Tensor]
    tuned: Tuned

    def __call__(self, measurement: Measurement, like: Tensor) -> Tensor:
        return self.method(measurement, like, self.tuned.weight)


def tuning_of(rivals: Mapping[str, Baseline]) -> dict[str, dict[str, float]]:
    """The trials of what was tuned, and the weight chosen; the method itself is not."""
    chosen = {name: each.tuned for name, each in rivals.items() if isinstance(each, Chosen)}
    tuned = {name: {"trials": it.trials, "weight": it.weight} for name, it in chosen.items()}
    return {"method": {"trials": 0}, **tuned}


def _images(cases: Cases, rows: Sequence[int]) -> Tensor:
    batch = cases.batch(rows)
    if "image" not in batch:
        raise UserError(
            f"{cases.source}: evaluation needs images; name them with --map image=COLUMN"
        )
    return batch["image"]
