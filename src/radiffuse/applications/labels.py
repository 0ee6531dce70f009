"""The classification form of a diffusion of label maps: logits of every voxel at every noise level.

The paper regresses the noise of label maps; here a network says the labels, learned by cross-entropy, and samplers
see a denoiser as any other. A second network may guess the labels from the image alone.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..diffusion.categorical import Categorical, Guessed
from ..diffusion.schedule import Schedule
from ..nn.generator import Direct
from ..training.objective import Prepared
from .losses import segmentation_loss
from .parts import input_of
from .recipe import Batch

__all__ = ["LABELS", "GuessedLabels", "Labels", "network_of_labels"]


class Labels(Prepared):
    """`Prepared` by the cross-entropy of labels."""

    def loss(self, out: Tensor, x_0: Tensor, z: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        assert isinstance(self.network, Categorical)
        return self.network.cross_entropy(out, x_0, x_t, t)


class GuessedLabels(Labels):
    """`Labels` around a guess, which learns beside it as a segmentation network does."""

    network: Guessed

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        batch = self.prepare(batch)
        x_0, image = batch["image"], batch["source"]
        guess = self.players["guess"](image).float()
        yield "network", self.matching(x_0, {"image": image, "guess": guess.detach()})
        yield "guess", segmentation_loss(guess, self.network.truth(x_0))


LABELS: dict[str, Any] = {
    "absent": -1.0,
    "betas": "cosine",
    "law": "log-normal",
    "predicts": "labels",
    "preconditioned": True,
    "learned_variance": False,
}
"""Classification of every voxel at every noise level, instead of the paper's regression of noise."""


def network_of_labels(recipe: Any, schedule: Schedule) -> Categorical:
    """The network of logits, with the one that guesses where the recipe has one."""
    labels, told = recipe.channels + 1, recipe.condition_channels
    seen = input_of(recipe.data_std, recipe.preconditioned)
    if not recipe.guess:
        body = recipe.unet(condition=told, out=labels)
        return Categorical(body, schedule, recipe.absent, recipe.scale, *seen)
    guess = Direct(recipe.beside(labels, recipe.guess, told), labels)
    body = recipe.unet(condition=told + labels, out=labels)
    return Guessed(body, guess, schedule, recipe.absent, recipe.scale, *seen)
