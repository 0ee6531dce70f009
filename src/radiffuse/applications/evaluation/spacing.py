"""How far voxels of masks lie from each other, for distances between surfaces."""

from ...data.dataset import Cases

__all__ = ["spacings_of"]


def spacings_of(cases: Cases) -> tuple[list[tuple[float, ...]], str]:
    """Distance between voxels of each case, and its unit: mm where all know theirs, else voxels."""
    images = [cases.image(row, "mask") for row in range(len(cases))]
    known = [image.spacing_mm for image in images]
    found = [spacing for spacing in known if spacing is not None]
    if len(found) == len(images):
        return found, "mm"
    return [(1.0,) * len(image.size) for image in images], "voxels"
