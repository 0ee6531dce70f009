"""Measured k-space in an evaluation: a fully sampled scan is undersampled here, and is the reference."""

from typing import Any

from torch import Tensor

from ...acquisition import MASKS, MRI, Acquired
from ...acquisition.kspace import check_kspace
from ...diffusion.noise import derive
from ...errors import UserError
from ...operators import Coils, Fourier
from ...operators.coils import espirit

__all__ = ["checked", "combined", "undersampled"]

CENTRE = 24
"""Side of the middle of k-space from which maps are estimated that combine coils, at most."""

FULL = 1.1
"""Unknown over measured values up to which a scan counts as fully sampled (some leave corners out)."""


def checked(recipe: Any, kspace: Tensor, case: str) -> MRI:
    """The scanner whose mask is put on a full scan, (1, K, *S).

    Raises:
        UserError: the scan is undersampled itself, so that there is nothing to compare with; or the
            recipe measures something else than MRI.
    """
    scanner = recipe.acquisition(measured=True)
    if not isinstance(scanner, MRI):
        raise UserError(
            f"the data hold k-space; --set measurement=mri, not {recipe.measurement}, or take images"
        )
    unknowns = 1 / float(check_kspace(kspace).float().mean())
    if unknowns > FULL:
        raise UserError(
            f"{case}: its k-space is undersampled itself ({unknowns:.1f} unknowns a measured value), so "
            "that nothing is known to compare with; `radiffuse predict` reconstructs it"
        )
    return scanner


def undersampled(recipe: Any, kspace: Tensor, case: str) -> tuple[Acquired, Tensor]:
    """What the mask that a recipe names leaves of one full scan, and the reference.

    The reference is the root of the sum of squares of the coils' images, times the one factor that brings it
    closest to the same images combined by the coil maps at hand.

    Args:
        recipe: names mask, acceleration and calibration.
        kspace: complex (1, K, *S), centred.
        case: its name; the mask is drawn by it.

    Returns:
        The measurement, and the reference (1, 1, *S) in its units.

    Raises:
        UserError: the scan is undersampled itself, so that there is nothing to compare with; or the
            recipe measures something else than MRI.
    """
    scanner = checked(recipe, kspace, case)
    if getattr(recipe, "ONE_COIL", False):
        kspace = combined(kspace)
    draw, size = MASKS[scanner.mask], tuple(kspace.shape[2:])
    mask = draw(size, scanner.acceleration, scanner.centre, [derive(0, "mask", case)]).mask
    acquired = recipe.acquire({"kspace": kspace * mask.to(kspace.real)})
    images = Fourier(kspace.dim() - 2).adjoint(kspace)
    truth = images.abs().square().sum(1, keepdim=True).sqrt()
    if acquired.maps is not None:
        seen = Coils(acquired.maps.to(images.device)).adjoint(images).abs()
        truth = truth * (seen * truth).sum() / truth.square().sum()
    return acquired, truth / acquired.scale.to(truth).reshape(-1, *[1] * (truth.dim() - 1))


def combined(kspace: Tensor) -> Tensor:
    """The k-space (1, 1, *S) of one coil: that of the images of fully sampled coils, added up by their maps.

    Args:
        kspace: complex (1, K, *S), centred.
    """
    if kspace.shape[1] == 1:
        return kspace
    size = kspace.shape[2:]
    widths = tuple(min(CENTRE, side) for side in size)
    maps = espirit(kspace.cpu(), widths, kernel=min(5, *widths), threshold=0.01, crop=0.0)
    fourier = Fourier(len(size))
    return fourier(Coils(maps.to(kspace.device)).adjoint(fourier.adjoint(kspace)))
