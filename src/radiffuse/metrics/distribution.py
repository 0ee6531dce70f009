"""Distances between two sets of images, measured on features `(n, d)`.

| metric | what it says | range, better |
|---|---|---|
| `fid` | Frechet distance of fitted Gaussians; biased upward where n is small | >= 0, lower |
| `fid_corrected` | less the bias as the bootstrap estimates it | about 0 or less, lower |
| `kid` | squared maximum mean discrepancy, unbiased | about 0 or less, lower |
| `precision` | share of generated images among real ones: realism | [0, 1], higher |
| `recall` | share of real images among generated ones: variety | [0, 1], higher |
| `density` | as precision, not fooled by outliers of the real set | >= 0, about 1 is right |
| `coverage` | share of real images that have a generated one near by | [0, 1], higher |

Numbers compare only within one feature network (its hash is recorded) and one n.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .estimate import Metric, average, measured, of_few, proportion, quantiles, redrawn, refused

BOOTSTRAP = 200
FEWEST = 50
LARGEST_KERNEL = 3000
People = tuple[Sequence[str], Sequence[str]]
"""Whose each real and each generated image is; () where each is of another person. Intervals draw people anew."""
APART: People = ((), ())


def distances_between_sets(
    real: Tensor, generated: Tensor, seed: int = 0, people: People = APART
) -> dict[str, Metric]:
    """All metrics of this module between two sets of features `(n, d)` and `(m, d)`.

    A metric for which a set is too small is refused and says so; the others stand.
    """
    return {
        **frechet_metrics(real, generated, seed, people),
        "kid": kernel_metric(real, generated, seed, people),
        **neighbourhood_metrics(real, generated, seed=seed, people=people),
    }


# ------------------------------------------------------------------------------------------ FID
def frechet_distance(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between N(m_1, C_1) and N(m_2, C_2).

    |m_1 - m_2|^2 + Tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2)); Heusel et al. 2017, Eq. 6.
    The symmetric product has real eigenvalues, so the root needs no complex `sqrtm`.

    Args:
        mean_1, mean_2: `(d,)`.
        cov_1, cov_2: `(d, d)`, symmetric and positive semidefinite. All are taken in float64.
    """
    mean_1, cov_1, mean_2, cov_2 = (a.double() for a in (mean_1, cov_1, mean_2, cov_2))
    values, vectors = torch.linalg.eigh(cov_1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp_min(0).sqrt().sum()
    return (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross


def fid(real: Tensor, generated: Tensor) -> float:
    """Frechet distance between two sets of features `(n, d)`, `(m, d)` (sample covariances)."""
    (mean_1, cov_1), (mean_2, cov_2) = _moments(real.double()), _moments(generated.double())
    return float(frechet_distance(mean_1, cov_1, mean_2, cov_2))


def frechet_metrics(
    real: Tensor, generated: Tensor, seed: int = 0, people: People = APART
) -> dict[str, Metric]:
    """`fid` and `fid_corrected`, refused where a set has fewer images than twice the features.

    See `resampled`.
    """
    n = min(len(real), len(generated))
    needed = max(FEWEST, 2 * real.shape[1])
    if n < needed:
        reason = f"needs {needed} images a set ({real.shape[1]} features), there are {n}"
        return {"fid": refused(reason, n), "fid_corrected": refused(reason, n)}
    plain, corrected = resampled(fid, real, generated, seed, people)
    return {"fid": plain, "fid_corrected": corrected}


def resampled(
    distance: Callable[[Tensor, Tensor], float],
    real: Tensor,
    generated: Tensor,
    seed: int = 0,
    people: People = APART,
) -> tuple[Metric, Metric]:
    """A distance of two sets `(n, *)` and `(m, *)` as it is, and less its bias.

    With b the mean of the bootstrap replicas (both sets resampled) and [l, h] their quantiles: the
    plug-in value F has the interval [F + l - b, F + h - b], the spread of F at this n around itself;
    corrected it is 2 F - b with [2 F - h, 2 F - l] (basic bootstrap), where b - F estimates the bias
    of F.
    """
    n = min(len(real), len(generated))
    value = distance(real, generated)
    rows_real = redrawn(len(real), BOOTSTRAP, seed, people[0])
    rows_generated = redrawn(len(generated), BOOTSTRAP, seed + 1, people[1])
    replicas = torch.tensor(
        [distance(real[a], generated[b]) for a, b in zip(rows_real, rows_generated, strict=True)]
    )
    low, high = quantiles(replicas)
    middle = float(replicas.mean())
    return (
        of_few(measured(value, value + low - middle, value + high - middle, n), *people),
        of_few(measured(2 * value - middle, 2 * value - high, 2 * value - low, n), *people),
    )


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(dim=0), torch.cov(features.mT)


# ------------------------------------------------------------------------------------------ KID
def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (x.y / d + 1)^3 for `(n, d)` and `(m, d)` -> `(n, m)`; Binkowski et al. 2018."""
    return (x @ y.mT / x.shape[1] + 1) ** 3


def kid(real: Tensor, generated: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, Eq. 3) with that kernel.

    mean over i != j of k(x_i, x_j) + the same of y - 2 mean over i, j of k(x_i, y_j).
    """
    real, generated = real.double(), generated.double()
    ones = torch.ones(1, len(real)).double(), torch.ones(1, len(generated)).double()
    return float(_weighted_kid(_kernels(real, generated), *ones))


def kernel_metric(real: Tensor, generated: Tensor, seed: int = 0, people: People = APART) -> Metric:
    """`kid` with a bootstrap interval (see `discrepancy`). Of larger sets 3000 images are drawn, for memory."""
    (real, generated), of = some_of((real, generated), people, LARGEST_KERNEL)
    real, generated = real.double(), generated.double()
    n = min(len(real), len(generated))
    if n < FEWEST:
        return refused(f"needs {FEWEST} images a set, there are {n}", n)
    return discrepancy(*_kernels(real, generated), seed, of)


def some_of(
    sets: tuple[Tensor, Tensor], people: People, most: int
) -> tuple[tuple[Tensor, Tensor], People]:
    """At most so many of either set, drawn: data often stand in the order of their classes."""
    generator, found, whose = torch.Generator().manual_seed(0), [], []
    for x, names in zip(sets, people, strict=True):
        rows = torch.randperm(len(x), generator=generator)[:most].sort().values
        whole = len(x) <= most
        found.append(x if whole else x[rows])
        whose.append(names if whole or not names else [names[row] for row in rows.tolist()])
    return (found[0], found[1]), (whose[0], whose[1])


def discrepancy(
    within_x: Tensor, within_y: Tensor, between: Tensor, seed: int = 0, people: People = APART
) -> Metric:
    """Squared maximum mean discrepancy of two sets, with a bootstrap interval recentred on it.

    Replicas weigh the kernels by how often each image was drawn and leave out every pair of an image
    with itself, so that they stay unbiased.

    Args:
        within_x, within_y: the kernel of each set's pairs, `(n, n)` and `(m, m)`, 0 on the diagonal.
        between: `(n, m)`.
        seed: of the bootstrap.
        people: see `People`.
    """
    n, m = between.shape
    kernels = within_x, within_y, between
    value = float(_weighted_kid(kernels, torch.ones(1, n).double(), torch.ones(1, m).double()))
    drawn = _counts(n, seed, people[0]), _counts(m, seed + 1, people[1])
    replicas = _weighted_kid(kernels, *drawn)
    low, high = quantiles(replicas)
    middle = float(replicas.mean())
    found = measured(value, value + low - middle, value + high - middle, min(n, m))
    return of_few(found, *people)


def _kernels(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    within_x = polynomial_kernel(x, x).fill_diagonal_(0)
    within_y = polynomial_kernel(y, y).fill_diagonal_(0)
    return within_x, within_y, polynomial_kernel(x, y)


def _weighted_kid(kernels: tuple[Tensor, Tensor, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Weights a `(r, n)`, b `(r, m)` -> `(r,)`."""
    within_x, within_y, between = kernels

    def within(kernel: Tensor, w: Tensor) -> Tensor:
        return ((w @ kernel) * w).sum(1) / (w.sum(1).square() - w.square().sum(1))

    cross = ((a @ between) * b).sum(1) / (a.sum(1) * b.sum(1))
    return within(within_x, a) + within(within_y, b) - 2 * cross


def _counts(n: int, seed: int, people: Sequence[str]) -> Tensor:
    """`(BOOTSTRAP, n)`: how often a replica draws each image."""
    rows = redrawn(n, BOOTSTRAP, seed, people)
    return torch.stack([torch.bincount(each, minlength=n) for each in rows]).double()


# ------------------------------------------------------- precision, recall, density, coverage
def neighbourhood_metrics(
    real: Tensor,
    generated: Tensor,
    near: int = 3,
    wide: int = 5,
    seed: int = 0,
    people: People = APART,
) -> dict[str, Metric]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    An image's ball reaches to its k-th nearest neighbour in its own set, itself not counted;
    k = `near` for precision and recall, `wide` for density and coverage (the papers' values).

    precision = share of generated images in any real ball; recall = share of real images in any
    generated ball; density = mean number of real balls a generated image lies in, over k;
    coverage = share of real balls with a generated image in them.
    Intervals hold the balls fixed: Wilson's for shares, bootstrap for density, and for both where a person has
    several images.
    """
    n = min(len(real), len(generated))
    if n < max(FEWEST, wide + 1):
        reason = f"needs {FEWEST} images a set, there are {n}"
        names = ("precision", "recall", "density", "coverage")
        return {name: refused(reason, n) for name in names}
    shares = neighbourhood_hits(real, generated, near, wide)
    return {
        "precision": proportion(shares["precision"], people[1]),
        "recall": proportion(shares["recall"], people[0]),
        "density": average(shares["density"], seed, people[1]),
        "coverage": proportion(shares["coverage"], people[0]),
    }


def neighbourhood_hits(
    real: Tensor, generated: Tensor, near: int = 3, wide: int = 5
) -> dict[str, Tensor]:
    """The value of every image whose mean is the metric: booleans, and float64 for density."""
    real, generated = real.double(), generated.double()
    between = torch.cdist(real, generated)
    in_real_near = between <= _radius(real, near)[:, None]
    in_generated_near = between <= _radius(generated, near)[None, :]
    in_real_wide = between <= _radius(real, wide)[:, None]
    return {
        "precision": in_real_near.any(dim=0),
        "recall": in_generated_near.any(dim=1),
        "density": in_real_wide.sum(dim=0).double() / wide,
        "coverage": in_real_wide.any(dim=1),
    }


def _radius(features: Tensor, k: int) -> Tensor:
    """Distance to the k-th nearest other image; the nearest of all is the image itself."""
    return torch.cdist(features, features).kthvalue(k + 1, dim=1).values
