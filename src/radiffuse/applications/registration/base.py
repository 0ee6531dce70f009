"""What DiffuseMorph and DDM share: two networks, one that diffuses and one that deforms."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...diffusion.kernels import diffuse
from ...diffusion.losses import Times, discrete_times
from ...diffusion.network import Network, elapsed
from ...diffusion.noise import gaussian
from ...diffusion.parametrization import NOISE
from ...diffusion.schedule import Discrete, expand
from ...errors import UserError
from ...nn import UNet
from ...nn.augment import UNVARIED, Varied
from ...nn.field import FieldUNet
from ...nn.warp import exponential, folded, warp
from ..backbone import NETWORK, check_attention
from ..conditional import one_size
from ..parts import check_stride
from ..ranges import SHARE, Checked, Rule, at_least, between, one_or_more, up_to
from ..recipe import Batch
from ..task import Task
from .losses import misfit
from .task import REGISTRATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Deformable", "Registering"]


class Registering:
    r"""Noise loss and registration loss of two networks, trained as one.

    $L = \mathrm{mean}(\varepsilon - s)^2 + \lambda\,(\text{misfit of } \varphi)$ with the latent
    $s = G(m, f, x_t, t)$, $x_t$ a noisy fixed image, and the field $\varphi = M(m, s)$. The gradient of the
    misfit goes through s into G. Where `clean` is above zero, that share of the cases is shown what
    prediction will show, x_t = f at the first step, and has no noise to estimate.

    Args:
        score: G, the player "score".
        field: M, the player "field".
        schedule: of the noise.
        similarity: lambda.
        smooth: weight of the smoothness in the misfit.
        padding: of the warp, "border" or "zeros".
        diffeomorphic: M gives a velocity, the field is its exponential.
        varied: how training pairs vary.
        clean: share of cases trained at the place of prediction.
        anchored: the field is M(m, s) - M(m, 0), so that a latent of 0 moves nothing.
    """

    def __init__(
        self,
        score: nn.Module,
        field: nn.Module,
        schedule: Discrete,
        *,
        similarity: float,
        smooth: float = 1.0,
        padding: str = "border",
        diffeomorphic: bool = False,
        varied: Varied = UNVARIED,
        clean: float = 0.0,
        anchored: bool = False,
    ) -> None:
        self.players: dict[str, nn.Module] = {"score": score, "field": field}
        self.schedule, self.similarity, self.smooth = schedule, similarity, smooth
        self.padding, self.diffeomorphic, self.varied = padding, diffeomorphic, varied
        self.clean, self.anchored = clean, anchored
        self.times: Times = discrete_times(schedule)

    def losses(self, batch: Batch) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        moving, fixed = self.varied(batch["moving"], batch["fixed"])
        t, z = self.times(len(fixed)), gaussian(fixed)
        noisy = torch.rand(len(fixed)) >= self.clean
        t = torch.where(noisy, t, torch.full_like(t, 1 / self.schedule.steps))
        shown = expand(noisy.to(fixed.device), fixed)
        x_t = torch.where(shown, diffuse(self.schedule, fixed, t, z), fixed)
        s = self.latent(moving, fixed, x_t, t)
        error = torch.where(shown, s - z, torch.zeros_like(z)).square().mean()
        against = misfit(moving, fixed, self.field(moving, s), self.smooth, padding=self.padding)
        yield ("score", "field"), error + self.similarity * against.mean()

    def network(self) -> Network:
        """G as a denoiser of the fixed image; its condition is the pair."""
        return Network(self.players["score"], self.schedule, NOISE, clock=elapsed)

    def latent(self, moving: Tensor, fixed: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """s, the estimate of the noise in x_t, (B, C, *S); t () or (B,)."""
        return self.network().raw(x_t, t, image=torch.cat([moving, fixed], dim=1)).float()

    def field(self, moving: Tensor, latent: Tensor) -> Tensor:
        """The displacement (B, n, *S) in voxels that a latent stands for."""
        told = torch.cat([moving, latent], dim=1)
        if self.anchored:
            none = torch.cat([moving, torch.zeros_like(latent)], dim=1)
            out, at_rest = self.players["field"](torch.cat([told, none])).float().chunk(2)
            out = out - at_rest
        else:
            out = self.players["field"](told).float()
        return exponential(out) if self.diffeomorphic else out

    def path(self, moving: Tensor, fixed: Tensor, scales: Tensor) -> Iterator[Tensor]:
        """The field at each scale of the latent: s from the clean fixed image at the first step."""
        s = self.latent(moving, fixed, fixed, torch.tensor(1 / self.schedule.steps))
        for scale in scales.tolist():
            yield self.field(moving, scale * s)


TRAINING: dict[str, dict[str, Any]] = {
    "paper": {"batch": 1, "learning_rate": 2e-4, "betas": (0.5, 0.999), "warmup": 0, "clip": 0.0},
    "small": {
        "batch": 16,
        "learning_rate": 1e-3,
        "warmup": 100,
        "cooldown": 0.3,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 35.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "warmup": 10, "steps": 100},
}

SMALL: dict[str, Any] = {
    "width": 32,
    "multiples": (1, 2, 4),
    "attention": (2,),
    "patch": 4,
    "encoder": (32, 32, 48, 48),
    "decoder": (48, 48, 32, 32),
    "convolutions": 1,
    "coarse": 2,
    "similarity": 10.0,
    "padding": "border",
    "clean": 0.5,
    "anchored": True,
    "turns": 30.0,
    "swapped": True,
}
"""Useful after half an hour on two CPU cores. Half of the cases are trained at the place of prediction,
which the noisy ones alone reach only after many more steps."""
TINY: dict[str, Any] = {
    **{"timesteps": 200, "beta_start": 1e-5, "beta_end": 0.1},
    **{"width": 16, "multiples": (1, 2), "attention": (), "patch": 2},
    **{
        "encoder": (8, 16, 16),
        "decoder": (16, 16, 8),
        "convolutions": 1,
        "frames": 3,
        "anchored": True,
    },
}


@dataclass(frozen=True)
class Deformable(Checked):
    """Registration by a diffusion's latent: the fields that DiffuseMorph and DDM share."""

    task: ClassVar[Task] = REGISTRATION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("frames",)
    """Fields that only prediction reads, so that they may be changed after training."""

    RULES: ClassVar[dict[str, Rule]] = {
        **NETWORK,
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
    }

    size: tuple[int, ...] = ()
    """Spatial size of both images; empty = from the data."""
    timesteps: int = 2000
    """Steps T of the diffusion."""
    beta_start: float = 1e-6
    """First beta."""
    beta_end: float = 1e-2
    """Last beta; between them they grow linearly."""
    width: int = 8
    """Channels of the diffusion network's first level."""
    multiples: tuple[int, ...] = (1, 2, 4, 4)
    """Width of each level over `width`; each level halves the resolution."""
    blocks: int = 1
    """Residual blocks a level."""
    attention: tuple[int, ...] = (3,)
    """Levels that attend, 0 = finest."""
    patch: int = 1
    """Side of the blocks folded into channels at the diffusion network's input."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attention(self.attention, self.multiples)

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
        unet = filled.patch * 2 ** (len(filled.multiples) - 1)
        stride = math.lcm(unet, filled.coarse * 2 ** (len(filled.encoder) - 1))
        check_stride(size, stride, "--multiples, --patch, --encoder, --decoder or --coarse")
        return filled

    def objective(self) -> Registering:
        """Two new networks and their loss.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        if not self.size:
            raise UserError("the size is not set; fit the recipe to data first")
        axes = len(self.size)
        score = UNet(
            axes, 1, self.width, self.multiples, self.blocks, self.attention, self.patch,
            condition=2,
        )  # fmt: skip
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
        for field in objective.path(moving, fixed, torch.linspace(0, 1, frames)):
            path.append(self.warped(moving, field))
        return {
            "warped": path[-1],
            "displacement": field,
            "path": torch.cat(path, dim=1),
            "folded": folded(field),
        }

    @torch.no_grad()
    def register(self, objective: Registering, moving: Tensor, fixed: Tensor) -> Tensor:
        """The displacement (B, n, *S) alone: one pass of each network."""
        return next(objective.path(moving, fixed, torch.ones(1)))

    def warped(self, image: Tensor, field: Tensor) -> Tensor:
        """An image in [-1, 1] through a field; what lies beyond it is `padding`."""
        return 2 * warp((image + 1) / 2, field, padding=self.padding) - 1
