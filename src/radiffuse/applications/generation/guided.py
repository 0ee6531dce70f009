"""Generation told a class: by the network itself, and by the gradient of a classifier beside it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Guided, Steered, log_class
from ...diffusion.network import Given, Network
from ...errors import UserError
from ...nn import Classifier
from ...training.objective import Denoising, Reader, Together
from ..recipe import Batch

__all__ = ["beside_classifier", "check_labels", "told_label"]


def beside_classifier(recipe: Any, denoising: Denoising) -> Together:
    """The objective of a denoiser, and of a new classifier of its noisy images."""
    axes, width = len(recipe.size), max(16, recipe.width // 2)
    classifier = Classifier(axes, recipe.channels, recipe.classes, width, patch=recipe.patch)
    network = denoising.network
    times = recipe.times(network.schedule)
    return Together(denoising, Reader("classifier", classifier, network, times, _of_label))


def _of_label(read: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(read, batch["label"])


def told_label(recipe: Any, objective: Any, label: Tensor | None) -> Denoiser:
    """E[x_0 given x_t], with the label and the guidance bound where there are any."""
    led = isinstance(objective, Together)
    network: Network = (objective.denoising if led else objective).network
    denoiser: Denoiser = network
    if label is not None and recipe.conditional:
        none = torch.full_like(label, recipe.classes)
        given = Given(network, label=label)
        denoiser = Guided(given, Given(network, label=none), recipe.guidance)
    if label is not None and led:
        reads = log_class(objective.readers["classifier"], label)
        denoiser = Steered(denoiser, reads, recipe.guidance)
    return denoiser


def check_labels(recipe: Any, label: Tensor) -> None:
    """Refuse classes that a recipe does not know.

    Raises:
        UserError: labels out of range, or given to an unconditional model.
    """
    if not recipe.classes:
        raise UserError("this model was trained without labels; leave the label out")
    if bool((label < 0).any()) or bool((label >= recipe.classes).any()):
        raise UserError(f"labels run from 0 to {recipe.classes - 1}, not {label.tolist()}")
