r"""Membership inference: can somebody who has the model tell whether an image was trained on?

Scores are higher the likelier an image is a member. Two numbers say how well they tell: the area under the curve, and
the rate of members found where 1 % of the others are taken for members, the one that matters (Carlini et al. 2022).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .detection import ranking
from .estimate import REPLICAS, Metric, measured, quantiles, refused, resamples, rows_of_patients

__all__ = ["FALSE", "found_at", "likelihood_ratio", "offline_ratio", "told_apart"]

FALSE = 0.01
"""Share of others that may be taken for members."""
FEWEST = 10
"""Persons of each kind below which no number is given."""


def found_at(members: Tensor, others: Tensor, rate: float = FALSE) -> float:
    """Share of members above the score that at most `rate` of the others exceed."""
    allowed = int(rate * len(others))
    threshold = others.sort(descending=True).values[allowed]
    return float((members > threshold).double().mean())


def told_apart(
    members: Tensor, others: Tensor, patients: tuple[Sequence[str], Sequence[str]], seed: int = 0
) -> dict[str, Metric]:
    """`auc` and `found` (the rate at 1 % false positives); the bootstrap draws persons.

    Args:
        members, others: scores `(n,)`, `(m,)`.
        patients: of both; nobody is of both kinds.
    """
    rows = [list(map(torch.tensor, rows_of_patients(each).values())) for each in patients]
    n = min(map(len, rows))
    if n < FEWEST:
        reason = f"needs {FEWEST} persons of each kind, there are {n}"
        return {"auc": refused(reason, n), "found": refused(reason, n)}
    scores = torch.cat([members, others])
    area = ranking(
        scores, torch.arange(len(scores)) < len(members), [*patients[0], *patients[1]], seed=seed
    )
    if len(others) < 1 / FALSE:
        reason = (
            f"1 % false positives need 100 images that were not trained on, there are {len(others)}"
        )
        return {"auc": area["auroc"], "found": refused(reason, len(others))}
    drawn = [resamples(len(each), REPLICAS // 2, seed + k) for k, each in enumerate(rows)]
    rates = [
        found_at(
            members[torch.cat([rows[0][int(k)] for k in one])],
            others[torch.cat([rows[1][int(k)] for k in other])],
        )
        for one, other in zip(*drawn, strict=True)
    ]
    found = measured(found_at(members, others), *quantiles(torch.tensor(rates)), n)
    return {"auc": area["auroc"], "found": found}


def likelihood_ratio(observed: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    r"""The online attack of Carlini et al. 2022: $\log N(\phi; \mu_{in}, s_{in}) - \log N(\phi; \mu_{out}, s_{out})$.

    Variances are common to all images (their choice for few shadow models).

    Args:
        observed: score of each image under the model attacked, `(n,)`.
        shadows: under each of K shadow models, `(K, n)`.
        inside: whether it was trained on the image, `(K, n)`; of both kinds for every image.
    """
    parts = []
    for kind in (inside, ~inside):
        mean, variance = _normal(shadows, kind)
        parts.append(-0.5 * (variance.log() + (observed - mean).square() / variance))
    return parts[0] - parts[1]


def offline_ratio(observed: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    r"""The offline attack: $(\phi - \mu_{out}) / s_{out}$, by shadow models that have not seen the image alone."""
    mean, variance = _normal(shadows, ~inside)
    return (observed - mean) / variance.sqrt()


def _normal(shadows: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the models of a kind of each image, and the common variance about it."""
    count = kind.sum(0)
    mean = torch.where(kind, shadows, 0).sum(0) / count
    squares = torch.where(kind, shadows - mean, 0).square().sum()
    free = (count - 1).clamp_min(0).sum()
    # one model of a kind says nothing of its spread: that between images stands for it
    variance = squares / free if int(free) else mean.var()
    return mean, variance.clamp_min(1e-12)
