"""Linear operators of medical imaging, each with its exact adjoint. They know no diffusion."""

from .base import Identity, LinearOperator, Matrix, conjugate_gradient, norm
from .fourier import Coils, Fourier, Mask, RealPart
from .radon import Fan, Parallel, Radon, views
from .resample import BlockMean, Blur, KSpaceCrop
from .tomography import fbp

__all__ = [
    "BlockMean",
    "Blur",
    "Coils",
    "Fan",
    "Fourier",
    "Identity",
    "KSpaceCrop",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Parallel",
    "Radon",
    "RealPart",
    "conjugate_gradient",
    "fbp",
    "norm",
    "views",
]
