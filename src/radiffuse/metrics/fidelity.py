"""How close an image is to its reference: PSNR, SSIM and NMSE, one value a case."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .estimate import Metric, average_per_patient, refused

__all__ = ["nmse", "psnr", "similarity", "ssim", "ssim_per_patient"]

SIGMA, WINDOW = 1.5, 11
"""Deviation and width of the Gaussian window of SSIM, in voxels."""


def psnr(image: Tensor, reference: Tensor, span: float) -> Tensor:
    """Peak signal-to-noise ratio in dB: 10 log10(span^2 / mean squared error), `(B,)`.

    Args:
        image: `(B, C, *S)`.
        reference: the same shape and units.
        span: width of the grey range, stated by the caller (2 for images in [-1, 1]); never
            guessed from the data. Equal images give infinity.
    """
    error = (image.double() - reference.double()).flatten(1).square().mean(dim=1)
    return 10 * torch.log10(span**2 / error)


def ssim(image: Tensor, reference: Tensor, span: float, lowest: float = 0.0) -> Tensor:
    """Structural similarity `(B,)`, Wang et al. 2004: Gaussian window of 11 voxels, sigma 1.5.

    Of images brought to [0, 1], where black is 0: SSIM is no function of differences alone, and
    means near 0 would make its luminance term a matter of chance. The mean over voxels whose
    window lies inside the image, as in scikit-image (`gaussian_weights`, population covariance);
    any number of axes. NaN where an axis is shorter than the window.

    Args:
        image, reference, span: as for `psnr`.
        lowest: the value of black (-1 for images in [-1, 1]).
    """
    cases = zip(image.split(1), reference.split(1), strict=True)
    found = [
        similarity((x.double() - lowest) / span, (y.double() - lowest) / span, SIGMA, WINDOW)[0]
        for x, y in cases
    ]
    return torch.cat(found)


def ssim_per_patient(
    image: Tensor, reference: Tensor, span: float, lowest: float, patients: Sequence[str]
) -> Metric:
    """Mean over patients of `ssim`; refused where an axis is shorter than its window."""
    size = image.shape[2:]
    if min(size) < WINDOW:
        needs = f"SSIM needs {WINDOW} voxels along every axis, images are "
        return refused(needs + " x ".join(map(str, size)), len(set(patients)))
    return average_per_patient(ssim(image, reference, span, lowest).tolist(), patients)


def similarity(x: Tensor, y: Tensor, sigma: float, window: int) -> tuple[Tensor, Tensor]:
    r"""SSIM, and its contrast and structure without the luminance, of images in [0, 1], `(B,)` each.

    Means over voxels and channels of $l\,c$ and of c, $c = (2 s_{xy} + c_2) / (s_x^2 + s_y^2 + c_2)$ and
    $l = (2 m_x m_y + c_1) / (m_x^2 + m_y^2 + c_1)$, with $c_1 = 0.01^2$, $c_2 = 0.03^2$, over windows that
    lie inside the image; NaN where none does.

    Args:
        x, y: `(B, C, *S)`.
        sigma: deviation of the Gaussian window, in voxels.
        window: its width in voxels, odd.
    """
    if min(x.shape[2:]) < window:
        return (x.new_full((len(x),), math.nan, dtype=torch.float64),) * 2
    x, y = x.double(), y.double()
    place = torch.arange(window, dtype=torch.float64) - window // 2
    gauss = torch.exp(-(place**2) / (2 * sigma**2))
    weights = (gauss / gauss.sum()).tolist()
    mx, my, xx, yy, xy = (_windowed(z, weights) for z in (x, y, x * x, y * y, x * y))
    luminance = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
    contrast = (2 * (xy - mx * my) + 0.03**2) / (xx - mx**2 + yy - my**2 + 0.03**2)
    return (luminance * contrast).flatten(1).mean(1), contrast.flatten(1).mean(1)


def _windowed(x: Tensor, weights: Sequence[float]) -> Tensor:
    """Weighted means of `(B, C, *S)` along every axis, where the window lies inside."""
    for axis in range(2, x.dim()):
        length = x.shape[axis] - len(weights) + 1
        found = weights[0] * x.narrow(axis, 0, length)
        for k, weight in enumerate(weights[1:], start=1):
            found.add_(x.narrow(axis, k, length), alpha=weight)
        x = found
    return x


def nmse(image: Tensor, reference: Tensor) -> Tensor:
    """Normalised squared error $||x - r||^2 / ||r||^2$ `(B,)`, real or complex (the fastMRI measure)."""
    error = (image - reference).abs().double().flatten(1).square().sum(dim=1)
    return error / reference.abs().double().flatten(1).square().sum(dim=1)
