"""Which volumes and pictures a recipe learns from, and what its network is told of a batch."""

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ....errors import UserError
from ...recipe import Batch
from ...sizes import check_same_size, sides
from .pictures import depth_first, pictured, thickness, tiled

if TYPE_CHECKING:
    from ....data.dataset import Facts

__all__ = ["prepared", "to_learn"]

Told = Literal["thickness", "picture"]
_AXES = 3


def to_learn(recipe: Any, facts: "Facts") -> tuple[tuple[int, ...], Told, int]:
    """Sides of the volumes, depth first; what is told of them; and the channels of that.

    Raises:
        UserError: masks are no volumes, empty, or of several labels; a picture is missing, or not of their size.
    """
    volume = _volume_of(facts)
    size = (volume[recipe.axis], *(n for k, n in enumerate(volume) if k != recipe.axis))
    told: Told = recipe.told or ("picture" if "picture" in facts.size else "thickness")
    if told == "thickness":
        return size, told, 1 + recipe.intensity
    if "picture" not in facts.size:
        raise UserError("--told picture: the data have none; --map picture=COLUMN")
    looks = f"mask along axis {recipe.axis}"
    check_same_size(looks, size[1:], "picture", facts.size["picture"])
    return size, told, 1 + facts.channels["picture"] * recipe.intensity


def _volume_of(facts: "Facts") -> tuple[int, ...]:
    if "mask" not in facts.mask_size:
        raise UserError("the data have no volumes to learn from; --map mask=COLUMN")
    size, labels = facts.mask_size["mask"], facts.mask_classes["mask"] - 1
    if not size[_AXES - 1 :]:
        raise UserError(f"the mask is {sides(size)}: a shape is a volume, of three axes")
    if labels != 1:
        what = "are all empty" if labels < 1 else f"hold {labels} labels"
        raise UserError(f"the masks {what}: a shape has the labels 0, outside, and 1, inside")
    return size


def prepared(recipe: Any, batch: Batch) -> Batch:
    """The batch with "condition" (B, C_c, D, *P) in [0, 1], and "mask", where it is there, depth first.

    Raises:
        UserError: a picture or a shape is missing, empty, or of another size than those of training.
    """
    made = dict(batch)
    if "mask" in batch:
        made["mask"] = depth_first(batch["mask"], recipe.axis)
        _check_size("the volume", made["mask"].shape[2:], recipe.size)
    seen = _seen(recipe, made)
    _check_size("the picture", seen.shape[2:], recipe.size[1:])
    if not bool(seen[:, :1].flatten(1).any(1).all()):
        raise UserError("its mask is empty, or the picture black: there is no shape to predict")
    if not recipe.intensity:
        seen = seen[:, :1]
    return {**made, "condition": tiled(seen, recipe.size[0])}


def _seen(recipe: Any, batch: Batch) -> Tensor:
    """Silhouette and masked intensity (B, 1 + C, *P): of the volume where pictures are made of it."""
    if recipe.told == "thickness" and "mask" in batch:
        share = thickness(batch["mask"])
        return torch.cat([(share > 0).float(), share], 1)
    if "picture" not in batch:
        raise UserError(
            "the model was trained on pictures, and the data have none; --map picture=COLUMN"
        )
    return pictured(batch["picture"].float(), batch.get("picture_mask"))


def _check_size(what: str, here: tuple[int, ...], known: tuple[int, ...]) -> None:
    if tuple(here) != tuple(known):
        raise UserError(
            f"{what} is {sides(here)}, and the model was trained on {sides(known)}; resize with --size"
        )
