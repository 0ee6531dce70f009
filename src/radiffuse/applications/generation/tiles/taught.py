"""What a classifier learns from drawn tiles: it is tested on real ones, beside one that learned from real ones."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....metrics.classification import classification
from ....metrics.estimate import Metric
from ....nn.resnet import ResNet
from ....training.objective import device_of
from ...classification.baselines import PlainClassifier, ResNetClassifier
from ...evaluation.asked import Asked
from ...recipe import Batch
from ...supervised import Rival, options_like, trained_beside

__all__ = ["Labelled", "taught"]

STEPS = 400
SHOWN = ("accuracy", "f1", "auroc")


@dataclass(frozen=True)
class Labelled:
    """Images (N, C, *S) in [-1, 1] and their classes (N,), as cases to learn from."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of both."""
        parts = (self.images, self.labels)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def batch(self, indices: Sequence[int], /) -> Batch:
        rows = torch.as_tensor(indices, dtype=torch.long)
        return {"image": self.images[rows], "label": self.labels[rows]}


def taught(
    sets: Mapping[str, Any], held_out: Cases, classes: int, asked: Asked
) -> dict[str, dict[str, Metric]]:
    """`taught_accuracy`, `taught_f1` and `taught_auroc` on held-out cases, by what a classifier learned from.

    A small residual network, by cross-entropy, in as many steps whatever it learns from; in RUN/baseline-NAME.

    Args:
        sets: cases to learn from, by name.
        held_out: real cases with labels.
        classes: number of classes.
        asked: says how long, and where.
    """
    truth = held_out.batch(range(len(held_out)))
    images = truth["image"]
    axes, channels = images.dim() - 2, images.shape[1]
    options = asked.options
    if options is None:
        options = options_like(asked.budget("batch"), steps=STEPS, minutes=None, batch=32)

    def network() -> PlainClassifier:
        body = ResNet(axes, channels, 16, (1, 1, 1, 1), stem=2)
        return PlainClassifier(ResNetClassifier(body, classes))

    folders = {name: f"taught_by_{name}_{its.fingerprint[:8]}" for name, its in sets.items()}
    rivals = {folders[name]: Rival(network, its, options) for name, its in sets.items()}
    learned = trained_beside(rivals, asked.run)
    found = {}
    for name, folder in folders.items():
        reader = learned[folder]
        parts = images.to(device_of(reader)).split(asked.batch)
        told = torch.cat([reader.predict(part) for part in parts]).cpu()
        measured = classification(told, truth["label"], held_out.patients)
        found[name] = {f"taught_{key}": measured[key] for key in SHOWN}
    return found
