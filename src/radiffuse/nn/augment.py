"""Random flips and turns: of images, and of pairs of images alike."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["UNVARIED", "Varied", "mirrored_alike", "turned"]


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


def mirrored_alike(*images: Tensor) -> tuple[Tensor, ...]:
    """Mirror each case along axes drawn at random, every image of a case alike."""
    for axis in range(2, images[0].ndim):
        draw = _coin(images[0])
        images = tuple(torch.where(draw, image.flip(axis), image) for image in images)
    return images


def _coin(like: Tensor) -> Tensor:
    """True for about half of the cases, (B, 1, ...)."""
    draw = torch.rand(len(like)) < 0.5
    return draw.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class Varied:
    """Random views of pairs (B, C, *S), both images of a case alike, so that their motion stays true.

    Attributes:
        swapped: half of the cases change their roles: the motion is learned both ways.
        mirrored: along axes drawn at random.
        turns: largest angle of a turn in the plane of the last two axes, degrees.
    """

    swapped: bool = False
    mirrored: bool = False
    turns: float = 0.0

    def __call__(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        if self.swapped:
            draw = _coin(moving)
            moving, fixed = torch.where(draw, fixed, moving), torch.where(draw, moving, fixed)
        if self.mirrored:
            moving, fixed = mirrored_alike(moving, fixed)
        if self.turns:
            pair = turned(torch.cat([moving, fixed], dim=1), self.turns, flip=False)
            moving, fixed = pair.chunk(2, dim=1)
        return moving, fixed


UNVARIED = Varied()
"""Pairs as they are."""
