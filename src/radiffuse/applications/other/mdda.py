"""MDDA (Wang et al. 2023): an attacked image is cleaned at several scales, and no network is learned for it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.noise import Seeded, derive
from ...nn.resnet import ResNet
from ...papers import Paper, by_id
from ..classification.baselines import PlainClassifier, ResNetClassifier
from ..ranges import Checked, Rule, at_least, between, one_of, one_or_more, require
from ..recipe import Batch, check_fitted, classes_of, image_key
from ..sizes import check_shape
from ..task import Task
from .purification.attacks import Defence, OfUnit
from .purification.choosing import attacked, best
from .purification.multiscale import purified
from .purification.presets import SMALL, TINY, TRAINING
from .purification.task import PURIFICATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["MDDA"]

Batches = Iterable[Batch]


@dataclass(frozen=True)
class MDDA(Checked):
    """Small noise and a little total-variation denoising, again and again, in a pyramid whose scales are averaged.

    Nothing of it is learned: what `train` trains is the classifier behind it, a plain ResNet that knows of no attack.
    The paper's constants are not known; the defaults are ours. `strength` multiplies the noise and the weight of the
    total variation, and is chosen on validation images at the end of `train`.
    """

    paper: ClassVar[Paper] = by_id("mdda")
    task: ClassVar[Task] = PURIFICATION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *("scales", "repeats", "sigma", "tv_weight", "tv_iterations", "aggregation", "smooth"),
        *("strength", "eps", "attack_steps", "draws"),
    )
    CALIBRATED: ClassVar[tuple[str, ...]] = ("strength",)
    CALIBRATED_BY: ClassVar[int] = 128
    CALIBRATION: ClassVar[str] = "strength of the purification"
    STRENGTHS: ClassVar[tuple[float, ...]] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
    """Those that are tried, as many as of everything that it is compared with."""

    RULES: ClassVar[dict[str, Rule]] = {
        **dict.fromkeys(("channels", "size", "classes"), at_least(0)),
        "width": at_least(1),
        "stem": one_of(1, 2, 4),
        "blocks": one_or_more(at_least(1)),
        "turn": between(0, 180),
        "scales": one_or_more(between(0.01, 4)),
        "repeats": between(1, 1000),
        "sigma": at_least(0),
        "tv_weight": at_least(0),
        "tv_iterations": at_least(1),
        "aggregation": at_least(0),
        "smooth": at_least(0),
        "strength": at_least(0),
        "eps": between(0, 255),
        "attack_steps": between(1, 10_000),
        "draws": between(1, 10_000),
    }

    channels: int = 0
    """Channels of the image; 0 = from the data."""
    size: tuple[int, ...] = ()
    """Spatial size; empty = from the data."""
    classes: int = 0
    """Number of classes; 0 = from the data."""
    width: int = 64
    """Channels of the classifier's first stage."""
    stem: int = 4
    """Factor by which its first layer shrinks the image: 1, 2 or 4."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks of each stage (ResNet-18)."""
    turn: float = 30.0
    """Largest random rotation in training, degrees."""
    flip: bool = True
    """Mirror half of the images in training."""
    scales: tuple[float, ...] = (2.0, 1.0, 0.5, 0.25)
    """Copies of the image over its own size, the finest first."""
    repeats: int = 3
    """N, blocks of noise, denoising and aggregation in sequence."""
    sigma: float = 0.03
    """Deviation of the noise of each block, of images in [0, 1]."""
    tv_weight: float = 0.05
    """Weight of the total variation in each block."""
    tv_iterations: int = 30
    """Iterations of its minimisation."""
    aggregation: tuple[float, ...] = (0.25, 0.5, 0.25)
    """Weights of the finer neighbour, the scale itself and the coarser one."""
    smooth: float = 0.5
    """Deviation of the last smoothing in pixels."""
    strength: float = 1.0
    """Factor of `sigma` and `tv_weight`; chosen on validation images."""
    eps: float = 8.0
    """What an attacker may change a value by, in 255ths: on validation images, and in `evaluate`."""
    attack_steps: int = 20
    """Steps of the attacks that take several."""
    draws: int = 4
    """Draws of the defence in each step of the attacker who knows it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        falling = all(a > b for a, b in zip(self.scales, self.scales[1:], strict=False))
        require(falling, "scales", f"must fall from the finest on, not {self.scales}")
        three = len(self.aggregation) == 3 and self.aggregation[1] > 0
        said = f"needs three weights, the second above 0, not {self.aggregation}"
        require(three, "aggregation", said)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop, which trains the classifier, that go with a preset."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: no image, no labels, or one class only.
        """
        key = image_key(facts, "image")
        classes = classes_of(facts, self.classes, "purification stands before a classifier of")
        channels = self.channels or facts.channels[key]
        return replace(
            self, channels=channels, size=self.size or tuple(facts.size[key]), classes=classes
        )

    def objective(self) -> PlainClassifier:
        """The classifier behind the defence, by cross-entropy.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size", "classes")
        shape = (self.width, self.blocks, False, self.stem)
        body = ResNet(len(self.size), self.channels, *shape)
        return PlainClassifier(ResNetClassifier(body, self.classes), self.turn, self.flip)

    def purified(self, x: Tensor, seeds: Iterable[int]) -> Tensor:
        """Images (B, C, *S) in [0, 1] without what was added to them, from a seed of each.

        Raises:
            UserError: images outside [0, 1].
        """
        return purified(self, x, Seeded(derive(seed, "purify") for seed in seeds))

    @torch.no_grad()
    def predict(self, objective: PlainClassifier, batch: Batch) -> Batch:
        """The purified image and its class.

        Args:
            batch: "image" (B, C, *S) in [-1, 1] and "seed" int64 (B,).

        Returns:
            "purified" (B, C, *S) in [-1, 1]; "probability" (B, classes) and "label" int64 (B,) of it.

        Raises:
            UserError: images of another shape than those of training, or outside [-1, 1].
        """
        image = batch["image"]
        check_shape(image, self.channels, self.size)
        made = self.purified((image + 1) / 2, [int(seed) for seed in batch["seed"]]) * 2 - 1
        probability = objective.predict(made)
        return {"purified": made, "probability": probability, "label": probability.argmax(1)}

    def calibrated(self, objective: PlainClassifier, batches: Batches) -> Self:
        """This recipe with the strength of `STRENGTHS` that is best on these images, clean and under PGD.

        Args:
            objective: trained.
            batches: "image" (B, C, *S), "label" (B,) and "seed" (B,) of images that nothing is trained on or measured
                by.

        Returns:
            With that of the highest mean of two balanced accuracies, of clean and of attacked images; of equal ones the
            weakest.
        """
        logits = OfUnit(objective.players["network"])
        seen = attacked(logits, batches, self.eps / 255, self.attack_steps)

        def with_strength(strength: float) -> Defence:
            return replace(self, strength=strength).purified

        return replace(
            self, strength=best(self.STRENGTHS, with_strength, logits, seen, self.classes)
        )

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)
