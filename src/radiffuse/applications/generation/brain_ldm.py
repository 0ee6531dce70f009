"""Brain LDM (Pinaya et al. 2022): volumes from a latent diffusion told age, sex and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ...errors import UserError
from ...papers import Paper, by_id
from . import coded_presets as presets
from .told_codes import ToldCodes

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["BrainLDM"]


@dataclass(frozen=True)
class BrainLDM(ToldCodes):
    """Diffusion in the codes of a volume's auto-encoder, told numbers by channels and by cross-attention.

    Every column of numbers that the data map is a covariate (age, sex, volumes); without any the model is told nothing.
    """

    paper: ClassVar[Paper] = by_id("brain-ldm")
    FIRST: ClassVar[Mapping[str, dict[str, Any]]] = presets.FIRST
    SECOND: ClassVar[Mapping[str, dict[str, Any]]] = presets.SECOND

    width: int = 256
    multiples: tuple[int, ...] = (1, 2, 3)
    attention: tuple[int, ...] = (1, 2)
    dropout: float = 0.0
    kl: float = 2e-8
    adversarial: float = 0.01
    adversarial_after: int = 158_700
    critic_width: int = 96

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: a covariate that is named is missing, or the same in every case; a size that
                cannot be halved so often.
        """
        filled = super().fitted(facts).unfilled()
        names = self.names or tuple(facts.scalars)
        for name in names:
            if name not in facts.scalars:
                there = ", ".join(facts.scalars) or "none"
                raise UserError(f"--names {name}: the data have no such numbers; there are {there}")
            low, high = facts.scalars[name][0], facts.scalars[name][-1]
            if low == high:
                raise UserError(
                    f"covariate {name!r} is {low:g} in every training case; leave it out of --map"
                )
        order = [tuple(facts.scalars).index(name) for name in names]
        rows = facts.scalar_correlation
        return replace(
            filled,
            names=names,
            quantiles=tuple(facts.scalars[name] for name in names),
            correlation=tuple(tuple(rows[i][j] for j in order) for i in order),
        )

    @classmethod
    def small(cls) -> Self:
        return cls(
            **presets.SMALL,
            coder_width=16,
            coder_multiples=(1, 2),
            critic_width=16,
            width=48,
            multiples=(1, 2),
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            **{
                **presets.SMALL,
                "steps": 5,
                "adversarial_after": 2,
                "critic_levels": 1,
                "perceptual": 0.0,
            },
            coder_width=8,
            coder_multiples=(1, 2),
            critic_width=8,
            width=16,
            multiples=(1, 1),
        )
