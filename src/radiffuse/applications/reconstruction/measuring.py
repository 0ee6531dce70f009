"""What a reconstruction is given: the scanner that its fields describe, and what it measures."""

import hashlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...acquisition import CT, MRI, Acquired, Acquisition, Holes, LowResolution, Noisy
from ...diffusion.noise import derive
from ...diffusion.schedule import expand
from ...errors import UserError
from ...inverse.classical import misfit
from ..recipe import Batch

__all__ = ["as_complex", "content_seeds", "digest", "measure", "reference", "scanner_of"]


def scanner_of(recipe: Any, measured: bool) -> Acquisition:
    """The scanner that the fields of a recipe describe; `measured`: it is not simulated."""
    if recipe.measurement == "mri":
        grey = recipe.values != "channels"
        real = recipe.values == "real" or (recipe.values == "auto" and not measured)
        return MRI(
            *(recipe.mask, recipe.acceleration, recipe.calibration, recipe.coils),
            *(recipe.noise, recipe.phase, real, grey),
            refinements=recipe.refinements,
            deviation=recipe.data_std / 2 if grey else 0.0,
        )
    if recipe.measurement == "ct":
        geometry = (recipe.views, recipe.beam, recipe.photons, recipe.absorption)
        return CT(*geometry, recipe.implants, recipe.metal)
    if recipe.measurement == "inpainting":
        return Holes(recipe.hole, recipe.lost, recipe.noise)
    if recipe.measurement == "super-resolution":
        return LowResolution(recipe.factor, recipe.noise)
    return Noisy(recipe.noise, recipe.noise_law)


def measure(recipe: Any, scanner: Acquisition, batch: Batch) -> Acquired:
    """The measurement of a batch, as `Scanner.acquire` says."""
    acquired = _acquired(recipe, scanner, batch)
    return _doubted(recipe, acquired) if isinstance(scanner, MRI) else acquired


def _acquired(recipe: Any, scanner: Acquisition, batch: Batch) -> Acquired:
    """What was measured, or is simulated; an image that is a measurement itself is read as it is."""
    if "kspace" in batch:
        if isinstance(scanner, MRI):
            return scanner.read(batch["kspace"])
        raise UserError(f"the data hold k-space; --set measurement=mri, not {recipe.measurement}")
    images = batch["image"]
    if recipe.simulated:
        seeds = content_seeds(images)
        if isinstance(scanner, MRI) and "scan" in batch:
            return scanner.simulate(_imaged(recipe, images), seeds, content_seeds(batch["scan"]))
        return scanner.simulate(_imaged(recipe, images), seeds)
    if isinstance(scanner, LowResolution | Noisy):
        return scanner.read((images + 1) / 2)
    raise UserError(
        "simulated=false takes images for measurements, which those of "
        f"{recipe.measurement} are not; --set measurement=noise or super-resolution"
    )


def _imaged(recipe: Any, images: Tensor) -> Tensor:
    """Stored images in [-1, 1] as what is measured of them: in [0, 1], or complex where that is stored."""
    parts = recipe.values == "channels" and images.shape[1] == 2
    return as_complex(images, 2) if parts else (images + 1) / 2


def reference(recipe: Any, images: Tensor) -> Tensor:
    """Stored images in [-1, 1] as reconstructions are compared with them: magnitudes in [0, 1]."""
    imaged = _imaged(recipe, images)
    return imaged.abs() if imaged.is_complex() else imaged


def _doubted(recipe: Any, acquired: Acquired) -> Acquired:
    """The same with what coil maps and phase get wrong counted as noise."""
    if not recipe.model_error:
        return acquired
    measurement = acquired.measurement
    if recipe.model_error > 0:
        std = (measurement.deviations**2 + recipe.model_error**2).sqrt()
    else:
        std = torch.maximum(measurement.deviations, misfit(measurement, acquired.first).cpu())
    std = expand(std, measurement.y).to(acquired.first.real)
    weighed = replace(measurement, std=std)
    return replace(acquired, measurement=weighed, noise=measurement.deviations)


def as_complex(stored: Tensor, channels: int) -> Tensor:
    """Stored images of n slices (B, n C, *S) in [-1, 1] as complex (B, n, *S).

    Args:
        stored: C = 1: grey, becomes (x + 1) / 2 with phase 0; C = 2: real and imaginary part.
        channels: C.
    """
    if channels == 1:
        return ((stored + 1) / 2).to(stored.dtype.to_complex())
    return torch.complex(stored[:, ::2].contiguous(), stored[:, 1::2].contiguous())


def content_seeds(images: Tensor) -> list[int]:
    """A seed from each image's values: the simulated scan of a case is always the same."""
    return [derive(0, "measurement", digest(image)) for image in images]


def digest(x: Tensor) -> str:
    """SHA-256 of the values of a tensor."""
    return hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest()
