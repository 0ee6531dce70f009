"""brainSPADE (Fernandez et al. 2022): a segmenter that learns from nothing but made label maps and made images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.label_maps import likeliest
from ...diffusion.sample import last
from ...errors import UserError
from ...papers import Paper, by_id
from ..generation.told_codes import ToldCodes
from ..latent.coding import Error
from ..latent.covariates import settings_of
from ..recipe import Batch
from ..sizes import check_stride
from ..task import Task
from .synthetic.fields import PainterFields
from .synthetic.maps import as_images, likeness
from .synthetic.painting import Styled
from .synthetic.pairs import PASSED, kept, made
from .synthetic.presets import SMALL, TINY, TRAINING
from .synthetic.stages import IMAGES, SEGMENTER, Stages
from .synthetic.task import SYNTHETIC

if TYPE_CHECKING:
    from ...data.dataset import Cases, Facts

__all__ = ["BrainSPADE"]


@dataclass(frozen=True)
class BrainSPADE(PainterFields, ToldCodes):
    """A segmenter that learns from made pairs alone: soft label maps of a latent diffusion told which labels are
    there and where the slice lies, images painted on them by SPADE in the style of others, a gate of the modality.

    `channels` and `size` are those of maps. The diffusion is told a flag of each label (label_1 ...), and every number
    that the data map, as the position of the slice.
    """

    paper: ClassVar[Paper] = by_id("brainspade")
    FIRST: ClassVar[Mapping[str, dict[str, Any]]] = TRAINING["first"]
    SECOND: ClassVar[Mapping[str, dict[str, Any]]] = TRAINING["train"]
    task: ClassVar[Task] = SYNTHETIC
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*ToldCodes.AFTER_TRAINING, "attempts")
    CODER_TOO: ClassVar[tuple[str, ...]] = ("likeness",)
    LATER: ClassVar[tuple[str, ...]] = (IMAGES, SEGMENTER)

    width: int = 256
    multiples: tuple[int, ...] = (1, 2, 3, 4)
    attention: tuple[int, ...] = (1, 2, 3)
    dropout: float = 0.0
    coder_multiples: tuple[int, ...] = (1, 2, 4)
    coder_attends: bool = True
    kl: float = 2e-6
    adversarial: float = 0.01
    adversarial_after: int = 0
    beta_last: float = 0.0195
    eta: float = 1.0

    @classmethod
    def later_training(cls, stage: str, preset: str) -> dict[str, Any]:
        """Options of a stage after these."""
        return dict(TRAINING[stage][preset])

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: see `PainterFields.read`; a size that cannot be halved so often.
        """
        read = self.read(facts)
        filled = replace(self, **read).filled(facts, **{k: read[k] for k in ("channels", "size")})
        filled = filled.fitting().unfilled()
        flags = tuple(f"label_{k}" for k in range(1, filled.labels + 1))
        names = (*flags, *facts.scalars)
        correlation = torch.eye(len(names))
        if facts.scalars:
            correlation[len(flags) :, len(flags) :] = torch.tensor(facts.scalar_correlation)
        return replace(
            filled,
            names=names,
            quantiles=(*((0.0, 1.0),) * len(flags), *facts.scalars.values()),
            correlation=tuple(
                tuple(float(f"{v:.6g}") for v in row) for row in correlation.tolist()
            ),
        )

    # --- what each stage learns from --------------------------------------------------------------

    def coded(self, cases: "Cases") -> "Cases":
        """What auto-encoder and diffusion learn from: maps as "image", their flags, and the numbers of the data."""
        return as_images(cases, self.maps, self.names[: self.labels], self.names[self.labels :])

    @property
    def of_shares(self) -> bool:
        return self.likeness == "labels"

    @property
    def coder_error(self) -> Error:
        return likeness if self.of_shares else super().coder_error

    def objective(self) -> Stages:
        return Stages(*self.second(), painting=self.painting(), segmenter=self.segmenter())

    def later_data(
        self,
        stage: str,
        objective: Stages,
        cases: "Cases",
        folder: Path,
        seed: int,
        progress: Callable[[float], None],
    ) -> Any:
        """What a later stage learns from: images with their styles, or made pairs, which `folder` keeps."""
        if stage == IMAGES:
            return Styled(cases, self.given)

        def draw(batch: Batch) -> Batch:
            return self.drawn(objective, batch)

        path = folder / "pairs.safetensors"
        return kept(path, lambda: made(draw, self.pairs, seed, self.discard, progress=progress))

    # --- what is made --------------------------------------------------------------------------------

    def values(self, seeds: Tensor) -> Tensor:
        """Flags and numbers (B, V) of made maps: those asked for, the rest drawn; a flag is on in half of them."""
        found = self.law.drawn(seeds, settings_of(self.covariates, self.names))
        found[:, : self.labels] = found[:, : self.labels].round()
        return found

    def drawn_maps(self, objective: Stages, batch: Batch) -> Tensor:
        """Soft label maps (B, K, *S); `batch` as in `drawn`."""
        return self.maps.drawn(self.decoded(objective, last(self.chain(objective, batch))))

    @torch.no_grad()
    def drawn(self, objective: Stages, batch: Batch) -> Batch:
        """Pairs from seeds.

        Args:
            batch: "seed" int64 (B,), and "covariates" (B, V) where flags and numbers are not to be drawn.

        Returns:
            An image (B, C, *S) in [-1, 1] of each modality by its key, "mask" int64 (B, 1, *S), and "passed" (B,),
            whether the gate took every image for its modality.
        """
        maps, seeds = self.drawn_maps(objective, batch), batch["seed"].tolist()
        found: Batch = {"mask": self.maps.mask(maps)}
        passed = torch.ones(len(maps), dtype=torch.bool)
        for kind, key in enumerate(self.given):
            found[key], fine = objective.painting.paint(maps, kind, seeds, self.attempts)
            passed &= fine
        return {**found, PASSED: passed}

    def predict(self, objective: Stages, batch: Batch) -> Batch:
        """The segmenter's answer.

        Args:
            batch: "image" and the other modalities.

        Returns:
            "mask" int64 (B, 1, *S); "probability" and "expected" (B, L, *S), the same.

        Raises:
            UserError: a modality is missing, or sides that the segmenter cannot halve.
        """
        if missing := [key for key in self.given if key not in batch]:
            raise UserError(f"the model is told {', '.join(self.given)}; --map {missing[0]}=COLUMN")
        network: Any = objective.segmenter.players["network"]
        check_stride(batch["image"].shape[2:], network.stride, "--size in training")
        found = objective.segmenter.predict(batch)
        return {"mask": likeliest(found), "probability": found, "expected": found}

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)
