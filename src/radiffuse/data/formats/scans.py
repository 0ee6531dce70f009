"""A folder of fastMRI files as one data set: a scan is a file, and a person."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from ...errors import UserError
from ..columns import ArrayColumn, Column
from ..table import Table
from .fastmri import open_fastmri
from .stems import split_folders
from .stored import DAMAGED_HDF5, check_bytes

__all__ = ["are_scans", "holds_kspace", "open_scans"]


SCANS = (".h5", ".hdf5", ".mrd")
"""Endings of files that are measured k-space and nothing else."""


def are_scans(files: Sequence[Path]) -> bool:
    """Whether every file is HDF5 with `kspace` in it."""
    return bool(files) and all(
        file.suffix.lower() in (".h5", ".hdf5") and _has_kspace(file) for file in files
    )


def holds_kspace(path: Path, columns: Sequence[str]) -> bool:
    """Whether a data set is measured k-space, and holds none of some other columns.

    An HDF5 file of these endings always is one, and a folder of such files.
    """
    if path.is_dir():
        inside = [file for file in path.rglob("*") if file.suffix.lower() in (".h5", ".hdf5")]
        return are_scans([file for file in inside if file.is_file()])
    ending = path.suffix.lower()
    if not path.is_file():
        return ending in SCANS  # a pipe is never opened
    if ending == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
        return "kspace" in names and not names & {*columns}
    return ending in SCANS or (ending == ".mat" and _has_kspace(path))


def _has_kspace(file: Path) -> bool:
    import h5py

    try:
        with h5py.File(file) as opened:
            return "kspace" in opened
    except DAMAGED_HDF5:
        return False


def open_scans(folder: Path, files: Sequence[Path]) -> Table:
    """Files of `fastmri.open_fastmri`, slices one after the other. Folders train, val, test are splits.

    Images and voxel sizes that some files lack are left out, with a notice.

    Raises:
        UserError: as `open_fastmri`; k-space of several sizes, two files of one name, more than the memory.
    """
    check_bytes(sum(file.stat().st_size for file in files), folder)
    names = {file.stem: file for file in files}
    if len(names) < len(files):
        twin = next(file for file in files if names[file.stem] != file)
        raise UserError(
            f"{twin}: has the name of {names[twin.stem]}, and a file is a person here; rename one"
        )
    tables = [open_fastmri(file) for file in files]
    kspaces = [_array(table, "kspace") for table in tables]
    sizes = {kspace.data.shape[1:]: file for kspace, file in zip(kspaces, files, strict=True)}
    if len(sizes) > 1:
        told = ", ".join(
            f"{'x'.join(map(str, size))} ({file.name})" for size, file in list(sizes.items())[:3]
        )
        raise UserError(
            f"{folder}: holds k-space of {len(sizes)} sizes, coils x rows x columns: {told}; one model has one size: "
            "give each size its own folder"
        )
    notices = [line for table in tables for line in table.notices]
    columns: dict[str, Column] = {"kspace": _together(kspaces, f"{folder}: kspace")}
    images = [_array(table, "image") for table in tables if "image" in table.columns]
    if len(images) == len(tables) and len({image.data.shape[1:] for image in images}) == 1:
        columns["image"] = _together(images, f"{folder}: image")
    elif images:
        notices.append(
            f"{folder}: {len(images)} of {len(tables)} files hold images of one size beside k-space; left out"
        )
    splits, _ = split_folders(files, folder)
    counts = [len(table.ids) for table in tables]
    split_of = splits and tuple(
        part for part, n in zip(splits, counts, strict=True) for _ in range(n)
    )
    return Table(
        str(folder),
        tuple(case for table in tables for case in table.ids),
        columns,
        tuple(file.stem for file, n in zip(files, counts, strict=True) for _ in range(n)),
        split_of,
        texts={"slice": tuple(word for table in tables for word in table.texts["slice"])},
        notices=[f"{folder}: {len(files)} scans, each of one person", *notices],
    )


def _array(table: Table, key: str) -> ArrayColumn:
    column = table.columns[key]
    assert isinstance(column, ArrayColumn)
    return column


def _together(parts: Sequence[ArrayColumn], name: str) -> ArrayColumn:
    affines = [part.affines for part in parts if part.affines is not None]
    known = torch.cat(affines) if len(affines) == len(parts) else None
    return ArrayColumn(torch.cat([part.data for part in parts]), parts[0].kind, name, known, "MR")
