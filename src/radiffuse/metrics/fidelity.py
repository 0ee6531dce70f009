"""How close an image is to its reference: PSNR, SSIM and NMSE, one value a case."""

import torch
from torch import Tensor


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


def ssim(image: Tensor, reference: Tensor, span: float) -> Tensor:
    """Structural similarity `(B,)`, Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5.

    Args as for `psnr`; two or three axes (torchmetrics).
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = structural_similarity_index_measure(
        image.float(), reference.float(), data_range=span, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value.reshape(-1)


def nmse(image: Tensor, reference: Tensor) -> Tensor:
    """Normalised squared error $||x - r||^2 / ||r||^2$ `(B,)`, real or complex (the fastMRI measure)."""
    error = (image - reference).abs().double().flatten(1).square().sum(dim=1)
    return error / reference.abs().double().flatten(1).square().sum(dim=1)
