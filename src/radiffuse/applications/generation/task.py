"""Generation: images from seeds alone, or from seeds and a class."""

from ..task import Task

__all__ = ["GENERATION"]

GENERATION = Task("generation", reads=("image",), optional=("label",), writes=("image",))
