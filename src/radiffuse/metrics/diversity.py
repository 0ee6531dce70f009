"""Variety among generated images, and whether they are copies of training images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .estimate import Metric, average, measured, proportion, refused

_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA, _KERNEL = 1.0, 9
CLOSEST = 0.01


# -------------------------------------------------------------------------------------- MS-SSIM
def pair_similarity(images: Tensor, pairs: int = 1000, seed: int = 0) -> Metric:
    """Mean MS-SSIM over random disjoint pairs; lower is more varied, compare with real images.

    Wang et al. 2003. A Gaussian window of 9 pixels (sigma 1) in place of 11 and as many scales as
    fit (3 at 64 pixels, 5 from 145), their published exponents scaled to sum to one: numbers
    compare only at one image size. Disjoint pairs are independent, so the bootstrap is right.

    Args:
        images: `(n, C, *S)` in [-1, 1], two or three axes.
        pairs: at most this many.
    """
    n = len(images)
    axes, scales = images[0].dim() - 1, _scales(min(images.shape[2:]))
    if axes not in (2, 3) or scales == 0:
        return refused(f"MS-SSIM needs 2 or 3 axes of at least {_KERNEL} pixels", n)
    if n < 20:
        return refused(f"needs 20 images, there are {n}", n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    half = min(n // 2, pairs)
    metric = average(ms_ssim(images[order[:half]], images[order[half : 2 * half]]), seed)
    return {**metric, "n": 2 * half}


def ms_ssim(x: Tensor, y: Tensor, batch: int = 100) -> Tensor:
    """MS-SSIM of each pair `(n, C, *S)`, `(n, C, *S)` in [-1, 1] -> `(n,)`."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    betas = _BETAS[: _scales(min(x.shape[2:]))]
    betas = tuple(beta / sum(betas) for beta in betas)
    return torch.cat(
        [
            multiscale_structural_similarity_index_measure(
                a.float(),
                b.float(),
                sigma=_SIGMA,
                kernel_size=_KERNEL,
                data_range=2.0,
                betas=betas,
                normalize="relu",
                reduction="none",
            ).reshape(-1)
            for a, b in zip(x.split(batch), y.split(batch), strict=True)
        ]
    )


def _scales(side: int) -> int:
    """The most scales that torchmetrics takes for this side (0: none)."""
    fits = (s for s in range(1, 6) if side // max(1, s - 1) ** 2 >= _KERNEL and side >= 2**s)
    return max(fits, default=0)


# --------------------------------------------------------------------------------------- copies
@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each case.

    Attributes:
        distance: `(n,)`.
        index: `(n,)` int64 into the training images.
    """

    distance: Tensor
    index: Tensor


def nearest(queries: Tensor, train: Tensor, block: int = 512) -> Nearest:
    """Nearest of `train` `(m, *)` for each of `queries` `(n, *)`: root mean square difference.

    sqrt(mean over elements of (q - x)^2): on images in [-1, 1] half of it is a share of the grey
    range; on features it is in their own units.
    """
    x = train.flatten(1).float()
    best = [
        torch.cdist(q, x, compute_mode="use_mm_for_euclid_dist").min(dim=1)
        for q in queries.flatten(1).float().split(block)
    ]
    index = torch.cat([found.indices for found in best])
    # Once more without the matrix product, whose rounding hides an exact copy (distance 0).
    gap = (queries.flatten(1).float() - x[index]).double()
    return Nearest(gap.square().mean(dim=1).sqrt(), index)


@dataclass(frozen=True)
class Copies:
    """Generated images that lie suspiciously close to a training image.

    Attributes:
        found: nearest training image of each generated image.
        control: nearest training image of each held-out real image.
        threshold: the 1st percentile of the control's distances.
        flagged: `(n,)` bool, closer than the threshold.
    """

    found: Nearest
    control: Nearest
    threshold: float
    flagged: Tensor

    def closest(self, count: int) -> Tensor:
        """Indices of the generated images nearest to a training image, nearest first."""
        return self.found.distance.argsort()[:count]


def find_copies(generated: Tensor, held_out: Tensor, train: Tensor) -> Copies:
    """Flag generated images closer to a training image than 99 % of held-out real images are.

    All three `(n, *)`: images or features. Held-out images are never copies, so one in a hundred
    is what chance flags; many more than that means memory. (Held-out images that nearly repeat a
    training image, such as neighbouring slices, lower the threshold and make the test blunter.)
    """
    found, control = nearest(generated, train), nearest(held_out, train)
    threshold = float(torch.quantile(control.distance, CLOSEST))
    return Copies(found, control, threshold, found.distance < threshold)


def copy_metrics(copies: Copies, ids: tuple[str, ...], name: str) -> dict[str, Metric]:
    """`nearest_NAME` (mean distance, by case) and `copies_NAME` (share flagged)."""
    n_control = len(copies.control.distance)
    if n_control < 100:
        reason = f"the 1st percentile needs 100 held-out images, there are {n_control}"
        share = refused(reason, n_control)
    else:
        share = proportion(copies.flagged)
    distance = average(copies.found.distance)
    if "mean" in distance:
        values = copies.found.distance.tolist()
        low, high = distance["ci95"]
        per_case = dict(zip(ids, values, strict=True))
        distance = measured(distance["mean"], low, high, len(values), per_case)
    return {f"nearest_{name}": distance, f"copies_{name}": share}
