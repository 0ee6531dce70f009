"""Denoisers without a clean image: non-local means tuned on pairs, and a blind-spot network."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ...diffusion.windows import Windows, random_windows
from ...inverse import Measurement
from ...inverse.classical import non_local_means
from ...metrics.noise_level import estimate_noise
from ...operators import Identity
from ...training.objective import device_of
from ..tuning import Tuned, tune

__all__ = ["STRENGTHS", "BlindSpot", "means", "tuned_means"]

Batch = dict[str, Tensor]
STRENGTHS = (0.5, 0.7, 1.0, 1.4, 2.0)
"""Factors on the estimated noise that are tried first, of non-local means and of the method alike."""


class BlindSpot:
    r"""A network that predicts masked pixels of a noisy image from the others (Noise2Self).

    Batson & Royer 2019: where the noise of two pixels is independent, the least error of a pixel's
    prediction from the others is reached by the clean image. Of each window one pixel in `grid`^axes,
    at a random place of a regular grid, is replaced by the mean of its neighbours along the axes and
    predicted. A whole image goes through unmasked (their practice for speed), in windows.

    Args:
        network: (M, C, *window) -> the same shape.
        noisy: batch -> noisy images (B, C, *S); random where they are simulated.
        size: of a window; 1 along the axis of slices, which the network does not see.
        crops: windows a case.
        grid: side of the cell of which one pixel is masked.
    """

    def __init__(
        self,
        network: nn.Module,
        noisy: Callable[[Batch], Tensor],
        size: Sequence[int],
        crops: int = 1,
        grid: int = 4,
    ) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.noisy, self.size, self.crops, self.grid = noisy, tuple(size), crops, grid

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        (y,) = random_windows([self.noisy(batch)], self.size, self.crops)
        for axis in reversed([k + 2 for k, side in enumerate(self.size) if side == 1]):
            y = y.squeeze(axis)
        masked = self.mask(y).to(y)
        hidden = masked * _beside(y) + (1 - masked) * y
        error = (self.players["network"](hidden).float() - y) ** 2 * masked
        yield "network", error.sum() / masked.expand_as(y).sum()

    def mask(self, y: Tensor) -> Tensor:
        """Which pixels are hidden, `(*S)` bool: a regular grid at a random place."""
        mask = torch.ones((), dtype=torch.bool, device=y.device)
        for side in y.shape[2:]:
            place = torch.arange(side, device=y.device) % self.grid
            mask = mask[..., None] & (place == int(torch.randint(self.grid, ())))
        return mask

    def predict(self, y: Tensor, overlap: float = 0.25, batch: int = 16) -> Tensor:
        """Whole images (B, C, *S) without their noise."""
        network = self.players["network"]
        device = device_of(self)
        windows = Windows(self.size, overlap=overlap)
        with torch.no_grad():
            return windows.whole(lambda cuts: network(cuts[0].to(device)).float().cpu(), [y], batch)


def _beside(y: Tensor) -> Tensor:
    """The mean of the two neighbours along every axis; at a border the one there is counts twice."""
    total = torch.zeros_like(y)
    for axis in range(2, y.ndim):
        last = y.shape[axis] - 1
        place = torch.arange(last + 1, device=y.device)
        for other in (place - 1, place + 1):
            inside = torch.where(other < 0, place + 1, torch.where(other > last, place - 1, other))
            total = total + y.index_select(axis, inside.clamp(0, last))
    return total / (2 * (y.ndim - 2))


def means(y: Tensor, weight: float, sliced: bool = False) -> Tensor:
    """Non-local means of noisy images (B, C, *S), each with its estimated noise; slices if `sliced`."""
    if sliced:
        flat = y.movedim(-1, 1).flatten(0, 1)
        return means(flat, weight).unflatten(0, (len(y), -1)).movedim(1, -1)
    found = []
    for case in y.split(1):
        std = max(float(estimate_noise(case)), 1e-3)
        found.append(non_local_means(Measurement(case, Identity(), std), case, weight))
    return torch.cat(found)


def tuned_means(pairs: Sequence[tuple[Tensor, Tensor]], sliced: bool = False) -> Tuned:
    """The filter strength of least error on `pairs` of noisy and clean images."""
    measured = [(Measurement(y, Identity(), 0.0), clean) for y, clean in pairs]
    return tune(lambda m, like, w: means(m.y, w, sliced), measured, STRENGTHS)
