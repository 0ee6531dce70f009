"""Generation: images from seeds alone, or from seeds and a class."""

from dataclasses import replace

from ..task import Task

__all__ = ["GENERATION", "TILES"]

GENERATION = Task(
    "generation",
    reads=("image",),
    optional=("label",),
    writes=("image",),
    evaluation="radiffuse.applications.generation.evaluate:evaluate_generation",
    title="Generation",
    shown=(
        "fid",
        "kid",
        "fid_planes",
        "kid_planes",
        "mmd",
        "coherence",
        "precision",
        "recall",
        "density",
        "coverage",
        "ms_ssim",
        "bits_per_dimension",
    ),
    page="radiffuse.applications.generation.page:section",
)

TILES = replace(
    GENERATION,
    reads=("image", "label"),
    optional=(),
    evaluation="radiffuse.applications.generation.tiles.evaluate:evaluate_tiles",
)
"""Tiles of histology by their class: measured as other images are, and besides by class, beside a GAN, and by what a
classifier learns from them."""
