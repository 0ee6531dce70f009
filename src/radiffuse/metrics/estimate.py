"""One measured number: mean, 95 % confidence interval, n; or the reason why there is none.

Every metric of the library becomes one of these JSON objects, so that a table never has to guess:

    {"mean": 3.1, "ci95": [2.9, 3.4], "n": 600, "per_patient": {...}}      measured(...)
    {"mean": 3.1, "ci95": null, "n": 1, "per_patient": {...}}              of one patient alone
    {"refused": "FID needs 128 images, there are 40", "n": 40}             refused(...)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

REPLICAS = 1000
Metric = dict[str, Any]


def measured(
    mean: float, low: float, high: float, n: int, per_patient: Mapping[str, float] | None = None
) -> Metric:
    """A metric as JSON. A value that is not a number becomes a refusal (NaN is not JSON).

    Args:
        mean: the estimate.
        low: lower end of the 95 % confidence interval.
        high: upper end.
        n: images (or patients, for a metric per patient) it stands on.
        per_patient: value of each patient or case, for metrics that have one.
    """
    numbers = [mean, low, high, *(per_patient or {}).values()]
    if not all(math.isfinite(value) for value in numbers):
        return refused("the value is not finite", n)
    return {
        "mean": float(mean),
        "ci95": [float(low), float(high)],
        "n": int(n),
        "per_patient": {key: float(value) for key, value in (per_patient or {}).items()},
    }


def refused(reason: str, n: int) -> Metric:
    """A metric that cannot be given honestly, and why."""
    return {"refused": reason, "n": int(n)}


def resamples(n: int, replicas: int, seed: int = 0) -> Tensor:
    """`(replicas, n)` int64: indices drawn with replacement, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(n, (replicas, n), generator=generator)


def redrawn(n: int, replicas: int, seed: int = 0, people: Sequence[str] = ()) -> list[Tensor]:
    """Rows of n images as each replica draws them with replacement: people, with all of their images.

    Args:
        n, replicas, seed: see `resamples`.
        people: whose each image is; () where each is of another one.
    """
    rows = rows_of_patients(people)
    if len(rows) in (0, n):
        return list(resamples(n, replicas, seed))
    each = [torch.tensor(own) for own in rows.values()]
    return [
        torch.cat([each[k] for k in drawn])
        for drawn in resamples(len(each), replicas, seed).tolist()
    ]


def of_few(metric: Metric, *sets: Sequence[str]) -> Metric:
    """A metric without its interval where one of the sets is of one person alone, who cannot be drawn anew."""
    alone = any(len(people) > 1 and len(set(people)) == 1 for people in sets)
    return {**metric, "ci95": None} if alone and "mean" in metric else metric


def quantiles(values: Tensor) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles."""
    low, high = torch.quantile(values.double(), values.new_tensor([0.025, 0.975]).double())
    return float(low), float(high)


def average(values: Tensor, seed: int = 0, people: Sequence[str] = ()) -> Metric:
    """Mean of values `(n,)`; percentile bootstrap (1000 replicas) over them, or over `people` (`redrawn`)."""
    values = values.double().flatten()
    if len(values) < 2:
        return refused("an interval needs at least 2 values", len(values))
    if len(set(people)) in (0, len(values)):
        parts = resamples(len(values), REPLICAS, seed).split(100)  # for memory
        means = torch.cat([values[rows].mean(dim=1) for rows in parts])
    else:
        drawn = redrawn(len(values), REPLICAS, seed, people)
        means = torch.stack([values[rows].mean() for rows in drawn])
    return of_few(measured(float(values.mean()), *quantiles(means), n=len(values)), people)


def rows_of_patients(patients: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each patient, in the order of their first."""
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows.setdefault(patient, []).append(row)
    return rows


def average_per_patient(values: Sequence[float], patients: Sequence[str], seed: int = 0) -> Metric:
    """Mean over patients of each patient's mean; the bootstrap draws patients, not images.

    One patient alone has a value, and no interval.
    """
    known = [float(value) for value in values]
    means = {
        patient: sum(known[row] for row in rows) / len(rows)
        for patient, rows in rows_of_patients(patients).items()
    }
    endless = [patient for patient, value in means.items() if not math.isfinite(value)]
    if endless:
        more = f" and of {len(endless) - 1} more" if len(endless) > 1 else ""
        return refused(f"the value of {endless[0]}{more} is not finite", len(means))
    if len(means) == 1:
        (value,) = means.values()
        return {**measured(value, value, value, 1, means), "ci95": None}
    metric = average(torch.tensor(list(means.values()), dtype=torch.float64), seed)
    return {**metric, "per_patient": means}


def proportion(hits: Tensor, people: Sequence[str] = ()) -> Metric:
    """Share of True in `(n,)` with Wilson's score interval (sensible at 0 and 1 too).

    Where some of `people` have several, by a bootstrap over people (`average`); where all or none hit, which a
    bootstrap would take for certain, Wilson's for as many as there are people.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209; z = 1.96, p the share:
    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).
    """
    n = hits.numel()
    if n == 0:
        return refused("there is nothing to count", 0)
    share = float(hits.double().mean())
    people_count = len(set(people)) or n
    if people_count < n and 0 < share < 1:
        return average(hits.double(), people=people)
    low, high = _wilson(share, people_count)
    return of_few(measured(share, low, high, n), people)


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if share == 0 else (centre - half) / scale
    high = 1.0 if share == 1 else (centre + half) / scale
    return low, high


def correlation(x: Tensor, y: Tensor) -> Metric:
    """Pearson's r of (n,) and (n,), with Fisher's interval."""
    from scipy.stats import pearsonr

    if len(x) < 4:
        return refused("a correlation with an interval needs 4 values", len(x))
    if float(x.std()) == 0 or float(y.std()) == 0:
        return refused("one of the two never changes", len(x))
    found = pearsonr(x.double().numpy(), y.double().numpy())
    low, high = found.confidence_interval()
    return measured(float(found.statistic), float(low), float(high), n=len(x))


class Sums:
    """Mean and deviation of real or complex tensors that come one after another (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.mean = self._squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take in one more."""
        first, x = x, x.to(torch.promote_types(x.dtype, torch.float64))
        if not self.count:
            self.first, self.mean, self._squares = first, x, torch.zeros_like(x.real)
        self.count += 1
        gap = x - self.mean
        self.mean = self.mean + gap / self.count
        self._squares = self._squares + (gap * (x - self.mean).conj()).real

    def varies(self, row: int) -> bool:
        """Whether a row of them is not always the same."""
        return bool(self._squares[row].any())

    def std(self) -> Tensor:
        """Deviation with n - 1 in the denominator, of complex numbers that of both parts; 0 of one alone."""
        return torch.sqrt(self._squares / max(self.count - 1, 1)).float()
