"""What every reader shares: names of formats, arrays as tensors, the silent listener."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
DICOM = (".dcm", ".dicom", ".ima")
ENDINGS = PICTURES + VOLUMES + DICOM


def ending(path: Path | str) -> str:
    """Ending of an image file in lower case, ".nii.gz" as one; "" where it is not one we know."""
    name = Path(path).name.lower()
    return next((known for known in ENDINGS if name.endswith(known)), "")


def silent(line: str) -> None:
    """A listener for notices that hears nothing."""


def as_tensor(array: np.ndarray) -> Tensor:
    """NumPy to torch without losing a value: byte order, uint16 -> int32, uint32 -> int64."""
    wider = {"b1": np.uint8, "u2": np.int32, "u4": np.int64, "u8": np.int64, "f16": np.float64}
    code = array.dtype.kind + str(array.dtype.itemsize)
    array = array.astype(wider.get(code, array.dtype.newbyteorder("=")), copy=False)
    return torch.from_numpy(np.array(array, order="C"))
