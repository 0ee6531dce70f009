"""Planes that volumes are cut along. No torch is imported here."""

from typing import Literal

__all__ = ["CODES", "ROWS_AND_COLUMNS", "Cut", "plane_of"]

Cut = Literal["none", "axial", "coronal", "sagittal", "0", "1", "2"]
"""none: volumes as they are. A plane of the patient, or the number of an array's axis."""

CODES = {"axial": "PLS", "coronal": "ILA", "sagittal": "IPR"}
"""Where rows, columns and slices of a plane go, in a volume's axis codes. Slices lie as a radiologist sees
them (axial: front up, the patient's right on the left) and are counted as the voxels of an RAS volume are."""

ROWS_AND_COLUMNS = {
    "axial": "rows go to the back, columns to the patient's left, slices from feet to head",
    "coronal": "rows go to the feet, columns to the patient's left, slices from back to front",
    "sagittal": "rows go to the feet, columns to the back, slices from left to right",
}
"""The same in words."""


def plane_of(cut: Cut, orientation: str) -> tuple[int, str]:
    """The axis that numbers the slices of volumes of this orientation, and the plane ("axial").

    Where neither names a plane it is "axis 2".
    """
    if cut in CODES:
        return 2, cut
    axis = int(cut)
    across = {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal"}
    plane = across.get(orientation[axis], "sagittal") if len(orientation) == 3 else f"axis {axis}"
    return axis, plane
