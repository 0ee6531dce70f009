r"""How far to trust a prior, told by the scan itself: what of it is kept back is predicted from the rest.

A prior of other people, contrasts and scanners can be worse than none. From a part of the samples each candidate
(the prior's mean, L1 of wavelets and total variation at several weights) makes an image $x_j$; the samples y' that
were kept back say how well, and the mean of candidates that predicts them best is taken (stacking, Wolpert 1992):

$$ \min_{w_j\ge0,\ \sum_j w_j=1} \|y' - \sum_j w_j A' x_j\|^2 . $$

Then all candidates with a weight are made again, of all samples.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ...acquisition import Acquired
from ...acquisition.splitting import centre_of, resampled
from ...diffusion.noise import derive
from ...diffusion.schedule import expand
from ...errors import UserError
from ...inverse.compressed import l1_wavelet, total_variation
from ...operators import Mask
from .measuring import digest

__all__ = ["PRIOR", "Stack", "parted", "remembered", "stacked", "weights_of"]

PRIOR = "prior"
WEIGHTS = (1e-3, 4e-3, 1.6e-2)
"""Of the classical methods, for images in [0, 1]."""

Draw = Callable[[Acquired, Sequence[int]], tuple[Tensor, Tensor]]
"""A measurement and seeds -> a draw of each case, and what its chain tells of the mean."""


@dataclass(frozen=True)
class Stack:
    """What a scan says of the candidates.

    Attributes:
        weights: (B,) of each candidate by name, those of a case adding to 1.
        errors: (B,) of each: the root mean square of what it misses of the samples kept back, over that of theirs.
        classical: (B, 1, *S), the weighted sum of the classical candidates, of all samples.
    """

    weights: dict[str, Tensor]
    errors: dict[str, Tensor]
    classical: Tensor

    def said(self) -> dict[str, Tensor]:
        """Numbers of each case (B,): the prior's weight, and what it and the best of the others miss."""
        others = [error for name, error in self.errors.items() if name != PRIOR]
        return {
            "prior_weight": self.weights[PRIOR].float(),
            "prior_misses": self.errors[PRIOR].float(),
            "classical_misses": torch.stack(others).amin(0).float(),
        }

    def applied(self, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """A draw and the mean that its chain tells, moved to the mean of the candidates.

        Draws keep their distance from the mean that their chain tells, so that they spread as the prior says. A
        chain that tells no mean (`told` is x) is drawn towards the classical image.
        """
        mean = expand(self.weights[PRIOR].to(x.real), x) * told + self.classical
        return (mean if told is x else x - told + mean), mean


def parted(acquired: Acquired, share: float) -> tuple[Acquired, Tensor]:
    """The measurement without some of its samples, and where these lie, boolean (B, 1, *S).

    Whole lines where the mask has such, none of the calibration region, whose coil maps stay as they were estimated.
    What is kept back follows from the mask alone.

    Args:
        acquired: of MRI.
        share: of the samples outside of the calibration region that is kept back; at least one line or point.

    Raises:
        UserError: nothing was sampled outside of that region.
    """
    m, mask = acquired.measurement, acquired.mask
    assert mask is not None
    mask = mask.expand(len(m.y), *mask.shape[1:])
    fewer = torch.cat([_fewer(one, m.y.shape[1] > 1, share) for one in mask.split(1)])
    A, y = Mask(fewer) @ m.A, m.y * fewer.to(m.y.device)
    first = m.adjoint(y, acquired.first)
    rest = replace(m, y=y, A=A)
    return replace(acquired, measurement=rest, first=first, inverse=A.adjoint, mask=fewer), (
        mask & ~fewer
    )


def _fewer(mask: Tensor, several: bool, share: float) -> Tensor:
    """A mask (1, 1, *S) without what is kept back, drawn by what it holds."""
    generator = torch.Generator().manual_seed(derive(0, "kept back", digest(mask)))
    return resampled(mask, centre_of(mask, several), 1 - share, generator)


def weights_of(told: Tensor, kept: Tensor) -> Tensor:
    r"""$\arg\min_w \|y' - \sum_j w_j p_j\|^2$, $w_j \ge 0$, $\sum_j w_j = 1$, of each case: (J, B).

    Args:
        told: what each candidate predicts, complex (J, B, *).
        kept: y', (B, *); both 0 where nothing was kept back.
    """
    from scipy.optimize import nnls

    found = np.zeros(told.shape[:2])
    for row, wanted in enumerate(kept):
        of = torch.view_as_real(told[:, row].flatten(1)).flatten(1).double().cpu().numpy().T
        to = torch.view_as_real(wanted.flatten()).flatten().double().cpu().numpy()
        heavy = 1e3 * max(float(np.abs(of).max()), 1e-12) * len(to) ** 0.5  # holds the sum at 1
        a = np.vstack([of, np.full((1, of.shape[1]), heavy)])
        weights = nnls(a, np.append(to, heavy))[0]
        found[:, row] = weights / weights.sum()
    return torch.from_numpy(found)


METHODS = {
    "l1_wavelet": partial(l1_wavelet, tolerance=1e-3),
    "total_variation": partial(total_variation, iterations=300, tolerance=1e-3),
}
CLASSICAL = {
    f"{name} {weight:g}": partial(method, weight=weight)
    for name, method in METHODS.items()
    for weight in WEIGHTS
}


def classical(acquired: Acquired, names: Iterable[str] = CLASSICAL) -> dict[str, Tensor]:
    """Images of the classical methods by name."""
    m, like = acquired.measurement, acquired.first
    return {name: CLASSICAL[name](m, like) for name in names}


def stacked(draw: Draw, acquired: Acquired, share: float) -> Stack:
    """What the samples that are kept back say of a prior and of the classical methods.

    Args:
        draw: of the prior.
        acquired: the measurement.
        share: of the samples that is kept back.

    Raises:
        UserError: it is no MRI, or nothing was sampled outside of the calibration region.
    """
    if acquired.mask is None:
        raise UserError("kept_back leaves samples of k-space out; --set kept_back=0 of others")
    rest, kept = parted(acquired, share)
    seeds = [derive(0, "kept back")] * len(kept)
    made = {PRIOR: draw(rest, seeds)[1], **classical(rest)}
    kept = kept.to(acquired.first.device)
    wanted = acquired.measurement.y * kept
    told = torch.stack([acquired.measurement.A(x) * kept for x in made.values()])
    weights = dict(zip(made, weights_of(told, wanted), strict=True))
    size = wanted.abs().square().flatten(1).sum(1)
    errors = (told - wanted).abs().square().flatten(2).sum(2) / size.clamp_min(1e-30)
    used = [name for name in CLASSICAL if bool(weights[name].any())]
    whole = torch.zeros_like(acquired.first)
    for name, x in classical(acquired, used).items():
        whole = whole + expand(weights[name].to(x.real), x) * x
    return Stack(weights, dict(zip(made, errors.sqrt(), strict=True)), whole)


_KNOWN: WeakKeyDictionary[Any, dict[Any, Stack]] = WeakKeyDictionary()
_MOST = 64
"""Scans that are remembered of each prior."""


def remembered(prior: Any, recipe: Any, draw: Draw, acquired: Acquired, share: float) -> Stack:
    """`stacked`, or what it said of the same measurement, prior and settings before: draws of a scan share it.

    Args:
        prior: holds the network.
        recipe: the settings of the chain.
        draw, acquired, share: as of `stacked`.

    Raises:
        UserError: as of `stacked`.
    """
    key = recipe, digest(acquired.measurement.y)
    known = _KNOWN.setdefault(prior, {})
    if key not in known:
        if len(known) >= _MOST:
            del known[next(iter(known))]
        known[key] = stacked(draw, acquired, share)
    return known[key]
