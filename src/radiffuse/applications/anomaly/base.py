"""What the recipes of anomaly detection share: a chain of T steps, a counterpart, a map, a score."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...diffusion.network import Network
from ...diffusion.schedule import Discrete
from ...errors import UserError
from ...metrics.detection import otsu, top_mean
from ...training.objective import Objective, device_of
from ..backbone import Backbone
from ..parts import PredictsName, WeightName, check_timesteps, network_of, weight_named
from ..presets import PRECONDITIONED, SMALL, TINY, TRAINING
from ..ranges import Rule, at_least, inside, up_to
from ..recipe import Batch, image_key
from ..sizes import check_shape
from ..task import Task
from .healthy import healthy_class, labels_like
from .task import ANOMALY, is_healthy

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = [
    "SMALL_FIELDS",
    "TINY_FIELDS",
    "Anomaly",
    "classes_in",
    "healthy_only",
    "wanted",
]

WOLLEB: dict[str, Any] = {
    **{"steps": 50_000, "batch": 10, "learning_rate": 1e-4, "warmup": 0, "clip": 0.0},
    **{"betas": (0.9, 0.999), "ema": (0.0,)},
}
"""The loop of Wolleb et al. 2022 (`diffusion-anomaly`): a constant rate, no clipping, the last weights."""

SCHEDULES = {
    "linear": Discrete.linear,
    "cosine": Discrete.cosine,
    "scaled-linear": Discrete.scaled_linear,
}


@dataclass(frozen=True)
class Anomaly(Backbone, ABC):
    """Detection by the difference from a healthy counterpart; a recipe says how that is made."""

    task: ClassVar[Task] = ANOMALY
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *("depth", "steps", "top"),
        *("threshold", "level", "rate"),
    )
    """Fields that only prediction reads, so that they may be changed after training."""
    RULES: ClassVar[dict[str, Rule]] = {
        "healthy": at_least(-1),
        "timesteps": at_least(2),
        "depth": up_to(1),
        "steps": at_least(1),
        "level": at_least(0),
        "rate": inside(0, 1),
        "top": up_to(1),
    }

    healthy: int = -1
    """The label of healthy images (where masks are given, an empty mask is healthy); -1 = that of the class that is
    called healthy, normal, control ..., and 0 where classes have no names."""
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level over `width`; each level halves the resolution."""
    attention: tuple[int, ...] = (4, 6)
    """Levels that attend, 0 = finest, the middle with the coarsest; one more than the coarsest = the middle."""
    betas: Literal["linear", "cosine", "scaled-linear"] = "linear"
    """The list of betas."""
    timesteps: int = 1000
    """Number of betas, T."""
    predicts: PredictsName = "noise"
    """What the network outputs."""
    loss: WeightName = "simple"
    """The loss weight."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    depth: float = 0.5
    """How far up the chain an image is taken, as a share of T."""
    steps: int = 500
    """Steps between the image and there."""
    threshold: Literal["fixed", "otsu", "healthy"] = "otsu"
    """Where the mask begins: at `level`, where Otsu's method splits the map of the image, or where the
    maps of healthy cases end (`rate`), which `radiffuse evaluate` measures."""
    level: float = 0.5
    """The fixed threshold of the map."""
    rate: float = 0.005
    """Share of healthy voxels above the threshold `healthy`: its false-positive rate."""
    top: float = 0.05
    """The score is the mean over this share of the map's highest values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps(self.betas, self.timesteps)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(WOLLEB if preset == "paper" else TRAINING.get(preset, {}))

    def schedule(self) -> Discrete:
        """The noise schedule."""
        return SCHEDULES[self.betas](self.timesteps)

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: there are no images, their size does not fit, or no class is `healthy`, or it is not said
                which one is.
        """
        key = image_key(facts, "image")
        healthy = self._healthy_in(facts)
        if facts.classes and not healthy < facts.classes:
            raise UserError(
                f"--healthy {healthy}: labels run from 0 to {facts.classes - 1} in these data"
            )
        size = facts.size[key]
        return self.filled(facts, facts.channels[key], size, healthy=healthy).fitting()

    def _healthy_in(self, facts: "Facts") -> int:
        """The label of healthy images; where no class is called so and masks are given, an empty mask says it."""
        if self.healthy >= 0:
            return self.healthy
        try:
            return healthy_class(facts.class_names)
        except UserError:
            if "mask" not in facts.mask_classes:
                raise
            return 0

    def labels_like(self, strange: Sequence[str], names: Sequence[str]) -> dict[str, int]:
        """Labels of classes that the training did not have, see `healthy.labels_like`."""
        return labels_like(strange, names, max(self.healthy, 0))

    def suitable(self, batch: Batch) -> Tensor:
        """Which cases `(B,)` to train on; a method of healthy images overrides this."""
        return torch.ones(len(batch["image"]), dtype=torch.bool)

    def network_around(self, backbone: torch.nn.Module) -> Network:
        """The denoiser that a backbone makes."""
        return network_of(
            backbone, self.schedule(), self.predicts, self.data_std, self.preconditioned
        )

    def weight(self) -> Any:
        """The loss weight."""
        return weight_named(self.loss, self.data_std)

    @abstractmethod
    def objective(self) -> Objective:
        """What is trained."""

    @abstractmethod
    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        """The healthy counterpart of batch["image"], (B, C, *S)."""

    def residual(self, image: Tensor, healthy: Tensor) -> Tensor:
        """The anomaly map (B, 1, *S) >= 0: |image - healthy|, summed over channels."""
        return (image - healthy).abs().sum(1, keepdim=True)

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """Healthy counterparts, maps, masks and scores; see `task.ANOMALY`.

        Args:
            batch: "image" (B, C, *S) in [-1, 1], and "seed" int64 (B,) where the method is random.

        Raises:
            UserError: the image is of another size, or has one value throughout.
        """
        image = batch["image"].to(device_of(objective))
        check_shape(image, self.channels, self.size)
        check_not_blank(image)
        made = self.compared(objective, {**batch, "image": image})
        found = made["anomaly"]
        level = (
            otsu(found) if self.threshold == "otsu" else torch.full_like(found[:, :1], self.level)
        )
        return {"mask": (found > level).long(), "score": top_mean(found, self.top), **made}

    def compared(self, objective: Any, batch: Batch) -> Batch:
        """Counterparts "healthy" in [-1, 1] and maps "anomaly" of checked images, and what else a method says."""
        healthy = self.counterpart(objective, batch).clamp(-1, 1)
        return {"healthy": healthy, "anomaly": self.residual(batch["image"], healthy)}


def check_not_blank(image: Tensor) -> None:
    """Refuse images of one value throughout.

    Raises:
        UserError: names the first.
    """
    flat = image.flatten(1)
    blank = (flat.amax(1) == flat.amin(1)).nonzero()
    if len(blank):
        raise UserError(
            f"image {int(blank[0])} of the batch has the one value {float(flat[blank[0], 0]):g} "
            "throughout: there is nothing to detect anomalies in; leave it out"
        )


def classes_in(facts: "Facts") -> int:
    """Number of classes: of the labels, or two where masks tell lesions from none.

    Raises:
        UserError: there are fewer than two, and nothing to learn from.
    """
    classes = facts.classes or (2 if "mask" in facts.mask_classes else 0)
    if classes < 2:
        raise UserError(
            "this method learns from healthy and other cases, by their label or mask, and the data "
            f"have {'one class' if classes else 'neither'}; name a column with --map label=COLUMN"
        )
    return classes


def wanted(healthy: int, image: Tensor) -> Tensor:
    """The healthy label for each of the images, `(B,)` int64."""
    return torch.full((len(image),), healthy, device=image.device)


def healthy_only(recipe: Anomaly, batch: Batch) -> Tensor:
    """The healthy cases `(B,)` of a batch, for methods that are trained on nothing else."""
    return is_healthy(batch, recipe.healthy)


SMALL_FIELDS: dict[str, Any] = {**SMALL, **PRECONDITIONED}
TINY_FIELDS: dict[str, Any] = {**TINY, **PRECONDITIONED}
