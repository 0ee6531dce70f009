"""Classification: accuracy, balanced accuracy, F1, AUROC, calibration, and what referring gains.

Every patient counts once: an image of a patient with k images has weight 1 / k. Each metric is a
function of weights (R, n), a row a replica, so the estimate (weights as they are) and its bootstrap
over patients (weights times how often the patient was drawn) are computed by the same lines. With
equal weights they are those of scikit-learn and torchmetrics.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from .estimate import REPLICAS, Metric, average_per_patient, measured, quantiles, refused, resamples

__all__ = [
    "REFERRED",
    "balanced_accuracy",
    "bootstrap",
    "classification",
    "ece",
    "macro_f1",
    "rejection",
    "rejection_curve",
    "weights_of",
]

BINS = 15
REFERRED = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
"""Shares of cases referred at which the rejection curve is given."""


def classification(
    probability: Tensor,
    label: Tensor,
    patients: Sequence[str],
    seed: int = 0,
    only: Sequence[str] = (),
) -> dict[str, Metric]:
    """Every metric of predicted probabilities, intervals by a bootstrap over patients.

    Args:
        probability: (n, C), rows summing to 1.
        label: int64 (n,), the truth.
        patients: of the n images.
        only: names of those that are wanted beside accuracy; empty: all.

    Returns:
        accuracy, balanced_accuracy (mean recall), f1 (macro), auroc (mean over one class against the
        others), ece and brier. n is patients.
    """
    p, found = probability.double(), probability.argmax(1)
    right = (found == label).double()
    metrics: dict[str, Callable[[Tensor], Tensor]] = {
        "balanced_accuracy": lambda w: _by_class(w, found, label, p.shape[1])[0],
        "f1": lambda w: macro_f1(w, found, label, p.shape[1]),
        "auroc": lambda w: _auroc(w, p, label),
        "ece": lambda w: ece(p, label, w),
        "brier": lambda w: w @ _brier(p, label) / w.sum(1),
    }
    metrics = {name: metric for name, metric in metrics.items() if not only or name in only}
    own = average_per_patient(right.tolist(), patients, seed)
    return {"accuracy": own, **bootstrap(metrics, patients, seed)}


def weights_of(patients: Sequence[str], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights (1, n) of the images, and (1000, n) of the bootstrap's replicas."""
    names = {patient: row for row, patient in enumerate(dict.fromkeys(patients))}
    of = torch.tensor([names[patient] for patient in patients])
    own = 1 / torch.bincount(of, minlength=len(names))[of].double()
    drawn = resamples(len(names), REPLICAS, seed)
    times = torch.zeros(REPLICAS, len(names), dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))
    return own[None], times[:, of] * own


def bootstrap(
    metrics: Mapping[str, Callable[[Tensor], Tensor]], patients: Sequence[str], seed: int = 0
) -> dict[str, Metric]:
    """Each metric, a function of weights (R, n) -> (R,), with its interval over patients."""
    count = len(set(patients))
    if count < 2:
        return {name: refused("an interval needs at least 2 patients", count) for name in metrics}
    own, replicas = weights_of(patients, seed)
    made = {}
    for name, metric in metrics.items():
        values = metric(replicas)
        values = values[torch.isfinite(values)]
        if len(values) < REPLICAS // 2:
            made[name] = refused("too few patients of some class", count)
        else:
            made[name] = measured(float(metric(own)[0]), *quantiles(values), n=count)
    return made


def balanced_accuracy(found: Tensor, label: Tensor, classes: int) -> float:
    """Mean recall of the classes that occur, of labels `found` (n,)."""
    return float(_by_class(torch.ones(1, len(label)).double(), found, label, classes)[0])


def macro_f1(w: Tensor, found: Tensor, label: Tensor, classes: int) -> Tensor:
    """Mean F1 (R,) over classes that occur or are predicted, of labels `found` (n,), for weights w (R, n)."""
    return _by_class(w, found, label, classes)[1]


def _by_class(w: Tensor, found: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Balanced accuracy and macro F1 (R,): means over classes that occur (F1: or are predicted)."""
    truth, said = (torch.nn.functional.one_hot(x, classes).double() for x in (label, found))
    hit, real, given = w @ (truth * said), w @ truth, w @ said
    recall = torch.where(real > 0, hit / real, torch.nan)
    f1 = torch.where(real + given > 0, 2 * hit / (real + given), torch.nan)
    return recall.nanmean(1), f1.nanmean(1)


def _auroc(w: Tensor, p: Tensor, label: Tensor) -> Tensor:
    """Mean over classes of the area under the ROC curve, ties counting half, (R,)."""
    areas = []
    for one in range(p.shape[1]):
        order = p[:, one].argsort()
        score, positive = p[order, one].contiguous(), (label[order] == one).double()
        sick, sound = w[:, order] * positive, w[:, order] * (1 - positive)
        below = torch.cat([torch.zeros(len(w), 1).double(), sound.cumsum(1)], dim=1)
        first, last = (torch.searchsorted(score, score, right=side) for side in (False, True))
        wins = (below[:, first] + below[:, last]) / 2
        areas.append((sick * wins).sum(1) / (sick.sum(1) * sound.sum(1)))
    return torch.stack(areas).nanmean(0)


def ece(probability: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Expected calibration error (Guo et al. 2017), of the largest probability, (R,).

    $\sum_b \frac{n_b}{n}\,|acc_b - conf_b|$ over 15 bins of equal width.
    """
    confidence, found = probability.double().max(1)
    w = torch.ones(1, len(label), dtype=torch.float64) if weights is None else weights
    bins = (confidence * BINS).long().clamp(0, BINS - 1)
    gap = w * ((found == label).double() - confidence)
    each = torch.zeros(len(w), BINS, dtype=torch.float64).index_add_(1, bins, gap)
    return each.abs().sum(1) / w.sum(1)


def _brier(p: Tensor, label: Tensor) -> Tensor:
    """Squared distance of each row to the one-hot truth, (n,)."""
    return (p - torch.nn.functional.one_hot(label, p.shape[1])).square().sum(1)


def rejection(right: Tensor, doubt: Tensor, referred: float, weights: Tensor) -> Tensor:
    """Accuracy of what remains when the share `referred` of the highest doubt is sent to a reader.

    Cases of equal doubt are referred in equal parts; a case on the border in part. The weights (R, n)
    are those of `bootstrap`; returns (R,).
    """
    values, group = doubt.unique(return_inverse=True)
    shape = (len(weights), len(values))
    mass, hits = (
        torch.zeros(shape, dtype=torch.float64).index_add_(1, group, each)
        for each in (weights, weights * right.double())
    )
    kept = (1 - referred) * mass.sum(1, keepdim=True)
    before = mass.cumsum(1) - mass
    part = torch.where(mass > 0, ((kept - before) / mass).clamp(0, 1), 0.0)
    return (part * hits).sum(1) / kept[:, 0]


def rejection_curve(
    right: Tensor, doubt: Tensor, patients: Sequence[str], seed: int = 0
) -> list[Metric]:
    """{"referred": share, "mean": accuracy, ...} at the shares `REFERRED`."""
    curve = {f"{share}": partial(rejection, right, doubt, share) for share in REFERRED}
    made = bootstrap(curve, patients, seed)
    return [{"referred": float(share), **metric} for share, metric in made.items()]
