"""A segmenter: one network, by cross-entropy plus soft Dice."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ...diffusion.label_maps import distribution, encode
from ..losses import segmentation_loss

__all__ = ["Segmenter"]

Batch = dict[str, Tensor]


class Segmenter:
    """Cross-entropy plus soft Dice of "mask", for `supervised.trained`.

    Args:
        network: (B, C, *S) -> logits (B, labels + 1, *S).
        given: image keys, concatenated.
        labels: number of labels but the background.
    """

    def __init__(self, network: nn.Module, given: Sequence[str], labels: int) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.given, self.labels = tuple(given), labels

    def logits(self, batch: Batch) -> Tensor:
        """(B, labels + 1, *S), background first."""
        told = torch.cat([batch[key].float() for key in self.given], dim=1)
        return self.players["network"](told).float()

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        truth = distribution(encode(batch["mask"], self.labels, 0.0))
        yield "network", segmentation_loss(self.logits(batch), truth)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Probabilities of the labels but the background, (B, labels, *S)."""
        return self.logits(batch).softmax(1)[:, 1:]
