"""MFDPM (Moghadam et al. 2023): tiles of histology by their class, learned for their shapes and not their stain."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from ...diffusion.losses import Weight, p2
from ...errors import UserError
from ...papers import Paper, by_id
from ..parts import SamplerName, WeightName
from ..presets import SMALL, SMALL_CHAIN, TINY, TINY_CHAIN, averaged
from ..ranges import Rule, at_least, between, more_than, require
from ..task import Task
from .ddpm import DDPM
from .task import TILES

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["MFDPM"]

QUICK: dict[str, Any] = {
    "betas": "cosine",
    "learned_variance": False,
    "clipped": False,
    "filtered": True,
}
"""Training and sampling of the small presets: from the Wiener filter; the weight stays that of the method."""


@dataclass(frozen=True)
class MFDPM(DDPM):
    r"""Tiles are brought to one stain before anything is learned, and P2 weighs coarse content above fine detail.

    $L = E_t[w(t)\,\|\hat z - z\|^2]$, $w(t) = 1/(k + SNR(t))^\gamma$, $SNR = \alpha^2/\sigma^2$ of the training's
    schedule in float64 (Choi et al. 2022, equation 8); the bound that trains the variance has no such weight. The
    class enters beside the time through an embedding of its own; three resolutions attend; blocks that resample are
    residual, as in BigGAN.
    """

    paper: ClassVar[Paper] = by_id("mfdpm")
    task: ClassVar[Task] = TILES
    BEFORE: ClassVar[dict[str, Any]] = {}
    RULES: ClassVar[dict[str, Rule]] = {
        "k": more_than(0),
        "gamma": at_least(0),
        "stain_reference": between(-1, 20),
    }

    stain: Literal["macenko", "none"] = "macenko"
    """How tiles are brought to one stain before they are seen: Macenko et al. 2009, or not at all."""
    stain_reference: tuple[float, ...] = ()
    """That stain: vectors of haematoxylin and eosin, and the 99 % quantiles of their concentrations, eight numbers;
    empty = the median over the training tiles."""
    k: float = 1.0
    """P2: what is added to the signal-to-noise ratio."""
    gamma: float = 1.0
    """P2: the exponent; 0 = every noise level weighs the same."""
    conditional: bool = True
    label_drop: float = 0.0
    multiples: tuple[int, ...] = (1, 1, 2, 3, 4)
    blocks: int = 1
    attention: tuple[int, ...] = (2, 3, 4)
    dropout: float = 0.0
    learned_variance: bool = True
    loss: WeightName = "p2"
    sampler: SamplerName = "ddpm"

    def __post_init__(self) -> None:
        super().__post_init__()
        said = "takes eight numbers: two vectors of three, and two quantiles of more than 0"
        given = self.stain_reference
        require(not given or (len(given) == 8 and min(given[6:]) > 0), "stain_reference", said)

    def fitted(self, facts: "Facts") -> Self:
        """As `DDPM`.

        Raises:
            UserError: the tiles are not in the stain that the recipe asks for.
        """
        if self.stain == "none":
            return super().fitted(facts)
        if not facts.stain or self.stain_reference not in ((), facts.stain):
            raise UserError(
                "the tiles are not in the stain that mfdpm learns from: open them through "
                "radiffuse.data.stained.with_stain, or take --stain none"
            )
        return replace(super().fitted(facts), stain_reference=facts.stain)

    def weight(self) -> Weight:
        """P2 with the method's k and gamma."""
        return p2(self.k, self.gamma) if self.loss == "p2" else super().weight()

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        steps = 200_000
        paper = {
            "steps": steps,
            "batch": 8,
            "learning_rate": 2e-5,
            "warmup": 0,
            "clip": 0.0,
            "ema": averaged(0.9999, steps),
            "mirror": (),
        }
        return {**super().training(preset), **(paper if preset == "paper" else {})}

    @classmethod
    def small(cls) -> Self:
        return cls(
            **{**SMALL, "attention": (1, 2, 3)},
            **QUICK,
            **SMALL_CHAIN,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, **QUICK, **TINY_CHAIN)
