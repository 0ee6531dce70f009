r"""The covariance of a few probes, carried to lower noise: one network call a step where `Probed` takes two.

With the prior's covariance C of Gaussian data, $\mathrm{Cov}[x_0\mid x_t] = (C^{-1} + \lambda I)^{-1}$,
$\lambda = \alpha^2/\sigma^2$, so that from $\lambda$ to $\lambda' > \lambda$

$$ V'^{-1} = V^{-1} + (\lambda' - \lambda) I. $$

Of $V = S\,\mathcal F^{-1} \operatorname{diag}(v)\,\mathcal F\,S$ the deviations S stay, and were they s everywhere,
the spectrum would become $v' = v / (1 + (\lambda' - \lambda) s^2 v)$. The s of an image is that of the voxels where
most of the variance lies, $s^2 = \sum S^4 / \sum S^2$.
"""

from typing import Any

import torch
from torch import Tensor

from .probed import Probed, VoxelsAndRings

__all__ = ["Carried"]


class Carried(Probed):
    """`Probed` in the first steps of a chain, whose covariance the later steps carry on.

    A chain of N steps takes N + `probes` network calls and no gradient. Exact for stationary Gaussian data with
    isotropic spectrum and `fwhm` = inf. Where there is not less noise than at the call before, or the images have
    another shape, another chain begins.

    Args:
        args, more: as `Probed`.
        probes: steps that probe, one or more.
    """

    has_mean = False
    """On few, rough steps what a chain estimates on its way is worse than where it ends."""

    def __init__(self, *args: Any, probes: int, **more: Any) -> None:
        super().__init__(*args, **more)
        if probes < 1:
            raise ValueError(f"probes={probes}: the first step of a chain has nothing to carry on")
        self.probes, self._done = probes, 0
        self._last: tuple[torch.Size, Tensor, VoxelsAndRings] | None = None

    def known(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, VoxelsAndRings]:
        alpha, sigma = self.schedule(t, x_t)
        precision = (alpha / sigma).real ** 2
        shape, before, V = self._last or (None, precision, None)
        if V is None or shape != x_t.shape or not bool((precision > before).all()):
            self._done = 0
        if V is None or self._done < self.probes:
            x_0, V = super().known(x_t, t)
        else:
            x_0, V = self.denoiser(x_t, t), _carried(V, precision - before)
        self._last, self._done = (x_t.shape, precision, V), self._done + 1
        return x_0, V


def _carried(V: VoxelsAndRings, gained: Tensor) -> VoxelsAndRings:
    """V where the precision of what is seen of each voxel has grown by `gained`, of shape () or (B, 1, ...)."""
    axes = tuple(range(1, V.s.ndim))
    variance = V.s.square()
    typical = variance.square().mean(axes, keepdim=True) / variance.mean(axes, keepdim=True)
    if gained.ndim and len(gained) < len(V.s):  # real parts, then imaginary ones
        gained = torch.cat([gained, gained])
    return VoxelsAndRings(V.s, V.v / (1 + gained * typical * V.v))
