"""`radiffuse sample --away SHARE`: samples that lie too near to a training image are drawn again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..applications.generation.privacy.people import as_one, read_people
from ..diffusion.noise import derive
from ..errors import UsageError, UserError
from ..metrics.nearness import groups_of, near
from ..runs.run import Run
from ..training.progress import say
from .source import check_axes, open_source, source_of

__all__ = ["Away", "away_from"]

MOST = 20
"""Draws of one sample."""


@dataclass
class Away:
    """What is kept away from.

    Attributes:
        share: least distance to the nearest image, over what is usual there (`metrics.nearness`).
        images: `(n, C, *S)`.
        groups: the person of each.
        fingerprint: of the data.
        drawn, refused: draws so far, and those that were too near.
    """

    share: float
    images: Tensor
    groups: Tensor
    fingerprint: str
    drawn: int = 0
    refused: int = 0

    def __call__(
        self,
        draw: Callable[[Sequence[dict[str, Any]]], dict[str, Tensor]],
        entries: Sequence[dict[str, Any]],
    ) -> dict[str, Tensor]:
        """What `draw` makes of the entries, drawn again from further seeds where it lies too near.

        The law of what is drawn is that of the model outside of the balls around training images. An entry is told its
        last seed, and how often it was drawn again.

        Raises:
            UserError: every one of 20 draws of a sample is too near.
        """
        made = {key: values.clone() for key, values in draw(entries).items()}
        waiting = self._near(made["image"], range(len(entries)))
        for attempt in range(1, MOST):
            if not waiting:
                return made
            for row in waiting:
                entry = entries[row]
                entry["seed"] = derive(entry["seed"], "away")
                entry["redrawn"] = attempt
            again = draw([entries[row] for row in waiting])
            for key, values in again.items():
                made[key][waiting] = values
            waiting = self._near(again["image"], waiting)
        if waiting:
            raise UserError(
                f"{entries[waiting[0]]['case']}: {MOST} draws in turn lie nearer than {self.share:g} of what is usual "
                "to a training image: the model has learned them by heart; lower --away, or train on more images"
            )
        return made

    def _near(self, images: Tensor, rows: Sequence[int]) -> list[int]:
        """Those of the rows whose images lie too near."""
        found = near(images.float().cpu(), self.images, self.groups)
        close = [
            row for row, r in zip(rows, found.relative.tolist(), strict=True) if r < self.share
        ]
        self.drawn += len(images)
        self.refused += len(close)
        return close

    @property
    def told(self) -> str:
        """What it cost."""
        return f"{self.refused} of {self.drawn} draws lay too near to a training image and were drawn again"


def away_from(opened: Run, share: float | None, data: str | None) -> Away | None:
    """What the flags name; None where they name nothing.

    Raises:
        UsageError: the share is not between 0 and 1, or data are named without one.
        UserError: the training data are not at hand, or of one person.
    """
    if share is None:
        if data is not None:
            raise UsageError(
                "--away-from: names data to keep away from, and --away SHARE says how far"
            )
        return None
    if not 0 < share < 1:
        raise UsageError(
            f"--away {share:g}: name a share of the usual distance, between 0 and 1, as 0.6"
        )
    try:
        source = source_of(opened.config, data, ())
    except UserError as error:
        raise UserError(
            str(error).replace("name data with --data", "name others with --away-from")
        ) from None
    cases = open_source(source, opened.recipe)
    check_axes(opened, cases, source)
    cases = cases.split("train") if data is None else cases
    people, repeated = as_one(read_people(cases))
    if repeated:
        say(
            f"note: {source.path}: {repeated} people have an image that is another's too; they count as one person"
        )
    groups = groups_of(people.patients)
    if int(groups.max()) < 1:
        raise UserError(f"{source.path}: --away needs images of two people or more")
    return Away(share, people.images, groups, cases.fingerprint)
