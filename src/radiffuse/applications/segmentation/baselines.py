"""The baselines of segmentation: one U-Net, by Dice and cross-entropy, and an ensemble of smaller trainings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...data.splits import parted
from ...diffusion.label_maps import likeliest
from ...metrics.segmentation import doubt_of
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import in_batches
from ..supervised import InWindows, Rival, direct_unet, shares
from .overlaps import Answer
from .segmenter import Segmenter
from .temperature import fitted_temperature, tempered

__all__ = ["MEMBERS", "Aside", "Ensemble", "answer_of", "rivals_of", "set_aside"]

Batch = dict[str, Tensor]
MEMBERS = 4
"""U-Nets of the ensemble (Lakshminarayanan et al. 2017), which share one budget."""
ASIDE = 0.1
"""Share of the training patients that fit the temperature where the data have no split for it."""
MOST = 64
"""Cases at most that fit it."""


@dataclass(frozen=True)
class Aside:
    """Cases the ensemble learns from, and others that fit its temperature; `source` says which these are."""

    learned: Cases
    fitted: Cases | None
    source: str


def set_aside(train: Cases, validation: Cases | None, measured: Sequence[str]) -> Aside:
    """Cases for the temperature: of `validation`, else of a tenth of the training patients.

    Patients that are `measured` never fit it. What is learned from does not depend on them, so that
    one training serves every evaluation.
    """
    if validation is not None:
        return Aside(train, _unmeasured(validation, measured), "validation split")
    learned, fitted = (train.take(rows) for rows in parted(train.patients, ASIDE, "temperature"))
    return Aside(learned, _unmeasured(fitted, measured), "training patients set aside")


def _unmeasured(cases: Cases, measured: Sequence[str]) -> Cases | None:
    """Up to `MOST` cases of other patients."""
    others = [k for k, name in enumerate(cases.patients) if name not in set(measured)]
    return cases.take([others[k] for k in spread(len(others), MOST)]) if others else None


def rivals_of(recipe: Any, train: Cases, aside: Aside, asked: Asked) -> dict[str, Rival]:
    """A U-Net trained as long as the method, and the members of an ensemble, together as long."""
    options, labels, size = asked.budget("batch"), recipe.channels, recipe.size

    def make() -> Any:
        into = recipe.condition_channels
        network = direct_unet(len(size), into, labels + 1, size, squash=False)
        unet = Segmenter(network, recipe.given, labels)
        return unet if recipe.windows is None else InWindows(unet, recipe.windows, "mask")

    members = {
        f"unet_member_{k}": Rival(make, aside.learned, its)
        for k, its in enumerate(shares(options, MEMBERS))
    }
    return {"unet": Rival(make, train, options), **members}


class Ensemble:
    """U-Nets whose mean probabilities are scaled by a temperature.

    Args:
        members: trained objectives.
        given: image keys they are told.
        batch: cases at once.
        aside: fit the temperature; 1 where there are none.
    """

    def __init__(
        self, members: Sequence[Any], given: Sequence[str], batch: int, aside: Aside
    ) -> None:
        self.members, self.given, self.batch = tuple(members), tuple(given), batch
        self.source, self.temperature, self.patients = aside.source, 1.0, 0
        if aside.fitted is not None:
            parts = aside.fitted.batch(range(len(aside.fitted)))
            mean = self.each(parts).mean(0)
            self.temperature = fitted_temperature(mean, parts["mask"])
            self.patients = len(set(aside.fitted.patients))

    def each(self, parts: Batch) -> Tensor:
        """Foreground probabilities of every member, (K, n, L, *S), on the CPU."""
        images = {key: parts[key] for key in self.given}
        return torch.stack(
            [in_batches(each.predict, images, self.batch, device_of(each)) for each in self.members]
        )

    def answer(self, parts: Batch) -> Answer:
        """What the ensemble says; its members' label maps are draws of its law."""
        every = self.each(parts)
        found = tempered(every.mean(0), self.temperature)
        maps = torch.stack([likeliest(one) for one in every])
        return Answer(likeliest(found), found, doubt_of(found), maps)

    @property
    def said(self) -> dict[str, Any]:
        """For the record."""
        return {
            "members": len(self.members),
            "temperature": self.temperature,
            "fitted_to": self.source,
            "patients": self.patients,
        }


def answer_of(foreground: Tensor) -> Answer:
    """What one network's probabilities say."""
    mask = likeliest(foreground)
    return Answer(mask, foreground, doubt_of(foreground), mask[None])
