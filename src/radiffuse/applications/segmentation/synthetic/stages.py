"""The three trainings of a method that learns from what it makes: label maps, images, the segmenter."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ...latent.denoising import CodeDenoising
from ...recipe import Batch
from ..segmenter import Segmenter
from .maps import Maps
from .painting import Painting

__all__ = ["IMAGES", "SEGMENTER", "Stages"]

IMAGES, SEGMENTER = "images", "segmenter"


class Stages:
    """The diffusion of label maps, which is trained as the objective of the run, and what is trained later.

    Args:
        labels: denoising of the codes of maps.
        maps: how they are made of a batch.
        painting, segmenter: objectives of the later stages.

    Attributes:
        first: the auto-encoder of maps.
        later: the objectives of the later stages, by the folder they are trained in.
    """

    def __init__(
        self, labels: CodeDenoising, maps: Maps, painting: Painting, segmenter: Segmenter
    ) -> None:
        self.labels, self.maps, self.painting, self.segmenter = labels, maps, painting, segmenter
        self.players: dict[str, nn.Module] = labels.players
        self.first = labels.first
        self.later: dict[str, Any] = {IMAGES: painting, SEGMENTER: segmenter}

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield from self.labels.losses({**batch, "image": self.maps.image(self.maps.of(batch))})
