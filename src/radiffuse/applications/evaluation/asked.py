"""What every evaluation is asked for, and how it says which data its numbers are of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.dataset import Cases
from ...training.options import TrainOptions
from ..supervised import options_like

__all__ = ["Asked", "about", "spread"]


@dataclass(frozen=True)
class Asked:
    """Options that all evaluations share; one that a task has no use for changes nothing.

    Attributes:
        count: images to generate, or held-out cases to measure (evenly spaced); None: the task's
            own number, or all.
        seed: a draw depends on this, its case and its number alone.
        batch: cases at once, for speed and memory; a case differs by rounding alone, with 1 not at all.
        folder_for_pictures: gets the pictures; None writes none.
        command: what the user typed, for the record.
        cache: folder that keeps feature networks and trained baselines.
        model: names the weights; with it, generated images are kept beside `cache`.
        weights: a feature network of the user's in place of our own.
        trained: how the method itself was trained, as long as which its baselines train.
        options: how long trained baselines train in place of that.
        validation: cases that are neither trained on nor, as a rule, measured; None where the data name none.
        prior: recipe and objective of a generative run that purification is compared with.
    """

    count: int | None = None
    seed: int = 0
    batch: int = 16
    folder_for_pictures: Path | None = None
    command: str = ""
    cache: Path | None = None
    model: str = ""
    weights: Path | None = None
    trained: TrainOptions | None = None
    options: TrainOptions | None = None
    validation: Cases | None = None
    prior: tuple[Any, Any] | None = None

    def chosen(self, held_out: Cases) -> Cases:
        """The cases to measure."""
        if self.count is None or self.count >= len(held_out):
            return held_out
        return held_out.take(spread(len(held_out), self.count))

    def record(
        self, recipe: Any, train: Cases, held_out: Cases, settings: dict[str, Any], **found: Any
    ) -> dict[str, Any]:
        """What is written of an evaluation: what was `found`, of which data, by which settings."""
        return {
            **found,
            "task": recipe.task.name,
            "data": about(train, held_out),
            "command": self.command,
            "settings": settings,
        }

    @property
    def run(self) -> Path:
        """Folder of the run, where trained baselines are kept; only where there is a cache."""
        assert self.cache is not None
        return self.cache.parent

    def budget(self, *same: str) -> TrainOptions:
        """How long trained baselines train: `options`, or as long as the run.

        Args:
            same: further options of the run that they share.
        """
        if self.options is not None:
            return self.options
        assert self.trained is not None
        return options_like(self.trained, **{name: getattr(self.trained, name) for name in same})


def spread(n: int, count: int) -> list[int]:
    """At most `count` of 0 .. n-1, evenly spaced."""
    count = min(n, count)
    return [place * n // count for place in range(count)]


def about(train: Cases, held_out: Cases) -> dict[str, Any]:
    """Which data the numbers are of."""
    return {
        "source": str(train.source),
        "train": {"fingerprint": train.fingerprint, "n": len(train)},
        "held_out": {
            "fingerprint": held_out.fingerprint,
            "split": sorted(set(held_out.split_of)),
            "n": len(held_out),
            "patients": len(set(held_out.patients)),
        },
    }
