"""The fields of a recipe that say how its U-Net is built."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..nn import UNet
from .ranges import Checked, Rule, at_least, below, between, one_or_more, require
from .recipe import check_fitted
from .sizes import check_least, halvings, sides

if TYPE_CHECKING:
    from ..data.dataset import Facts

__all__ = ["Backbone", "UNetFields"]

MANY = 1 << 14
"""Voxels beyond which attention is most of a network's work."""
ATTENDED = 16
"""Voxels a side where the networks of Ho et al. 2020 and their kin attend."""


@dataclass(frozen=True)
class UNetFields(Checked):
    """How wide and deep a U-Net is; a recipe inherits the fields and changes what its paper differs in.

    Raises:
        OutOfRange: a value is out of range, or a level attends that is not there.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "size": between(1, 65535),
        "width": between(1, 65535),
        "multiples": one_or_more(between(1, 1000)),
        "blocks": between(1, 1000),
        "attention": at_least(-1),
        "patch": between(1, 1000),
    }

    size: tuple[int, ...] = ()
    """Spatial size of the images; empty = from the data."""
    width: int = 128
    """Channels of the first level."""
    multiples: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level over `width`; each level halves the resolution."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = ()
    """Levels that attend, 0 = finest, the middle with the coarsest; one more than the coarsest = the
    middle; -1 = the first level of 16 voxels a side or less, and the middle."""
    patch: int = 1
    """Side of the blocks folded into channels at the input."""

    def __post_init__(self) -> None:
        super().__post_init__()
        last = len(self.multiples) - 1
        for level in self.attention:
            said = f"{level}: the levels of --multiples run from 0 to {last}, and {last + 1} is the middle"
            require(level <= last + 1, "attention", said)

    @property
    def stride(self) -> int:
        """What the sides of an image must divide by."""
        return self.patch * 2 ** (len(self.multiples) - 1)

    def unet_shape(self) -> dict[str, Any]:
        """Multiples, blocks, attention and patch, as `UNet` takes them."""
        shape = {name: getattr(self, name) for name in ("multiples", "blocks", "patch")}
        return {**shape, "attention": self.attending()}

    def attending(self) -> tuple[int, ...]:
        """`attention`, with the levels that -1 stands for where images are of `size`."""
        if -1 not in self.attention:
            return self.attention
        levels = range(len(self.multiples))
        coarse = [k for k in levels if max(self.size) <= ATTENDED * self.patch * 2**k]
        return tuple(sorted({*self.attention, *coarse[:1], len(levels)} - {-1}))


@dataclass(frozen=True)
class Backbone(UNetFields):
    """A recipe with one U-Net of images."""

    RULES: ClassVar[dict[str, Rule]] = {
        "channels": at_least(0),
        "data_std": at_least(0),
        "dropout": below(1),
        "halved": at_least(0),
    }

    channels: int = 0
    """Channels of the image; 0 = from the data."""
    data_std: float = 0.0
    """Standard deviation of the images in [-1, 1]; 0 = from the data."""
    dropout: float = 0.0
    """Dropout in residual blocks."""
    recompute: bool = False
    """Gradient checkpointing: less memory, one more forward pass."""
    halved: tuple[int, ...] = ()
    """How often each axis is halved, by the coarsest levels; empty = by all of them, but for axes of volumes that
    are short or of thick slices (see `sizes.halvings`)."""

    def filled(self, facts: "Facts", channels: int, size: Sequence[int], **more: Any) -> Self:
        """This recipe with what is open filled: channels, size, deviation of the images, and `more`."""
        size = self.size or tuple(size)
        return replace(
            self,
            channels=self.channels or channels,
            size=size,
            data_std=self.data_std or round(float(facts.std), 4) or 0.5,
            halved=self._halvings(size, facts.spacing),
            **more,
        )

    def _halvings(self, size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """`halved`, or from size and spacing; () where all axes are halved by all levels."""
        levels = len(self.multiples)
        if not self.halved:
            return self.spared(size, spacing)
        right = len(self.halved) == len(size) and max(self.halved) < levels
        said = f"{self.halved}: one number for each of {len(size)} axes is needed, {levels - 1} at most"
        require(right, "halved", said)
        return () if set(self.halved) == {levels - 1} else self.halved

    def spared(self, size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """How often each axis is halved where nothing is asked for; () by all levels, all alike."""
        return halvings(size, spacing, len(self.multiples), self.patch)

    @property
    def halvings(self) -> tuple[int, ...]:
        """How often each axis of `size` is halved."""
        return self.halved or (len(self.multiples) - 1,) * len(self.size)

    @property
    def strides(self) -> tuple[int, ...]:
        """The least sides of an image; others that these do not divide are continued, and cut back."""
        return tuple(self.patch * 2**times for times in self.halvings)

    def fitting(self) -> Self:
        """This recipe, once its images are known to be as large as the network's stride.

        Raises:
            UserError: they are smaller.
        """
        check_least(self.size, self.strides, "--multiples or --patch")
        return self

    def notices(self) -> list[str]:
        """What a user should know of a network fitted to volumes, one line each."""
        lines = []
        if self.halved:
            times = " ".join(map(str, self.halved))
            lines.append(
                f"the axes of {sides(self.size)} voxels are halved {times} times, for one is short or of thick "
                "slices; --halved says how often, --size resamples all volumes"
            )
        for level in sorted({min(k, len(self.multiples) - 1) for k in self.attending()}):
            seen = self.voxels_at(level)
            if math.prod(seen) > MANY:
                lines.append(
                    f"level {level} attends over {sides(seen)} voxels, work that grows with their square; "
                    "--attention -1 attends where 16 a side are left"
                )
        return lines

    def voxels_at(self, level: int) -> tuple[int, ...]:
        """Sides of the images that a level sees."""
        last = len(self.multiples) - 1
        times = [max(0, each - (last - level)) for each in self.halvings]
        pairs = zip(self.size, times, strict=True)
        return tuple(math.ceil(side / (self.patch * 2**each)) for side, each in pairs)

    def beside(self, channels: int, width: int, condition: int) -> UNet:
        """A U-Net as deep as `unet`, of another width and without attention, told images alone."""
        other = replace(self, channels=channels, width=width, attention=())
        return other.unet(condition=condition)

    def unet(self, axes: int = 0, **options: Any) -> UNet:
        """A new U-Net for the fields at hand.

        Args:
            axes: spatial axes; 0 = as many as `size` has.
            options: those of `UNet` beside the fields (classes, condition, twice ...).

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size")
        axes = axes or len(self.size)
        return UNet(
            axes,
            self.channels,
            self.width,
            **self.unet_shape(),
            dropout=self.dropout,
            recompute=self.recompute,
            halved=self.halvings if axes == len(self.size) else (),
            **options,
        )
