"""The three unpaired pictures of a training step: vessels, none, a drawn mask."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....data.embedded.trees import Trees
from ....diffusion.windows import Windows
from ....nn.blocks import cut_to, depth_to_space, space_to_depth, whole_strides
from ...recipe import Batch
from .field import evened, field_of, grey, within, without_vessels

__all__ = ["Trees", "Triples", "by_phases"]


def by_phases(apply: Callable[[Tensor], Tensor], x: Tensor, phases: int) -> Tensor:
    """A function of sub-images (M, 1, *L), on all of those of x (B, 1, *S), put back in their places.

    Args:
        apply: keeps the shape.
        x: continued by reflection where `phases` does not divide its sides.
        phases: every so many-th voxel along each axis makes a sub-image.
    """
    size = x.shape[2:]
    parts = space_to_depth(whole_strides(x, [phases] * len(size)), phases)
    found = apply(parts.flatten(0, 1)[:, None])[:, 0].unflatten(0, parts.shape[:2])
    return cut_to(depth_to_space(found, phases), size)


@dataclass(frozen=True)
class Triples:
    """How a batch becomes A, B and F.

    Attributes:
        channel, channels: that is read, of so many.
        phases: every so many-th voxel along each axis makes a sub-image; one is drawn.
        windows: of whole images, cut before the phase; None: whole ones.
        cell: see `evened`; 0 leaves grey values as they are.
        closing: side of the box that takes vessels out (see `without_vessels`), voxels of a sub-image.
        dark: whether vessels are darker than what is around them.
        trees: law of F.
    """

    channel: int
    channels: int
    phases: int
    windows: Windows | None
    cell: int
    closing: int
    dark: bool
    trees: Trees

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A, B in [-1, 1] and F, 0 and 1, each (M, 1, *size); no label of the batch is read.

        B is cut from "background", or from "image" with its vessels taken out, of any case of the batch. F ends
        with the field of view of B.
        """
        seen = self.seen(batch)
        shown, _ = self._parts(*seen)
        if "background" in batch:
            empty, inside = self._parts(*self.seen({"image": batch["background"]}))
        else:
            empty, inside = self._parts(*seen)
            empty = without_vessels(empty, self.closing, self.dark)
        other = torch.randperm(len(empty), device="cpu")
        seed = int(torch.randint(2**31, ()))
        size = tuple(shown.shape[2:])
        drawn = self.trees.draw(len(shown), size, seed).to(shown)
        return shown, empty[other], drawn * inside[other]

    def seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One channel of "image" (B, 1, *S) as networks see it, and its field of view, without the edge, as 0 and 1.

        Where grey values are not evened, all of a picture without "fov_mask" is its field of view.
        """
        x = grey(batch["image"], self.channel, self.channels)
        if not self.cell and "fov_mask" not in batch:
            return x, torch.ones_like(x)
        inside = within(field_of(batch))
        return (evened(x, inside, self.cell) if self.cell else x), inside.to(x)

    def _parts(self, image: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """A random window and phase of every case, and of its field of view."""
        pair = {"image": image, "inside": inside}
        if self.windows is not None:
            pair = self.windows.cut(pair, ("image", "inside"))
        x = torch.cat([pair["image"], pair["inside"]], dim=1)
        x = whole_strides(x, [self.phases] * (x.ndim - 2))
        parts = space_to_depth(x, self.phases).unflatten(1, (2, -1))
        phase = torch.randint(parts.shape[2], (len(parts),))
        chosen = torch.stack([part[:, k] for part, k in zip(parts, phase.tolist(), strict=True)])
        return chosen[:, :1], chosen[:, 1:]
