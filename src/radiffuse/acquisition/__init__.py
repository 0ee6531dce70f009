r"""How a scanner measures: MRI, CT, low resolution, noise, holes; simulated from images or read from files.

An acquisition turns images with values in [0, 1] into an `Acquired`: a `Measurement` $y = A x + n$ whose
noise is white with a known standard deviation, and the plain reconstruction from it. Case b draws
its mask, coils, phase and noise from seed b alone.
"""

from .base import Acquired, Acquisition
from .ct import CT
from .images import Holes, LowResolution, Noisy
from .kspace import smooth_phase
from .mri import MASKS, MRI, MaskName

__all__ = [
    "CT",
    "MASKS",
    "MRI",
    "Acquired",
    "Acquisition",
    "Holes",
    "LowResolution",
    "MaskName",
    "Noisy",
    "smooth_phase",
]
