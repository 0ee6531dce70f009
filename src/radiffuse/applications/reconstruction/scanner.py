"""The fields of a reconstruction that say what is measured, and how."""

from collections.abc import Container
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...acquisition import Acquired, Acquisition, MaskName
from ..ranges import Checked, Rule, at_least, inside, more_than
from ..recipe import Batch
from .measuring import measure, scanner_of

__all__ = ["Measured", "Scanner"]

Measured = Literal["mri", "ct", "super-resolution", "noise", "inpainting"]


@dataclass(frozen=True)
class Scanner(Checked):
    """What is simulated where the data hold images, and how what was measured is read."""

    RULES: ClassVar[dict[str, Rule]] = {
        "acceleration": at_least(1),
        "calibration": at_least(0),
        "coils": at_least(1),
        "noise": at_least(0),
        "phase": at_least(0),
        "refinements": at_least(0),
        "model_error": at_least(-1),
        "views": at_least(2),
        "photons": more_than(0),
        "absorption": more_than(0),
        "implants": at_least(0),
        "metal": at_least(0),
        "factor": at_least(1),
        "lost": inside(0, 1),
    }

    measurement: Measured = "mri"
    """What is simulated where the data hold images instead of measurements."""
    simulated: bool = True
    """Whether images are measured by simulation; false: they are the noisy or small images themselves."""
    mask: MaskName = "gaussian-columns"
    """MRI: the sampling pattern."""
    acceleration: float = 4.0
    """MRI: points of k-space over points sampled."""
    calibration: int = 0
    """MRI: width of the fully sampled centre; 0 = 8 columns, or 16 x 16 points."""
    coils: int = 8
    """MRI: simulated receive coils."""
    noise: float = 0.01
    """Noise of the measurement where images reach 1 (of MRI: of each part of k-space)."""
    phase: float = 1.0
    """MRI: standard deviation of the simulated smooth phase in radians."""
    refinements: int = 4
    """MRI: turns in which image and coil maps are estimated from each other, beginning with maps of the
    calibration region; 0 = those as they are."""
    model_error: float = -1.0
    """MRI: what coil maps and phase estimated from few lines get wrong, as noise; adds to its
    variance where a method weighs the measurement against the prior. Negative = estimated for every
    scan from what a plain reconstruction leaves of it (`misfit`)."""
    values: Literal["auto", "real", "parts", "channels"] = "auto"
    """MRI: the unknown is real (its phase estimated with the coil maps and held by them), or complex, the
    prior applied to real and imaginary part separately ("parts"), or (a prior trained on complex
    images, which knows phases itself) to both as its channels. auto: real of simulations, whose phase
    is smooth; parts of measured k-space, whose phase need not be."""
    views: int = 20
    """CT: number of views."""
    beam: Literal["parallel", "fan"] = "parallel"
    """CT: geometry."""
    photons: float = 1e5
    """CT: photons a detector element and view."""
    absorption: float = 4.0
    """CT: largest line integral in nepers."""
    implants: int = 0
    """CT: metal discs put into each image; what rays through them measure is not used."""
    metal: float = 0.0
    """CT: voxels above this share of the range, and those beside them, are metal; what rays through them
    measure is not used. 0 = there is none."""
    factor: int = 2
    """Super-resolution: side of a block of the measured image."""
    noise_law: Literal["gaussian", "rician"] = "gaussian"
    """Noise: its law."""
    hole: Literal["pixels", "box"] = "pixels"
    """Inpainting: what is lost, pixels here and there or one box."""
    lost: float = 0.5
    """Inpainting: share of the pixels that is lost."""

    def simulates(self, keys: Container[str]) -> str:
        """What a prediction from data of these keys is made from, where that is no measurement; "" where it is one."""
        if "kspace" in keys or not self.simulated:
            return ""
        how = f"{self.mask}, R = {self.acceleration:g}" if self.measurement == "mri" else ""
        how = f"{self.measurement} ({how})" if how else self.measurement
        told = f"the images are taken for the truth: {how} is simulated from them, and the answer is made from that"
        more = {
            "mri": "k-space that was measured is a column kspace, or a file of a scanner",
            "noise": "--set simulated=false takes the images themselves for noisy ones",
            "super-resolution": "--set simulated=false takes the images themselves for small ones",
        }
        return "; ".join(filter(None, (told, more.get(self.measurement))))

    def acquisition(self, measured: bool = False) -> Acquisition:
        """The scanner that the fields describe; `measured`: it is not simulated."""
        return scanner_of(self, measured)

    def acquire(self, batch: Batch) -> Acquired:
        """The measurement of a batch: its k-space, or a simulation from its images in [-1, 1]; those of two
        channels are complex where `values` are, and keep their phase.

        Raises:
            UserError: a measurement that cannot be, or k-space for a method of something else.
        """
        return measure(self, self.acquisition("kspace" in batch), batch)
