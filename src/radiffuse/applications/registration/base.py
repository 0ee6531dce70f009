"""What DiffuseMorph and DDM share: two networks, one that diffuses and one that deforms."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.schedule import Discrete
from ...errors import UserError
from ...nn import UNet
from ...nn.augment import Varied
from ...nn.field import FieldUNet
from ...nn.warp import folded, warp
from ..backbone import UNetFields
from ..ranges import SHARE, Rule, at_least, between, one_or_more, up_to
from ..recipe import Batch, check_fitted
from ..sizes import check_least, one_size
from ..task import Task
from .presets import SMALL, TINY, TRAINING
from .registering import Registering
from .task import REGISTRATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Deformable"]


@dataclass(frozen=True)
class Deformable(UNetFields):
    """Registration by a diffusion's latent: the fields that DiffuseMorph and DDM share."""

    task: ClassVar[Task] = REGISTRATION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("frames", "refine")
    """Fields that only prediction reads, so that they may be changed after training."""

    RULES: ClassVar[dict[str, Rule]] = {
        "timesteps": at_least(2),
        "beta_start": up_to(0.999),
        "beta_end": up_to(0.999),
        "encoder": one_or_more(at_least(1)),
        "decoder": one_or_more(at_least(1)),
        "convolutions": at_least(1),
        "coarse": at_least(1),
        "similarity": at_least(0),
        "smooth": at_least(0),
        "turns": between(0, 180),
        "clean": SHARE,
        "frames": at_least(2),
        "refine": between(0, 1000),
    }

    timesteps: int = 2000
    """Steps T of the diffusion."""
    beta_start: float = 1e-6
    """First beta."""
    beta_end: float = 1e-2
    """Last beta; between them they grow linearly."""
    width: int = 8
    """Channels of the diffusion network's first level."""
    multiples: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 1
    attention: tuple[int, ...] = (4,)
    encoder: tuple[int, ...] = (16, 32, 32, 32, 32)
    """Channels of the deformation network on the way down."""
    decoder: tuple[int, ...] = (32, 32, 32, 8, 8)
    """Its channels on the way up."""
    convolutions: int = 1
    """Convolutions at each of its levels."""
    coarse: int = 1
    """The deformation network makes its field on a grid this much coarser."""
    similarity: float = 20.0
    """Weight lambda of the registration loss (correlation and smoothness) beside the noise loss."""
    smooth: float = 1.0
    """Weight of the smoothness beside the correlation."""
    padding: str = "zeros"
    """What lies beyond the moving image: zeros or border."""
    diffeomorphic: bool = False
    """The deformation network gives a velocity; the field is its exponential, which hardly folds."""
    mirrored: bool = True
    """Mirror both images of a case alike, along axes drawn at random, in training."""
    turns: float = 0.0
    """Turn both alike by up to so many degrees in training."""
    swapped: bool = False
    """Half of the training cases change their roles, so that the motion is learned both ways."""
    clean: float = 0.0
    """Share of cases trained at the place of prediction: the clean fixed image at the first step."""
    anchored: bool = False
    """Subtract the field of a latent of 0, so that every path begins at the identity. The papers do not,
    and theirs may begin elsewhere."""
    frames: int = 7
    """Frames of the path, both ends included; as many as the data's `frames` where they have some."""
    refine: int = 0
    """Steps down the training loss of each pair at prediction, from the network's field; 0 = as trained. Some
    tens take a few tenths of a second a picture."""

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: an image is missing or in colour, they differ in size, or do not fit the
                networks.
        """
        size = self.size or one_size(facts, ("moving", "fixed"))
        for key in ("moving", "fixed"):
            if facts.channels[key] != 1:
                raise UserError(
                    f"{key} has {facts.channels[key]} channels; registration compares grey "
                    "images, convert it to one channel"
                )
        if self.padding not in ("zeros", "border"):
            raise UserError("--padding must be zeros or border")
        filled = dataclasses.replace(self, size=size)
        stride = max(filled.stride, filled.coarse * 2 ** (len(filled.encoder) - 1))
        flags = "--multiples, --patch, --encoder, --decoder or --coarse"
        check_least(size, [stride] * len(size), flags)
        return filled

    def objective(self) -> Registering:
        """Two new networks and their loss.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "size")
        axes = len(self.size)
        score = UNet(axes, 1, self.width, **self.unet_shape(), condition=2)
        betas = torch.linspace(self.beta_start, self.beta_end, self.timesteps).double()
        return Registering(
            score,
            FieldUNet(axes, 2, self.encoder, self.decoder, self.convolutions, self.coarse),
            Discrete(betas),
            similarity=self.similarity,
            smooth=self.smooth,
            padding=self.padding,
            diffeomorphic=self.diffeomorphic,
            varied=self.varied(),
            clean=self.clean,
            anchored=self.anchored,
        )

    def varied(self) -> Varied:
        """How training pairs vary."""
        return Varied(self.swapped, self.mirrored, self.turns)

    @torch.no_grad()
    def predict(self, objective: Registering, batch: Batch) -> Batch:
        """One pass at the first step; the latent scaled from 0 to 1 gives the path.

        Args:
            batch: "moving", "fixed" (B, 1, *S) in [-1, 1].

        Returns:
            {"warped": (B, 1, *S) in [-1, 1], "displacement": (B, n, *S) in voxels, "path":
            (B, frames, *S) from the moving image to the warped one, "folded": (B,)}.
        """
        moving, fixed = batch["moving"], batch["fixed"]
        frames = batch["frames"].shape[1] if "frames" in batch else self.frames
        path = []
        field = torch.empty(0)
        for field in objective.path(moving, fixed, torch.linspace(0, 1, frames), self.refine):
            path.append(self.warped(moving, field))
        return {
            "warped": path[-1],
            "displacement": field,
            "path": torch.cat(path, dim=1),
            "folded": folded(field),
        }

    @torch.no_grad()
    def register(self, objective: Registering, moving: Tensor, fixed: Tensor) -> Tensor:
        """The displacement (B, n, *S) alone: one pass of each network, and `refine` steps."""
        return next(objective.path(moving, fixed, torch.ones(1), self.refine))

    @torch.no_grad()
    def steps_alone(self, objective: Registering, moving: Tensor, fixed: Tensor) -> Tensor:
        """The displacement of the `refine` steps without the networks: from the identity."""
        rest = moving.new_zeros(len(moving), moving.ndim - 2, *moving.shape[2:])
        return objective.displacement(objective.change(moving, fixed, rest, self.refine))

    def warped(self, image: Tensor, field: Tensor) -> Tensor:
        """An image in [-1, 1] through a field; what lies beyond it is `padding`."""
        return 2 * warp((image + 1) / 2, field, padding=self.padding) - 1

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)
