"""Random flips and turns of images, for classifiers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["turned"]


def turned(image: Tensor, degrees: float, flip: bool) -> Tensor:
    """Each image turned by a uniform angle up to `degrees` and, with `flip`, mirrored half the time.

    Turns are in the plane of the last two axes, mirroring is along the last one. Linear
    interpolation; what comes from outside repeats the border. Images of one axis are only mirrored.

    Args:
        image: (B, C, *S); random numbers come from torch's global generator.
        degrees: largest angle, 0 for none.
        flip: whether to mirror.
    """
    batch, axes = len(image), image.ndim - 2
    mirrored = torch.rand(batch).to(image.device) < 0.5
    if flip:
        choose = mirrored.reshape(batch, *[1] * (image.ndim - 1))
        image = torch.where(choose, image.flip(-1), image)
    if not degrees or axes < 2:
        return image
    angle = (2 * torch.rand(batch) - 1) * math.radians(degrees)
    rows, columns = image.shape[-2:]
    matrix = torch.eye(axes, axes + 1).repeat(batch, 1, 1)  # coordinates run from the last axis
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1] = -angle.sin() * rows / columns
    matrix[:, 1, 0] = angle.sin() * columns / rows
    grid = F.affine_grid(matrix.to(image), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)
