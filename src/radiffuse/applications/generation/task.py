"""Generation: images from seeds alone, or from seeds and a class."""

from dataclasses import replace

from ..task import Demonstration, Task

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
    demonstration=Demonstration(
        "ddpm",
        "brains:count=1600,size=32",
        flags=(
            *("--sampler", "dpm-solver", "--grid", "karras", "--stop", "0.003", "--steps", "20"),
            *("--train.batch", "32", "--train.learning-rate", "2e-3", "--train.cooldown", "0.4"),
        ),
        count=400,
        batch=100,
    ),
)

TILES = replace(
    GENERATION,
    reads=("image", "label"),
    optional=(),
    evaluation="radiffuse.applications.generation.tiles.evaluate:evaluate_tiles",
    demonstration=None,
)
"""Tiles of histology by their class: measured as other images are, and besides by class, beside a GAN, and by what a
classifier learns from them."""
