"""The fields of a recipe that say how its U-Net is built."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import UserError
from ..nn import UNet
from .ranges import Checked, Rule, at_least, below, one_or_more, require

__all__ = ["NETWORK", "Backbone", "check_attention"]

NETWORK: dict[str, Rule] = {
    "size": at_least(1),
    "width": at_least(1),
    "multiples": one_or_more(at_least(1)),
    "blocks": at_least(1),
    "attention": at_least(0),
    "patch": at_least(1),
}
"""What the fields of a U-Net may be."""


def check_attention(attention: tuple[int, ...], multiples: tuple[int, ...]) -> None:
    """Refuse levels that the network does not have.

    Raises:
        OutOfRange: names the level.
    """
    last = len(multiples) - 1
    for level in attention:
        said = f"{level}: the levels of --multiples run from 0 to {last}"
        require(level <= last, "attention", said)


@dataclass(frozen=True)
class Backbone(Checked):
    """A U-Net in fields; a recipe that builds one inherits them and changes what its paper differs in.

    Raises:
        OutOfRange: a value is out of range, or a level attends that is not there.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        **NETWORK,
        "channels": at_least(0),
        "data_std": at_least(0),
        "dropout": below(1),
    }

    channels: int = 0
    """Channels of the image; 0 = from the data."""
    size: tuple[int, ...] = ()
    """Spatial size of the image; empty = from the data."""
    data_std: float = 0.0
    """Standard deviation of the images in [-1, 1]; 0 = from the data."""
    width: int = 128
    """Channels of the first level (U-Net) or of a token (DiT)."""
    multiples: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level over `width`; each level halves the resolution."""
    blocks: int = 2
    """Residual blocks a level (U-Net), or blocks in all (DiT)."""
    attention: tuple[int, ...] = ()
    """Levels that attend, 0 = finest."""
    patch: int = 1
    """Side of the blocks folded into channels at the input."""
    dropout: float = 0.0
    """Dropout in residual blocks."""
    recompute: bool = False
    """Gradient checkpointing: less memory, one more forward pass."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attention(self.attention, self.multiples)

    @property
    def stride(self) -> int:
        """What the sides of an image must divide by."""
        return self.patch * 2 ** (len(self.multiples) - 1)

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
        if not self.channels or not self.size:
            raise UserError("channels and size are not set; fit the recipe to data first")
        return UNet(
            axes or len(self.size),
            self.channels,
            self.width,
            self.multiples,
            self.blocks,
            self.attention,
            self.patch,
            dropout=self.dropout,
            recompute=self.recompute,
            **options,
        )
