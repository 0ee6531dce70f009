"""One classifier, images and attackers, by which every defence is tried alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....data.dataset import Cases
from ....diffusion.noise import derive
from ....metrics.classification import classification
from ....metrics.estimate import Metric
from ...evaluation.asked import Asked, spread
from ...evaluation.progress import progress_bar
from .attacks import Defence, adaptive, auto_pgd, fgsm, has_auto_pgd, pgd

__all__ = ["Trial", "trial_of"]

KNOWING = 64
"""Cases, evenly spaced, on which the attacker who knows the defence is tried."""


@dataclass(frozen=True)
class Trial:
    """Images and what attackers who know no defence make of them.

    Attributes:
        recipe: says how far, and in how many steps, attackers go.
        logits: the classifier, of images in [0, 1].
        kinds: images (n, C, *S) in [0, 1] by what was done to them: "" nothing, "fgsm", "pgd", and "apgd" where its
            library is installed.
        label, patients, seeds: of the images; seeds are those of `predict`.
        batch: images at once.
    """

    recipe: Any
    logits: nn.Module
    kinds: dict[str, Tensor]
    label: Tensor
    patients: Sequence[str]
    seeds: list[int]
    batch: int

    def unknown(self, defence: Defence) -> dict[str, Metric]:
        """All metrics of clean images, "accuracy_KIND" and "balanced_accuracy_KIND" of attacked ones."""
        rows = range(len(self.label))
        return {
            key: each
            for kind, images in self.kinds.items()
            for key, each in self.of(self.classes(defence, images, rows), rows, kind).items()
        }

    def known(self, defence: Defence, draws: int) -> dict[str, Metric]:
        """ "accuracy_adaptive" and its like: the attacker knows the defence, but not the draw that is measured."""
        recipe, rows = self.recipe, spread(len(self.label), KNOWING)
        made = []
        for x, label, seeds in self._batches(self.kinds[""], rows):
            eps, steps = recipe.eps / 255, recipe.attack_steps
            made.append(adaptive(defence, self.logits, x, label, eps, steps, seeds, draws).cpu())
        every = torch.zeros_like(self.kinds[""])
        every[list(rows)] = torch.cat(made)
        return self.of(self.classes(defence, every, rows), rows, "adaptive")

    @torch.no_grad()
    def classes(self, defence: Defence, images: Tensor, rows: Sequence[int]) -> Tensor:
        """Probabilities of the classes of purified images, those of `rows`."""
        return torch.cat(
            [
                self.logits(defence(x, seeds)).softmax(1).cpu()
                for x, _, seeds in self._batches(images, rows)
            ]
        )

    def of(self, probability: Tensor, rows: Sequence[int], kind: str) -> dict[str, Metric]:
        """Metrics of `rows`; of an attack two of them, its name behind theirs."""
        whom = [self.patients[row] for row in rows]
        only = ("balanced_accuracy",) if kind else ()
        found = classification(probability, self.label[list(rows)], whom, only=only)
        return {f"{key}_{kind}" if kind else key: each for key, each in found.items()}

    def _batches(
        self, images: Tensor, rows: Sequence[int]
    ) -> "list[tuple[Tensor, Tensor, list[int]]]":
        device = next(self.logits.parameters()).device
        chosen = [list(rows[k : k + self.batch]) for k in range(0, len(rows), self.batch)]
        return [
            (images[part].to(device), self.label[part].to(device), [self.seeds[k] for k in part])
            for part in chosen
        ]


def trial_of(recipe: Any, logits: nn.Module, cases: Cases, asked: Asked) -> Trial:
    """The cases under every attack of the undefended classifier."""
    parts = cases.batch(range(len(cases)))
    clean, label = (parts["image"] + 1) / 2, parts["label"]
    seeds = [derive(asked.seed, name, 0) for name in cases.ids]
    told = (recipe, logits, {"": clean}, label, cases.patients, seeds, asked.batch)
    eps, steps, made = recipe.eps / 255, recipe.attack_steps, dict[str, list[Tensor]]()
    with progress_bar("attacking", len(cases)) as done:
        for number, (x, its, own) in enumerate(Trial(*told)._batches(clean, range(len(cases)))):
            found = {
                "fgsm": fgsm(logits, x, its, eps),
                "pgd": pgd(logits, x, its, eps, steps, own),
            }
            if has_auto_pgd():
                start = derive(asked.seed, "apgd", number)
                found["apgd"] = auto_pgd(logits, x, its, eps, steps, recipe.classes, start)
            for kind, images in found.items():
                made.setdefault(kind, []).append(images.cpu())
            done((number + 1) * asked.batch)
    kinds = {"": clean, **{kind: torch.cat(images) for kind, images in made.items()}}
    return Trial(recipe, logits, kinds, label, cases.patients, seeds, asked.batch)
