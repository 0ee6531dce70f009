"""The honest baseline of image generation: one Gaussian per class.

Probabilistic principal components (Tipping & Bishop 1999). It
has a density in closed form, so it is compared in bits per dimension as well as in pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...diffusion.noise import Seeded
from ...errors import UserError

_MOST_COMPONENTS = 512
_FEWEST_OF_A_CLASS = 40


@dataclass(frozen=True)
class Gaussian:
    """N(mean, U diag(variances - floor) U^T + floor I): q axes and white noise in the rest.

    Attributes:
        mean: `(D,)`, D the elements of one image.
        axes: U `(D, q)`, orthonormal columns.
        variances: `(q,)` along these axes, falling, float64.
        floor: variance along every other axis, > 0.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    floor: float

    def log_density(self, x: Tensor) -> Tensor:
        """log p of images `(B, C, *S)` in nats, `(B,)` float64.

        -1/2 [D log 2 pi + sum log v_i + (D - q) log f + sum (u_i.r)^2 / v_i
        + (|r|^2 - sum (u_i.r)^2) / f], r = x - mean; Tipping & Bishop 1999, Eq. 4.
        """
        rest = x.flatten(1).float() - self.mean
        along = (rest @ self.axes).double().square()
        d, q = self.axes.shape
        outside = rest.double().square().sum(dim=1) - along.sum(dim=1)
        return -0.5 * (
            d * math.log(2 * math.pi)
            + self.variances.log().sum()
            + (d - q) * math.log(self.floor)
            + (along / self.variances).sum(dim=1)
            + outside.clamp_min(0) / self.floor
        )

    def sample(self, noise: Seeded, count: int) -> Tensor:
        """`(count, D)`: mean + U sqrt(variances - floor) z + sqrt(floor) e, z and e standard."""
        d, q = self.axes.shape
        z = noise(torch.zeros(count, q))
        scales = (self.variances - self.floor).clamp_min(0).sqrt().float()
        return (
            self.mean + (z * scales) @ self.axes.mT + self.floor**0.5 * noise(torch.zeros(count, d))
        )

    def truncated(self, components: int) -> "Gaussian":
        """The maximum-likelihood model of fewer components: what they leave goes to the floor."""
        d, q = self.axes.shape
        total = float(self.variances.sum()) + (d - q) * self.floor
        kept = self.variances[:components]
        floor = (total - float(kept.sum())) / (d - components)
        return Gaussian(self.mean, self.axes[:, :components], kept, max(floor, 1e-12))


def fit_gaussian(images: Tensor, components: int, seed: int = 0) -> Gaussian:
    """Maximum likelihood: the leading principal axes; the floor is the mean variance left over.

    Args:
        images: `(n, C, *S)`, n >= 2.
        components: q, cut to what n and D allow.
        seed: of the randomised singular value decomposition (Halko et al. 2011).
    """
    x = images.flatten(1).float()
    n, d = x.shape
    components = max(1, min(components, n - 1, d - 1))
    mean = x.mean(dim=0)
    rest = x - mean
    total = float(rest.double().square().sum()) / n
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        oversampled = min(components + 10, n, d)
        _, singular, axes = torch.svd_lowrank(rest, q=oversampled, niter=4)
    variances = singular[:components].double().square() / n
    floor = max((total - float(variances.sum())) / (d - components), 1e-12)
    return Gaussian(mean, axes[:, :components], variances.clamp_min(floor), floor)


@dataclass(frozen=True)
class Mixture:
    """One Gaussian per class, with the class frequencies of the training images.

    Attributes:
        parts: the Gaussians.
        labels: class of each.
        shares: `(K,)` float64, sums to 1.
        shape: `(C, *S)` of an image.
    """

    parts: tuple[Gaussian, ...]
    labels: tuple[int, ...]
    shares: Tensor
    shape: tuple[int, ...]

    @property
    def components(self) -> tuple[int, ...]:
        """Components q of each part."""
        return tuple(part.axes.shape[1] for part in self.parts)

    def log_density(self, x: Tensor) -> Tensor:
        """log sum_k share_k p_k(x) of `(B, C, *S)` in nats, `(B,)` float64."""
        each = torch.stack([part.log_density(x) for part in self.parts])
        return torch.logsumexp(each + self.shares.log()[:, None], dim=0)

    def sample(self, seeds: Sequence[int], labels: Sequence[int] | None = None) -> Tensor:
        """One image in [-1, 1] a seed, `(B, C, *S)`; image b depends on seed b (and label b) alone.

        Args:
            seeds: B of them.
            labels: class of each; None draws it by the class frequencies. A class unknown to the
                mixture (it has one Gaussian for all) is ignored.
        """
        images = []
        for place, seed in enumerate(seeds):
            noise = Seeded([seed])
            draw = float(noise.uniform(torch.zeros(1, 1)))
            drawn = int((self.shares.cumsum(0) <= draw).sum().clamp_max(len(self.parts) - 1))
            if labels is not None and int(labels[place]) in self.labels:
                drawn = self.labels.index(int(labels[place]))
            images.append(self.parts[drawn].sample(noise, 1).view(1, *self.shape))
        return torch.cat(images).clamp(-1, 1)

    def bits_per_dimension(self, x: Tensor, seeds: Sequence[int], levels: int = 256) -> Tensor:
        """Bits per dimension `(B,)` of images stored with `levels` grey values over [-1, 1].

        The same convention as `likelihood.bits_per_dimension`: see `dequantised`; then
        (-log p / D + log(levels / 2)) / log 2.
        """
        nats = -self.log_density(dequantised(x, seeds, levels)) / math.prod(self.shape)
        return (nats + math.log(levels / 2)) / math.log(2)


def dequantised(x: Tensor, seeds: Sequence[int], levels: int = 256) -> Tensor:
    """Grey values spread evenly over `levels` bins of [-1, 1]; image b from seed b.

    [-1, 1] holds levels - 1 gaps: x (levels - 1) / levels + (2 u - 1) / levels, u uniform.
    """
    uniform = Seeded(seeds).uniform(x)
    return x * (levels - 1) / levels + (2 * uniform - 1) / levels


def fit_generation(
    images: Tensor,
    labels: Tensor | None = None,
    patients: Sequence[str] | None = None,
    seed: int = 0,
) -> Mixture:
    """The baseline of image generation, its components chosen by held-out likelihood.

    A tenth of the patients is set aside, 1, 2, 4 ... 512 components are compared on it, and the
    best number is fitted to all images. One Gaussian per class where every class has 40 images.

    Args:
        images: training images `(n, C, *S)` in [-1, 1].
        labels: `(n,)` int64, or None.
        patients: of each image; None: each image is its own.
        seed: of the set-aside patients and of the decomposition.

    Raises:
        UserError: fewer than 4 images.
    """
    n = len(images)
    if n < 4:
        raise UserError(f"the Gaussian baseline needs 4 training images, there are {n}")
    names = patients if patients is not None else [str(i) for i in range(n)]
    if labels is None or int(torch.unique(labels, return_counts=True)[1].min()) < (
        _FEWEST_OF_A_CLASS
    ):
        labels = torch.zeros(n, dtype=torch.int64)
    classes, counts = labels.unique(return_counts=True)
    parts = []
    for label in classes:
        rows = (labels == label).nonzero()[:, 0]
        parts.append(_chosen(images[rows], [names[int(row)] for row in rows], seed))
    return Mixture(
        tuple(parts), tuple(classes.tolist()), counts.double() / n, tuple(images.shape[1:])
    )


def _chosen(images: Tensor, patients: Sequence[str], seed: int) -> Gaussian:
    """The Gaussian whose number of components a set-aside tenth of the patients likes best."""
    aside = _set_aside(patients, seed)
    if not aside.any() or (~aside).sum() < 2:
        return fit_gaussian(images, 1, seed)
    largest = fit_gaussian(images[~aside], _MOST_COMPONENTS, seed)
    most = largest.axes.shape[1]
    candidates = [2**power for power in range(10) if 2**power <= most]
    scores = [float(largest.truncated(q).log_density(images[aside]).mean()) for q in candidates]
    return fit_gaussian(images, candidates[scores.index(max(scores))], seed)


def _set_aside(patients: Sequence[str], seed: int) -> Tensor:
    """`(n,)` bool: images of a tenth of the patients (at least one, never all)."""
    names = sorted(set(patients))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    few = {names[place] for place in order[: max(1, len(names) // 10)]} if len(names) > 1 else set()
    return torch.tensor([patient in few for patient in patients])
