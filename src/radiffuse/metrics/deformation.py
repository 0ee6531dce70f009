"""How far a displacement field is from the truth."""

from torch import Tensor

__all__ = ["end_point_error"]


def end_point_error(field: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    """Mean distance |u - v| in voxels, (B,).

    Args:
        field, truth: (B, n, *S) in voxels.
        where: (B, 1, *S) bool, the voxels that count; None: all. A case without any gives NaN.
    """
    distance = (field.double() - truth.double()).square().sum(1).sqrt().flatten(1)
    if where is None:
        return distance.mean(1)
    weight = where.flatten(1).double()
    return (distance * weight).sum(1) / weight.sum(1)
