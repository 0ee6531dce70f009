r"""Whether generated images lie nearer to training images than new real images do.

A distance to the nearest training image alone takes blurred images for copies, which lie near everything. So it is
divided by what is usual there:

$$ r(q) = \frac{\min_i d(q, x_i)}{\frac1k\sum_{g=2}^{k+1} d(q, g)} $$

with d(q, g) the distance to the nearest image of the g-th nearest person (after Carlini et al. 2023, Sec. 4.2, whose
neighbours are images). Persons and not images stand below, so that a person with thirty images hides no copy.

Held-out images are never copies, so the rank of r among theirs is a test whose false positives are known exactly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .diversity import nearest
from .estimate import Metric, measured, refused

__all__ = ["CLOSEST", "FEWEST", "Near", "Share", "groups_of", "near", "share_of_copies"]

CLOSEST = 0.01
"""Share of held-out images that count as near."""
FEWEST = 20
"""Held-out images below which nothing is said."""
PLAINLY = 2 / 3
"""A copy is nearer than this share of what is usual, whatever held-out images do: images that are only blurred lie
somewhat nearer to the plainest training image than real ones do."""
NEIGHBOURS = 10
"""Persons whose distances say what is usual."""


@dataclass(frozen=True)
class Near:
    """The nearest training image of each of n images.

    Attributes:
        distance: to it, root mean square, `(n,)`.
        relative: the same over what is usual there, r above, `(n,)`.
        index: of it, `(n,)`.
    """

    distance: Tensor
    relative: Tensor
    index: Tensor


def groups_of(patients: tuple[str, ...]) -> Tensor:
    """Number of the person of each image, `(n,)` int64."""
    known = {name: number for number, name in enumerate(dict.fromkeys(patients))}
    return torch.tensor([known[name] for name in patients])


def near(queries: Tensor, train: Tensor, groups: Tensor, block: int = 256) -> Near:
    """The nearest of `train` `(m, *)` for each of `queries` `(n, *)`, images or features.

    Args:
        groups: the person of each training image, `(m,)`, numbers from 0; two or more.

    Raises:
        ValueError: they are of one person.
    """
    count = int(groups.max()) + 1
    if count < 2:
        raise ValueError("what is usual needs training images of two persons or more")
    found = nearest(queries, train)
    x = train.flatten(1).float()
    usual = []
    for part in queries.flatten(1).float().split(block):
        gaps = torch.cdist(part, x) / x.shape[1] ** 0.5
        by_person = gaps.new_full((len(part), count), torch.inf)
        by_person.scatter_reduce_(1, groups.expand(len(part), -1), gaps, "amin")
        others = by_person.topk(min(NEIGHBOURS + 1, count), largest=False, sorted=True).values
        usual.append(others[:, 1:].mean(dim=1))
    relative = found.distance / torch.cat(usual).double().clamp_min(1e-12)
    return Near(found.distance, relative, found.index)


@dataclass(frozen=True)
class Share:
    """How many generated images count as copies.

    Attributes:
        flagged: `(n,)` bool, nearer than `threshold`.
        threshold: of `Near.relative`: the k-th smallest of m held-out images, k = max(1, 1 % of m), or `PLAINLY` if
            that is less.
        chance: share that counts so without any copy, k / (m + 1), or less.
        share: with the exact 95 % interval of Clopper and Pearson.
        beyond_chance: (share - chance) / (1 - chance), with an interval that holds what is unknown of both.
        p: probability of as many or more without any copy.
    """

    flagged: Tensor
    threshold: float
    chance: float
    share: Metric
    beyond_chance: Metric
    p: float


def share_of_copies(found: Tensor, control: Tensor, closest: float = CLOSEST) -> Share | None:
    """Compare `Near.relative` of n generated images with that of m held-out ones.

    Were they exchangeable, the chance to lie below the k-th smallest of m would be Beta(k, m + 1 - k), and the number
    of n beta-binomial: p holds at any m. The interval of `beyond_chance` joins two of 97.5 %.

    Returns:
        None where m < 20.
    """
    from scipy.stats import beta, betabinom, binomtest

    n, m = len(found), len(control)
    if m < FEWEST or n == 0:
        return None
    k = max(1, int(closest * m))
    threshold = min(PLAINLY, float(control.double().sort().values[k - 1]))
    flagged = found < threshold
    hits, chance = int(flagged.sum()), k / (m + 1)
    test = binomtest(hits, n)  # Clopper and Pearson's interval
    low, high = test.proportion_ci(0.95)
    wide = tuple(test.proportion_ci(0.975))
    least, most = (float(beta.ppf(q, k, m + 1 - k)) for q in (0.0125, 0.9875))
    fewest, greatest = (max(0.0, _over(a, b)) for a, b in zip(wide, (most, least), strict=True))
    middle = max(0.0, _over(hits / n, chance))
    return Share(
        flagged,
        threshold,
        chance,
        measured(hits / n, float(low), float(high), n),
        measured(middle, fewest, greatest, n),
        float(betabinom.sf(hits - 1, n, k, m + 1 - k)),
    )


def _over(share: float, chance: float) -> float:
    return (share - chance) / (1 - chance)


def too_few(m: int) -> Metric:
    """Why there is no share."""
    return refused(f"copies need {FEWEST} held-out images to compare with, there are {m}", m)
