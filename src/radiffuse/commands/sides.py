"""Mirroring of a preset by the orientation of the data: left and right are an axis of a volume that the data name."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..training.options import TrainOptions

if TYPE_CHECKING:
    from .train_flags import Order

__all__ = ["left_right"]


def left_right(
    asked: "Order", arguments: Sequence[str], orientation: str, axes: int
) -> tuple["Order", list[str]]:
    """The order with the one axis that its preset mirrors along turned to left and right, and lines on it.

    Presets mirror along one axis where their papers mirror left and right. Pictures, axes that were asked for, and
    presets that mirror along several stay as they are.

    Args:
        asked: to be trained.
        arguments: what was written after `train`.
        orientation: axis codes of the volumes ("RAS"); "" where they say nothing.
        axes: of the images.
    """
    written = {word.split("=")[0] for word in arguments}
    stages: dict[str, TrainOptions | None] = {"train": asked.train, "first": asked.first}
    found: dict[str, TrainOptions] = {}
    for stage, options in stages.items():
        own = f"--{stage}.mirror" in written or "--config" in written
        if axes == 3 and options is not None and len(options.mirror) == 1 and not own:
            found[stage] = options
    if not found:
        return asked, []
    if len(orientation) != 3:
        axis = next(iter(found.values())).mirror[0]
        return asked, [
            f"the volumes do not say where left and right are; they are mirrored along axis {axis} (--train.mirror)"
        ]
    sides = next(axis for axis, code in enumerate(orientation) if code in "LR")
    turned: dict[str, Any] = {
        stage: dataclasses.replace(each, mirror=(sides,)) for stage, each in found.items()
    }
    line = f"mirrored left and right in training: axis {sides} of {orientation} volumes (--train.mirror)"
    return dataclasses.replace(asked, **turned), [line]
