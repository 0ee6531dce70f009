"""What stands beside a shape that was drawn: the mean shape, columns of the seen thickness, a regression U-Net."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....data.dataset import Cases
from ....nn.generator import Direct
from ...recipe import Batch
from ...supervised import Rival
from .pictures import depth_first, thickness, tiled, turned_back

__all__ = ["Columns", "MeanShape", "ShapeRegression", "rivals_of"]


class MeanShape:
    """The voxels most often inside, as many as a shape has on average, within the silhouette that is seen.

    Args:
        recipe: prepares batches.
        train: training cases.
    """

    def __init__(self, recipe: Any, train: Cases) -> None:
        self.recipe = recipe
        total, count = torch.zeros(recipe.size), 0
        for first in range(0, len(train), 32):
            rows = range(first, min(first + 32, len(train)))
            masks = depth_first(train.batch(rows)["mask"], recipe.axis)
            total, count = total + (masks[:, 0] > 0).float().sum(0), count + len(masks)
        inside = round(float(total.sum()) / count)
        least = total.flatten().sort(descending=True).values[inside - 1]
        self.shape = total >= least

    def __call__(self, batch: Batch) -> Tensor:
        """Masks (B, 1, *S), bool."""
        seen = self.recipe.prepared(batch)["condition"][:, :1] > 0
        return turned_back(seen & self.shape, self.recipe.axis)


class Columns:
    """Each pixel's thickness as one column about the depth that training shapes have on average.

    Volume and silhouette are right by construction; what a picture leaves open is put in the middle. Only where
    pictures are made of volumes.
    """

    def __init__(self, recipe: Any, train: Cases) -> None:
        self.axis = recipe.axis
        places = torch.arange(recipe.size[0]) + 0.5
        weighted, inside = 0.0, 0.0
        for first in range(0, len(train), 32):
            rows = range(first, min(first + 32, len(train)))
            masks = depth_first(train.batch(rows)["mask"], recipe.axis) > 0
            profile = masks.double().flatten(3).sum((0, 1, 3))
            weighted, inside = (
                weighted + float(profile @ places.double()),
                inside + float(profile.sum()),
            )
        self.middle = weighted / inside

    def __call__(self, batch: Batch) -> Tensor:
        """Masks (B, 1, *S), bool."""
        shape = depth_first(batch["mask"], self.axis)
        depth = shape.shape[2]
        length = tiled((thickness(shape) * depth).round(), depth)
        places = torch.arange(depth, device=shape.device)
        places = places.reshape(-1, *[1] * (shape.ndim - 3))
        # `length` voxels from the one that puts their middle nearest to that of the training shapes
        first = (self.middle - length / 2).round().clamp_min(0).minimum(depth - length)
        return turned_back((places >= first) & (places < first + length), self.axis)


class ShapeRegression:
    """The method's own network from the condition to the probability of inside, for `supervised.trained`.

    By cross-entropy, with neither noise nor time.
    """

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe
        network = Direct(recipe.body(), 1)
        self.players: dict[str, nn.Module] = {"network": network}

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        made = self.recipe.prepared(batch)
        logits = self.players["network"](made["condition"]).float()
        truth = (made["mask"] > 0).float()
        yield "network", F.binary_cross_entropy_with_logits(logits, truth)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Masks (B, 1, *S), bool: where inside is likelier than outside."""
        made = self.recipe.prepared(batch)
        logits = self.players["network"](made["condition"]).float()
        return turned_back(logits > 0, self.recipe.axis)


def rivals_of(recipe: Any, train: Cases, options: Any) -> dict[str, Rival]:
    """The U-Net, trained as long as the method."""
    return {"unet": Rival(lambda: ShapeRegression(recipe), train, options)}
