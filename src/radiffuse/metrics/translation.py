"""What a translated image may get wrong that PSNR does not show: place, lesions, its own doubt."""

import numpy as np
import torch
from torch import Tensor

from ..operators.blur import blurred


def shift(image: Tensor, reference: Tensor) -> Tensor:
    """How far each image `(B, C, *S)` lies from its reference, in voxels, `(B,)`.

    Peak of the phase cross-correlation of the first channels, to a tenth of a voxel
    (Guizar-Sicairos et al. 2008, scikit-image). 0 where either is constant.
    """
    from skimage.registration import phase_cross_correlation

    found = []
    for one, other in zip(image[:, 0], reference[:, 0], strict=True):
        a, b = one.double().cpu().numpy(), other.double().cpu().numpy()
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            found.append(0.0)
            continue
        offset, _, _ = phase_cross_correlation(
            b - b.mean(), a - a.mean(), upsample_factor=10, normalization=None
        )
        found.append(float(np.linalg.norm(offset)))
    return torch.tensor(found, dtype=torch.float64)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation over the voxels of each case, `(B, *)` -> `(B,)`; NaN where constant."""
    a, b = x.double().flatten(1), y.double().flatten(1)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / torch.sqrt(a.square().sum(dim=1) * b.square().sum(dim=1))


def detail(image: Tensor, reference: Tensor, fwhm: float = 4.0) -> Tensor:
    """Deviation of an image's fine structure over that of the reference's, `(B,)`.

    Fine is what a blur of `fwhm` voxels takes away. A mean over what might be is below 1 where it is not sure,
    a draw of the same law is 1; noise that is not the reference's makes it larger. NaN where the
    reference is constant.
    """
    fine, real = (x.double() - blurred(x.double(), fwhm) for x in (image, reference))
    return fine.flatten(1).std(1) / real.flatten(1).std(1)


def lesion_contrast(image: Tensor, mask: Tensor, body: Tensor) -> Tensor:
    """Mean inside the lesion less the mean of the rest of the body, `(B,)`; NaN without either.

    Args:
        image: `(B, C, *S)`.
        mask: `(B, 1, *S)`, above 0 in the lesion.
        body: `(B, 1, *S)` bool, where there is tissue at all.
    """
    grey = image.double().mean(dim=1, keepdim=True)
    inside, outside = (mask > 0).double(), ((mask <= 0) & body).double()

    def mean(where: Tensor) -> Tensor:
        return (grey * where).flatten(1).sum(dim=1) / where.flatten(1).sum(dim=1)

    return mean(inside) - mean(outside)
