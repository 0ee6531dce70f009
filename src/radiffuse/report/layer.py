"""A volume as a page holds it: a gzipped NIfTI of 8 bits whose slope gives the values back. Imports no torch."""

import gzip
from pathlib import Path

import numpy as np

from ..data.files import replacing

__all__ = ["KEPT", "VOLUMES", "compressed", "write_volume"]

KEPT = "volumes"
"""Folder of volumes beside the pictures of an evaluation."""

VOLUMES = 8
"""Cases of which volumes are shown."""


def compressed(
    values: np.ndarray, affine: np.ndarray, low: float, high: float, labels: bool
) -> bytes:
    """The bytes of a volume (X, Y, Z).

    Args:
        values, affine: of the volume.
        low, high: values that become 0 and 255; what lies outside is cut.
        labels: whether they are labels, which stay as they are.
    """
    import nibabel

    if labels:
        image = nibabel.Nifti1Image(values.clip(0, 255).astype(np.uint8), affine)
    else:
        slope = max(high - low, 1e-12) / 255
        levels = ((values - low) / slope).round().clip(0, 255).astype(np.uint8)
        image = nibabel.Nifti1Image(levels, affine)
        image.header.set_slope_inter(slope, low)
    image.set_sform(affine, 1)
    return gzip.compress(image.to_bytes(), 6, mtime=0)


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray, labels: bool = False) -> None:
    """Write a volume of labels, or of grey values, of which one in a thousand is cut at either end."""
    low, high = np.quantile(values, (0.001, 0.999)).tolist()
    with replacing(path) as temporary:
        temporary.write_bytes(compressed(values, affine, low, high, labels))
