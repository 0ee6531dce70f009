r"""Reconstructions without a learned prior, of one form: method(measurement, like, ...) -> x.

`like` gives shape (B, C, *S), dtype and device of x; x comes in the units that the operator maps to
the measurement's. A real `like` asks for a real x: of an operator of complex images the real part is
taken. Compressed sensing (total variation, L1 of wavelets) is in `compressed`.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..diffusion.noise import Seeded
from ..errors import UserError
from ..operators import Identity, KSpaceCrop, LinearOperator, Mask, Radon, conjugate_gradient, fbp
from ..operators.base import factors
from ..operators.tomography import Window, ramp
from . import Measurement
from .consistency import residual_std

__all__ = [
    "OfImages",
    "biharmonic",
    "cg_sense",
    "cubic_upsampling",
    "filtered_back_projection",
    "misfit",
    "non_local_means",
    "zero_filled",
]


class OfImages(LinearOperator):
    """The measurement's operator on images of the kind of `like`: its adjoint is real if they are.

    Raises:
        UserError: the measurement is empty, holds NaN or infinite values, or is of another shape than the operator
            makes.
    """

    def __init__(self, measurement: Measurement, like: Tensor) -> None:
        y = measurement.y
        if y.numel() == 0 or not bool(torch.isfinite(y.abs()).all()):
            what = "is empty" if y.numel() == 0 else "holds NaN or infinite values"
            raise UserError(f"the measurement of shape {tuple(y.shape)} {what}: check its source")
        measurement.seen(like)
        self.of, self.real = measurement.A, not like.is_complex()

    def __call__(self, x: Tensor) -> Tensor:
        return self.of(x)

    def adjoint(self, y: Tensor) -> Tensor:
        x = self.of.adjoint(y)
        return x.real if self.real and x.is_complex() else x


def zero_filled(measurement: Measurement, like: Tensor) -> Tensor:
    """$A^H y$: what was not measured counts zero."""
    return OfImages(measurement, like).adjoint(measurement.y).to(like)


def cg_sense(
    measurement: Measurement,
    like: Tensor,
    weight: float,
    iterations: int = 100,
    tolerance: float = 1e-5,
    start: Tensor | None = None,
) -> Tensor:
    r"""Iterative SENSE: $\min_x \|Ax-y\|^2 + w\|x\|^2$ by conjugate gradients (Pruessmann et al. 2001).

    Args:
        measurement: y and A.
        like: gives shape, dtype and device of x.
        weight: w, in units of $\|A\|^2$ (1 for normalised coil maps); 0 leaves the least squares.
        iterations: at most that many.
        tolerance: a case stops where the normal equations hold to this share of $\|A^H y\|$.
        start: x to begin with; zero if None.
    """
    A = OfImages(measurement, like)
    b = A.adjoint(measurement.y).to(like)
    return conjugate_gradient(
        lambda x: A.gram(x) + weight * x, b, start, iterations=iterations, tolerance=tolerance
    )


RIDGE = 1e-2
"""Weight of the plain reconstruction of `misfit`."""
FREE = 0.1
"""Of white noise in a measurement, the least that has to be no image for `misfit` to know anything."""


def misfit(measurement: Measurement, like: Tensor) -> Tensor:
    r"""How far y is from all that A explains, as the deviation of white noise, (B,).

    `residual_std` of a lightly regularised `cg_sense`, over what the same leaves of white noise of
    deviation 1: of noise the reconstruction fits a share too. Near the deviation of A x - y at the true
    image: the noise where coil maps and phase are right, several times as much where they are wrong.
    The regularisation is iterated once (x and what it left, solved again), so that it leaves a share
    RIDGE^2 of the signal itself. Zero where A explains whatever is measured, as with one coil and a
    complex image: then nothing can be known.
    """

    def left(y: Tensor) -> Tensor:
        x = cg_sense(replace(measurement, y=y), like, RIDGE, iterations=30)
        again = replace(measurement, y=y - measurement.A(x))
        return residual_std(measurement.A, x + cg_sense(again, like, RIDGE, iterations=30), y)

    y = measurement.y
    free = left(Seeded([0] * len(y))(y) * (y != 0))
    return torch.where(free > FREE, left(y) / free, 0.0)


def filtered_back_projection(
    measurement: Measurement, like: Tensor, window: Window = ramp
) -> Tensor:
    """`operators.fbp` of a sinogram, measured by `Radon` or by `Mask(weights) @ Radon`.

    Raises:
        UserError: another operator, or a geometry that `fbp` refuses.
    """
    OfImages(measurement, like)
    *weights, radon = factors(measurement.A)
    known = all(isinstance(part, Mask) for part in weights)
    if not isinstance(radon, Radon) or not known:
        names = " @ ".join(type(part).__name__ for part in factors(measurement.A))
        raise UserError(f"filtered back-projection needs a sinogram (Radon), not one of {names}")
    sinogram = measurement.y
    for part in weights:
        assert isinstance(part, Mask)
        weight = part.mask.to(sinogram)
        sinogram = torch.where(weight > 0, sinogram / weight.clamp(min=1e-12), 0.0)
    return fbp(sinogram, radon.geometry, window).to(like)


def _each_image(filtered: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """A function of real images (*S) on every case and channel of y (B, C, *S), parts of complex ones."""
    if y.is_complex():
        return torch.complex(_each_image(filtered, y.real), _each_image(filtered, y.imag))
    images = [filtered(image) for image in y.flatten(0, 1).cpu()]
    return torch.stack(images).unflatten(0, y.shape[:2])


def non_local_means(
    measurement: Measurement, like: Tensor, weight: float = 0.8, patch: int = 5, reach: int = 6
) -> Tensor:
    r"""Non-local means of a noisy image (Buades et al. 2005), scikit-image's fast version; 2-D and 3-D.

    Args:
        measurement: the noisy image, A = Identity, with its noise level s.
        like: gives dtype and device of x.
        weight: h / s: patches count $e^{-d^2/h^2}$, d^2 their mean squared distance less 2 s^2.
        patch: side of a patch in pixels.
        reach: largest distance of patches in pixels.

    Raises:
        UserError: another operator than the identity.
    """
    from skimage.restoration import denoise_nl_means

    OfImages(measurement, like)
    if not isinstance(measurement.A, Identity):
        name = type(measurement.A).__name__
        raise UserError(f"non-local means removes noise from images, it cannot undo {name}")
    s = float(measurement.deviations.mean())

    def one(image: Tensor) -> Tensor:
        out = denoise_nl_means(
            image.numpy(), patch_size=patch, patch_distance=reach, h=weight * s, sigma=s
        )
        return torch.from_numpy(out)

    return _each_image(one, measurement.y).to(like)


def biharmonic(measurement: Measurement, like: Tensor) -> Tensor:
    r"""Holes filled by the smooth surface $\Delta^2 u = 0$ (Damelin & Hoang 2018), scikit-image's; any axes.

    Args:
        measurement: images (B, C, *S), A = `Mask`, 0 where pixels were lost.
        like: gives dtype and device of x.

    Raises:
        UserError: another operator than a mask.
    """
    from skimage.restoration import inpaint_biharmonic

    OfImages(measurement, like)
    if not isinstance(measurement.A, Mask):
        name = type(measurement.A).__name__
        raise UserError(f"biharmonic inpainting fills holes of images, it cannot undo {name}")
    lost = (measurement.A.mask == 0).expand_as(measurement.y).cpu()
    pairs = zip(measurement.y.flatten(0, 1).cpu(), lost.flatten(0, 1), strict=True)
    filled = [torch.from_numpy(inpaint_biharmonic(*map(Tensor.numpy, pair))) for pair in pairs]
    return torch.stack(filled).unflatten(0, measurement.y.shape[:2]).to(like)


def cubic_upsampling(measurement: Measurement, like: Tensor) -> Tensor:
    """Cubic spline interpolation from the measured pixels' places to those of `like`; any axes.

    The centres of blocks (`BlockMean`), or the grid of the same centre n // 2 (`KSpaceCrop`); pixels
    beyond the outermost repeat them.

    Raises:
        UserError: the measurement has not the axes of an image.
    """
    from scipy.ndimage import affine_transform

    OfImages(measurement, like)
    y, size = measurement.y, tuple(like.shape[2:])
    if y.shape[:2] != like.shape[:2] or y.ndim != like.ndim:
        raise UserError(
            f"data of shape {tuple(y.shape)} cannot be interpolated to {tuple(like.shape)}"
        )
    low = tuple(y.shape[2:])
    steps = [n / big for n, big in zip(low, size, strict=True)]
    if any(isinstance(part, KSpaceCrop) for part in factors(measurement.A)):
        shifts = [n // 2 - step * (big // 2) for n, big, step in zip(low, size, steps, strict=True)]
    else:
        shifts = [step / 2 - 0.5 for step in steps]

    def one(image: Tensor) -> Tensor:
        out = affine_transform(
            image.numpy(), steps, shifts, output_shape=size, order=3, mode="nearest"
        )
        return torch.from_numpy(out)

    return _each_image(one, y).to(like)
