"""The three trainings of a method that learns from what it makes: label maps, images, the segmenter."""

from typing import Any

from ...latent.denoising import CodeDenoising
from ..segmenter import Segmenter
from .painting import Painting

__all__ = ["IMAGES", "SEGMENTER", "Stages"]

IMAGES, SEGMENTER = "images", "segmenter"


class Stages(CodeDenoising):
    """The diffusion of codes of label maps, which is the objective of the run, and what is trained later.

    Args:
        parts: of `CodeDenoising`.
        painting, segmenter: objectives of the later stages.

    Attributes:
        later: the same, by the folder they are trained in.
    """

    def __init__(self, *parts: Any, painting: Painting, segmenter: Segmenter) -> None:
        super().__init__(*parts)
        self.painting, self.segmenter = painting, segmenter
        self.later: dict[str, Any] = {IMAGES: painting, SEGMENTER: segmenter}
