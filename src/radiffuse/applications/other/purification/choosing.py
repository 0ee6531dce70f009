"""The setting of a defence, chosen on images that nothing is trained on or measured by; as many trials for each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ....metrics.classification import balanced_accuracy
from .attacks import Defence, pgd

__all__ = ["TRIALS", "Seen", "attacked", "best", "worth"]

TRIALS = 6
"""Settings that are tried of each defence."""
Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Seen:
    """Images (B, C, *S) in [0, 1], the same under PGD of the undefended classifier, classes (B,), a seed of each."""

    clean: Tensor
    attacked: Tensor
    label: Tensor
    seeds: list[int]


def attacked(
    logits: nn.Module, batches: Iterable[dict[str, Tensor]], eps: float, steps: int
) -> list[Seen]:
    """Images and what PGD makes of them; batches of "image" in [-1, 1], "label" and "seed"."""
    found = []
    for batch in batches:
        x, seeds = (batch["image"] + 1) / 2, [int(seed) for seed in batch["seed"]]
        label = batch["label"].to(x.device)
        found.append(Seen(x, pgd(logits, x, label, eps, steps, seeds), label, seeds))
    return found


@torch.no_grad()
def worth(defence: Defence, logits: nn.Module, seen: Sequence[Seen], classes: int) -> float:
    """Mean of the balanced accuracies on clean and on attacked images.

    Not of accuracies: where most images are of one class, a defence that leaves nothing of an image would win.
    """
    label = torch.cat([each.label for each in seen])
    total = 0.0
    for name in ("clean", "attacked"):
        found = [logits(defence(getattr(each, name), each.seeds)).argmax(1) for each in seen]
        total += balanced_accuracy(torch.cat(found), label, classes)
    return total / 2


def best(
    settings: Sequence[Setting],
    defence: Callable[[Setting], Defence],
    logits: nn.Module,
    seen: Sequence[Seen],
    classes: int,
) -> Setting:
    """The setting of most `worth`; of equal ones the first."""
    return max(settings, key=lambda setting: worth(defence(setting), logits, seen, classes))
