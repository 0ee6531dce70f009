"""Random views: turns and flips of images, of all images of a case alike, of pairs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError

__all__ = ["UNVARIED", "Augment", "Varied", "mirrored_alike", "moved", "rotation", "turned"]


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
    return moved(image, rotation(angle, axes, axes - 2, axes - 1), torch.zeros(batch, axes))


def rotation(angle: Tensor, axes: int, first: int, second: int) -> Tensor:
    """Matrices (B, axes, axes) of a turn by `angle` (B,), in radians, in the plane of two axes."""
    matrix = torch.eye(axes).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, first, second], matrix[:, second, first] = angle.sin(), -angle.sin()
    return matrix


def moved(image: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Each image read at A x + b side, x counted in voxels from its middle.

    Linear between voxels; whole numbers (label maps) take the nearest. Outside, the border goes on.

    Args:
        image: (B, C, *S), two or three axes.
        matrix: A (B, axes, axes).
        offset: b (B, axes), shares of each side.
    """
    half = torch.tensor(image.shape[2:]) / 2
    unit = half.reciprocal()[:, None] * matrix * half  # from -1 to 1 between the image's borders
    theta = torch.cat([unit, 2 * offset[..., None]], dim=2).flip(1)
    theta[..., :-1] = theta[..., :-1].flip(2)  # coordinates run from the last axis
    grid = F.affine_grid(theta.to(image.device, torch.float32), list(image.shape), False)
    whole = not image.is_floating_point()
    read = F.grid_sample(
        image.float(), grid, "nearest" if whole else "bilinear", "border", align_corners=False
    )
    return read.round().to(image.dtype) if whole else read


@dataclass(frozen=True)
class Augment:
    """Random views of a batch, every image and mask of a case alike.

    Attributes:
        mirror: axes (0 = first) along which half of the cases are mirrored, independently.
        turn: largest turn in degrees, in every plane.
        zoom: largest change of size: a factor from 1 / (1 + zoom) to 1 + zoom.
        shift: largest shift, a share of each side.
        spacing: of voxels along each axis in mm: turns are turns of the patient; () turns voxels.
    """

    mirror: tuple[int, ...] = ()
    turn: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    spacing: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.mirror or self.turn or self.zoom or self.shift)

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with its images and masks (three axes and more) moved.

        Random numbers come from torch's global generator.

        Raises:
            UserError: there is no such axis, complex images, or images of one axis to be turned.
        """
        found = {key: value for key, value in batch.items() if value.ndim > 2}
        if not found:
            return batch
        axes = self._checked(found)
        found = dict(zip(found, mirrored_alike(*found.values(), along=self.mirror), strict=True))
        if self.turn or self.zoom or self.shift:
            matrix, offset = self._drawn(len(next(iter(found.values()))), axes)
            found = {key: moved(value, matrix, offset) for key, value in found.items()}
        return {**batch, **found}

    def _checked(self, images: dict[str, Tensor]) -> int:
        """The number of axes that all images have."""
        counts = {value.ndim - 2 for value in images.values()}
        if len(counts) > 1 or any(value.is_complex() for value in images.values()):
            raise UserError("only real images of as many axes as each other can be augmented alike")
        (axes,) = counts
        for axis in self.mirror:
            if axis >= axes:
                raise UserError(f"--train.mirror {axis}: the images have the axes 0 to {axes - 1}")
        if axes == 1 and (self.turn or self.zoom or self.shift):
            raise UserError(
                "images of one axis are only mirrored: leave --train.turn, zoom and shift"
            )
        return axes

    def _drawn(self, count: int, axes: int) -> tuple[Tensor, Tensor]:
        """A and b of `moved` for `count` cases."""
        matrix = torch.exp(_signed(count, 1, 1) * math.log1p(self.zoom)) * torch.eye(axes)
        for first in range(axes):
            for second in range(first + 1, axes):
                angle = _signed(count) * math.radians(self.turn)
                matrix = matrix @ rotation(angle, axes, first, second)
        if len(self.spacing) == axes:  # turned in mm
            step = torch.tensor(self.spacing)
            matrix = matrix * step / step[:, None]
        return matrix, self.shift * _signed(count, axes)


def _signed(*shape: int) -> Tensor:
    """Uniform on [-1, 1]."""
    return 2 * torch.rand(shape) - 1


def mirrored_alike(*images: Tensor, along: Sequence[int] | None = None) -> tuple[Tensor, ...]:
    """Mirror each case along axes drawn at random from `along` (or all), every image of it alike."""
    for axis in range(images[0].ndim - 2) if along is None else along:
        draw = _coin(images[0])
        images = tuple(torch.where(draw, image.flip(axis + 2), image) for image in images)
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
