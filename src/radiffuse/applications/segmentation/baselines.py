"""The baseline of segmentation: one U-Net, by Dice and cross-entropy."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.label_maps import distribution, encode

__all__ = ["Segmenter", "segmentation_loss", "soft_dice_loss"]

Batch = dict[str, Tensor]


def soft_dice_loss(foreground: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 sum(p y) / (sum(p) + sum(y)) over batch and voxels, mean over labels (Milletari 2016).

    A label in neither costs nothing.

    Args:
        foreground, truth: (B, L, *S) in [0, 1].
    """
    axes = [0, *range(2, truth.dim())]
    both, total = (foreground * truth).sum(axes), (foreground + truth).sum(axes)
    return 1 - ((2 * both + 1) / (total + 1)).mean()


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy plus `soft_dice_loss`; logits and truth (B, L + 1, *S), background first."""
    return F.cross_entropy(logits, truth) + soft_dice_loss(logits.softmax(1)[:, 1:], truth[:, 1:])


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
