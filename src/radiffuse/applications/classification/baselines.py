"""The baseline of classification: one residual network of the whole image, by cross-entropy."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.augment import turned
from ...nn.resnet import ResNet

__all__ = ["PlainClassifier", "ResNetClassifier"]

Batch = dict[str, Tensor]


class ResNetClassifier(nn.Module):
    """Logits (B, classes) of images (B, C, *S): `body`, mean over space, one linear layer."""

    def __init__(self, body: ResNet, classes: int) -> None:
        super().__init__()
        self.body = body
        self.leave = nn.Linear(body.out, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.leave(self.body.pooled(image))


class PlainClassifier:
    """Cross-entropy of "label" given "image", for `supervised.trained`.

    Args:
        network: image -> logits.
        turn: largest random rotation in degrees; `flip`: mirror half of the images.
    """

    def __init__(self, network: nn.Module, turn: float = 0.0, flip: bool = False) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.turn, self.flip = turn, flip

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        image = turned(batch["image"], self.turn, self.flip)
        yield "network", F.cross_entropy(self.players["network"](image).float(), batch["label"])

    @torch.no_grad()
    def predict(self, image: Tensor) -> Tensor:
        """Probabilities (B, classes)."""
        return self.players["network"](image).float().softmax(1)
