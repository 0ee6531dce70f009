"""The fields of a recipe that say how images are painted on label maps, and how the segmenter learns from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import nn

from ....errors import UserError
from ....nn.critic import ScaledCritic
from ....nn.spade import Painter, StyleEncoder
from ...ranges import Checked, Rule, at_least, between, more_than, one_or_more, require
from ...recipe import check_fitted
from ...sizes import check_same_size, check_stride, one_size
from ...supervised import direct_unet
from ..checks import labels_to_learn
from ..segmenter import Segmenter
from .maps import Maps
from .painting import Gate, Painting, Weights

if TYPE_CHECKING:
    from ....data.dataset import Facts

__all__ = ["PainterFields"]

_WIDE = between(1, 65535)


@dataclass(frozen=True)
class PainterFields(Checked):
    """Label maps, what paints on them and what learns from it; a recipe inherits the fields, and has `size`."""

    RULES: ClassVar[dict[str, Rule]] = {
        **dict.fromkeys(("tissues", "labels", "image_channels"), at_least(0)),
        **dict.fromkeys(("painter_width", "painter_hidden", "style", "style_width"), _WIDE),
        **dict.fromkeys(("judge_width", "gate_width", "segmenter_width"), _WIDE),
        "segmenter_multiples": one_or_more(between(1, 1000)),
        "painter_multiples": one_or_more(between(1, 1000)),
        "painter_blocks": one_or_more(between(1, 100)),
        "painter_patch": between(1, 1000),
        **dict.fromkeys(("style_levels", "judge_levels", "judge_scales"), between(1, 16)),
        "judge_rate": more_than(0),
        **dict.fromkeys(("matching", "painter_perceptual", "style_kl", "gating"), at_least(0)),
        "attempts": between(1, 1000),
        "pairs": at_least(2),
    }

    also: tuple[str, ...] = ()
    """Further image keys, other modalities of the same place: each is painted, and the segmenter is told all."""
    tissues: int = 0
    """Tissues of a map; 0 = from the data."""
    labels: int = 0
    """Labels that are segmented; 0 = from the data."""
    image_channels: int = 0
    """Channels of an image; 0 = from the data."""
    soft: bool = True
    """Maps hold shares of every voxel; else one thing."""
    likeness: Literal["l1", "labels"] = "l1"
    """How reconstructed maps are judged: by the absolute error, which forgets rare labels at first; or as labels, by
    cross-entropy and soft Dice of a softmax."""
    painter_width: int = 64
    """Channels of the generator's finest level."""
    painter_multiples: tuple[int, ...] = (16, 16, 8, 4, 2, 1)
    """Width of its levels over `painter_width`, coarsest first."""
    painter_blocks: tuple[int, ...] = (1, 2, 1, 1, 1, 1)
    """Residual blocks of each."""
    painter_hidden: int = 128
    """Channels that a map becomes in each normalisation."""
    painter_patch: int = 1
    """Side of the blocks folded into the generator's channels."""
    style: int = 256
    """Numbers of a style."""
    style_width: int = 64
    """Channels of the style encoder's first convolution."""
    style_levels: int = 6
    """How often it halves the resolution."""
    judge_width: int = 64
    """Channels of the critics' first convolution."""
    judge_levels: int = 3
    """How often a critic halves the resolution."""
    judge_scales: int = 2
    """Critics, each at half the resolution of the one before."""
    judge_rate: float = 4.0
    """Learning rate of the critics over the generator's."""
    gate_width: int = 32
    """Channels of the gate's first convolution."""
    matching: float = 10.0
    """Factor of the distance in what the critics see."""
    painter_perceptual: float = 10.0
    """Factor of the distance in the features of a network (see `Perceptual`)."""
    style_kl: float = 0.05
    """Factor of the divergence of styles from the standard normal, summed over a style."""
    gating: float = 2.5
    """Factor of the gate's cross-entropy of the right modality."""
    attempts: int = 20
    """Styles tried for an image until the gate takes it for its modality."""
    discard: bool = False
    """Leave out a pair of which an image passed with no style."""
    pairs: int = 2000
    """Made pairs that the segmenter learns from."""
    segmenter_width: int = 32
    """Channels of the segmenter's first level."""
    segmenter_multiples: tuple[int, ...] = (1, 2, 4, 6)
    """Width of its levels over `segmenter_width`, as many as the size allows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        told = f"needs {len(self.painter_multiples)} numbers, one a level of --painter-multiples"
        require(len(self.painter_blocks) == len(self.painter_multiples), "painter_blocks", told)

    @property
    def given(self) -> tuple[str, ...]:
        """Image keys, one a modality."""
        return ("image", *self.also)

    @property
    def maps(self) -> Maps:
        """How label maps are made.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "tissues", "labels")
        return Maps(self.tissues, self.labels, self.soft)

    def read(self, facts: "Facts") -> dict[str, Any]:
        """What the data say: size, tissues, labels, channels of images and maps.

        Raises:
            UserError: images or masks are missing, or differ in size or channels; a size that the generator cannot
                halve.
        """
        size = one_size(facts, [*self.given, *(key for key in ("shares",) if key in facts.size)])
        labels = labels_to_learn(facts, "mask")
        for key in ("mask", *(key for key in ("tissue",) if key in facts.mask_size)):
            check_same_size("image", size, key, facts.mask_size[key])
        channels = {key: facts.channels[key] for key in self.given}
        if len(set(channels.values())) > 1:
            told = ", ".join(f"{key} has {count}" for key, count in channels.items())
            raise UserError(f"modalities need the same number of channels, and {told}")
        stride = self.painter_patch * 2 ** (len(self.painter_multiples) - 1)
        check_stride(size, stride, "--painter-multiples or --painter-patch")
        tissues = self.tissues or tissues_of(facts.channels, facts.mask_classes)
        return {
            "size": size,
            "labels": self.labels or labels,
            "tissues": tissues,
            "image_channels": self.image_channels or channels["image"],
            "channels": Maps(tissues, self.labels or labels).channels,
        }

    def painting(self) -> Painting:
        """A new generator, style encoder, critics and, of several modalities, gate.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "image_channels", "size")
        own: Any = self
        size, kinds, seen = own.size, len(self.given), self.image_channels
        painter = Painter(
            size,
            self.maps.channels,
            seen,
            self.style,
            self.painter_width,
            self.painter_multiples,
            self.painter_blocks,
            self.painter_hidden,
            self.painter_patch,
        )
        style = StyleEncoder(size, seen, self.style, self.style_width, self.style_levels, kinds)
        judged = seen + self.maps.channels
        critic = ScaledCritic(
            len(size), judged, self.judge_width, self.judge_levels, self.judge_scales
        )
        gate = Gate(len(size), seen, kinds, self.gate_width) if kinds > 1 else None
        weights = Weights(self.matching, self.painter_perceptual, self.style_kl, self.gating)
        return Painting(
            painter, style, critic, gate, self.given, self.maps, weights, self.judge_rate
        )

    def segmenter(self) -> Segmenter:
        """A new segmenter: a U-Net of all modalities."""
        own: Any = self
        network: nn.Module = direct_unet(
            len(own.size),
            self.image_channels * len(self.given),
            self.labels + 1,
            own.size,
            self.segmenter_width,
            self.segmenter_multiples,
            squash=False,
        )
        return Segmenter(network, self.given, self.labels)


def tissues_of(channels: Mapping[str, int], classes: Mapping[str, int]) -> int:
    """How many tissues the data tell, by image and mask key; one (the body) where they tell none."""
    if "shares" in channels:
        return max(channels["shares"] - 1, 1)
    return max(classes.get("tissue", 2) - 1, 1)
