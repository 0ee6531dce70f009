"""The fields of a recipe that say how its auto-encoder is built and trained."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F

from ...nn.autoencoder import AutoEncoder
from ...nn.critic import PatchCritic
from ..ranges import SHARE, Checked, Rule, at_least, between, more_than, one_or_more
from ..recipe import check_fitted
from .coding import Coding, Error, Perceptual

__all__ = ["CoderFields"]


@dataclass(frozen=True)
class CoderFields(Checked):
    """The first stage of a latent diffusion; a recipe inherits the fields, and has `channels` and `size`."""

    RULES: ClassVar[dict[str, Rule]] = {
        "codes": at_least(0),
        "latent_channels": at_least(1),
        "coder_width": between(1, 65535),
        "coder_multiples": one_or_more(between(1, 1000)),
        "coder_blocks": between(1, 100),
        "coder_patch": between(1, 1000),
        **dict.fromkeys(("kl", "perceptual", "adversarial", "adversarial_after"), at_least(0)),
        "critic_width": at_least(1),
        "critic_levels": at_least(1),
        "critic_rate": more_than(0),
        "codebook_decay": SHARE,
        "latent_scale": more_than(0),
    }

    CODER_TOO: ClassVar[tuple[str, ...]] = ()
    """Further fields of a recipe that its auto-encoder depends on."""

    codes: int = 0
    """Entries of the codebook; 0 = Gaussian codes."""
    codebook_decay: float = 0.99
    """Decay of the codebook's moving averages."""
    latent_channels: int = 3
    """Channels of a code."""
    coder_width: int = 64
    """Channels of the auto-encoder's first level."""
    coder_multiples: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each of its levels over `coder_width`; each but the first halves the resolution."""
    coder_blocks: int = 2
    """Its residual blocks a level."""
    coder_attends: bool = False
    """Its coarsest level attends."""
    coder_patch: int = 1
    """Side of the blocks folded into its channels."""
    coder_local: bool = False
    """Its norms are of each voxel's channels, so that a volume can be decoded in parts."""
    kl: float = 1e-8
    """Factor of the divergence of Gaussian codes from the standard normal, summed over a code."""
    perceptual: float = 0.002
    """Factor of the distance in features (see `Perceptual`)."""
    adversarial: float = 0.005
    """Factor of the patch critic's judgement."""
    adversarial_after: int = 1000
    """Steps of the first stage before the critic is heard."""
    critic_width: int = 64
    """Channels of the critic's first layer."""
    critic_levels: int = 3
    """How often the critic halves the resolution."""
    critic_rate: float = 2.0
    """Learning rate of the critic over that of the auto-encoder."""
    standardised: Literal["whole", "channels", "no"] = "whole"
    """Codes are brought to unit variance by one number, by a shift and a scale a channel, or left."""
    latent_shift: tuple[float, ...] = ()
    """What is taken from codes, of all channels or each; empty = from the data, after the first stage."""
    latent_scale: tuple[float, ...] = ()
    """What they are multiplied by then."""

    @property
    def of_shares(self) -> bool:
        """The channels of its images are shares of a whole (see `AutoEncoder`)."""
        return False

    @property
    def coder_error(self) -> Error:
        """How unlike a reconstruction is."""
        return F.l1_loss

    @property
    def coder_stride(self) -> int:
        """Voxels a place of the code."""
        return int(self.coder_patch * 2 ** (len(self.coder_multiples) - 1))

    def coder(self) -> AutoEncoder:
        """A new auto-encoder.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size")
        own: Any = self
        return AutoEncoder(
            len(own.size),
            own.channels,
            self.latent_channels,
            self.coder_width,
            self.coder_multiples,
            self.coder_blocks,
            self.codes,
            self.coder_attends,
            self.coder_patch,
            self.coder_local,
            self.codebook_decay,
            self.of_shares,
            own.recompute,
        )

    def first_objective(self, features: Perceptual | None = None) -> Coding:
        """The objective of the first stage.

        Args:
            features: the perceptual distance; None leaves it out.
        """
        own: Any = self
        critic = None
        if self.adversarial:
            with torch.random.fork_rng(
                devices=[]
            ):  # the auto-encoder's weights do not depend on it
                critic = PatchCritic(
                    len(own.size), own.channels, self.critic_width, self.critic_levels
                )
        return Coding(
            self.coder(),
            critic,
            features,
            self.coder_error,
            kl=1.0 if self.codes else self.kl,
            perceptual=self.perceptual,
            adversarial=self.adversarial,
            after=self.adversarial_after,
            critic_rate=self.critic_rate,
        )
