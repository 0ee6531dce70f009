"""3D-DDPM (Dorjsembe et al. 2022): whole volumes denoised at once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from ...diffusion.network import Network
from ...papers import Paper, by_id
from ...training.objective import Absolute, Denoising
from ..parts import SamplerName
from ..presets import PRECONDITIONED, SMALL, SMALL_CHAIN, TINY, TINY_CHAIN, averaged
from ..ranges import require
from ..recipe import image_key
from ..sizes import check_volumes
from .ddpm import DDPM

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DDPM3D"]

QUICK: dict[str, Any] = {
    "clipped": False,
    **PRECONDITIONED,
    "filtered": True,
}
"""Training and sampling of the small presets: from the Wiener filter, not through the middle of the noise."""


@dataclass(frozen=True)
class DDPM3D(DDPM):
    """A 3-D network denoises whole volumes: no slices, no latents, 250 steps, the noise's absolute error.

    Every convolution, and attention where a side is 16 voxels, runs over all three axes. What the
    published paper leaves open is as in the code its authors released later (Med-DDPM).
    """

    paper: ClassVar[Paper] = by_id("ddpm-3d")
    BEFORE: ClassVar[dict[str, Any]] = {}

    width: int = 64
    multiples: tuple[int, ...] = (1, 1, 2, 3, 4)
    blocks: int = 1
    dropout: float = 0.0
    sampler: SamplerName = "ddpm"
    betas: Literal["linear", "scaled-linear", "cosine", "sigmoid"] = "cosine"
    timesteps: int = 250
    steps: int = 250
    error: Literal["absolute", "squared"] = "absolute"
    """What the loss takes of the noise's error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = "is learned beside a squared error: take --error squared"
        require(not self.learned_variance or self.error == "squared", "learned_variance", said)

    def fitted(self, facts: "Facts") -> Self:
        """As `DDPM`.

        Raises:
            UserError: the images are no volumes, or have sides that the network cannot halve.
        """
        check_volumes(self.paper.id, facts.size[image_key(facts)])
        return super().fitted(facts)

    def denoising(self, network: Network) -> Denoising:
        if self.error == "squared":
            return super().denoising(network)
        return Absolute(network, self.times(network.schedule), self.weight(), self.label_drop)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        options = super().training(preset)
        steps = 100_000
        paper = {
            "steps": steps,
            "batch": 2,
            "accumulate": 2,
            "learning_rate": 1e-5,
            "warmup": 0,
            "clip": 0.0,
            # an average with 0.995 of every tenth step
            "ema": averaged(0.995**0.1, steps),
            "mirror": (),
        }
        # volumes of a CPU: many steps of few, in fp32, whose 3-D convolutions are faster there than those of bf16
        small = {"batch": 4, "warmup": 100, "precision": "fp32"}
        return {**options, **{"paper": paper, "small": small}.get(preset, {})}

    @classmethod
    def small(cls) -> Self:
        return cls(
            **{**SMALL, "multiples": (1, 2, 4), "attention": (2,)},
            **QUICK,
            **SMALL_CHAIN,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, **QUICK, **TINY_CHAIN)
