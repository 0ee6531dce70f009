"""What can be wrong with a file: its bytes, its place, its name, each number of its header."""

import shutil
from pathlib import Path

from malformed_arrays import hdf5_member, npy_header, npz_array, npz_zip
from malformed_bytes import ANY
from malformed_images import (
    dicom_deflated,
    dicom_syntax,
    dicom_tag,
    gz_bomb,
    itk_field,
    mhd_target,
    nifti_field,
    nifti_voxels,
    png_bomb,
    png_chunk,
    tiff_tag,
)
from malformed_texts import (
    csv_cell,
    json_value,
    jsonl_line,
    safetensors_header,
    toml_value,
    weights,
)
from malformed_values import Fault, Random, pick

BY_ENDING: dict[str, tuple[Fault, ...]] = {
    ".nii": (nifti_field, nifti_field, nifti_field, nifti_voxels),
    ".nii.gz": (nifti_field, nifti_field, nifti_field, nifti_voxels, gz_bomb),
    ".hdr": (nifti_field,),
    ".img": (nifti_field,),
    ".mgz": (nifti_field, nifti_field, nifti_voxels, gz_bomb),
    ".mha": (itk_field, itk_field),
    ".mhd": (itk_field, itk_field, mhd_target),
    ".nrrd": (itk_field, itk_field),
    ".dcm": (dicom_tag, dicom_tag, dicom_tag, dicom_tag, dicom_syntax, dicom_deflated),
    ".png": (png_chunk, png_chunk, png_bomb),
    ".tif": (tiff_tag, tiff_tag),
    ".npz": (npz_array, npz_array, npy_header, npz_zip, npz_zip),
    ".npy": (npz_array, npz_array, npy_header),
    ".h5": (hdf5_member, hdf5_member, hdf5_member),
    ".csv": (csv_cell, csv_cell, csv_cell),
    ".json": (json_value, json_value, json_value),
    ".toml": (toml_value, toml_value, toml_value),
    ".jsonl": (jsonl_line,),
    ".safetensors": (safetensors_header, weights, weights),
}
"""Faults of the inside of files by ending; MATLAB's are those of HDF5."""


BOMBS = (gz_bomb, npz_zip, dicom_deflated, png_bomb)
"""Not followed by another fault, which would unpack them."""


def damage(path: Path, rng: Random) -> str:
    """Damage a file in one way, now and then in two, and say how."""
    name = path.name.lower()
    ending = next((end for end in (".nii.gz", path.suffix) if name.endswith(end)), "")
    hdf5 = ending == ".mat" and path.read_bytes()[512:516] == b"\x89HDF"
    inside = BY_ENDING.get(".h5" if hdf5 else ending, ())
    told = []
    for _ in range(1 if rng.random() < 0.9 else 2):
        fault = pick(rng, inside if inside and rng.random() < 0.6 else ANY)
        try:
            told.append(fault(path, rng))
        except Exception as error:
            # a second fault may not find what it would damage
            told.append(f"not {fault.__name__} ({type(error).__name__})")
        if not path.is_file() or fault in BOMBS:
            break
    return f"{path.name!a:.60}: {'; '.join(told)}"


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
