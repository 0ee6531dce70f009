"""Embedding of the clock and of conditions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Conditioning", "waves"]


def waves(value: Tensor, length: int, highest: float = 64.0) -> Tensor:
    """Sines and cosines of `value` (B,) at `length`/2 geometric frequencies from 1/8 to `highest`."""
    half = length // 2
    exponents = torch.linspace(math.log(0.125), math.log(highest), half, device=value.device)
    angles = value.float()[:, None] * torch.exp(exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1) * math.sqrt(2)


class Conditioning(nn.Module):
    """The embedding (B, length) of the clock, a class label and a vector, all optional but the first.

    Told a second clock (`told_until`), it adds a linear layer of the difference of the waves of both: nothing where
    the two are equal, and nothing at first.

    Labels run from 0 to classes - 1; `classes` itself is "no label" (classifier-free guidance).

    Args:
        length: length of the embedding.
        classes: number of classes, 0 for none.
        vector: length of a vector condition, 0 for none.
    """

    def __init__(self, length: int, classes: int = 0, vector: int = 0) -> None:
        super().__init__()
        self.waves = max(32, length // 4 * 2)
        self.clock = nn.Linear(self.waves, length)
        self.label = nn.Embedding(classes + 1, length) if classes else None
        self.vector = nn.Linear(vector, length) if vector else None
        self.mix = nn.Linear(length, length)
        self.until: nn.Linear | None = None
        self.classes = classes

    def told_until(self) -> None:
        """Take a clock (B, 2) from now on, the second to be told where a network goes."""
        self.until = nn.Linear(self.waves, self.mix.in_features, bias=False)
        nn.init.zeros_(self.until.weight)

    def forward(
        self, clock: Tensor, label: Tensor | None = None, vector: Tensor | None = None
    ) -> Tensor:
        end = clock[:, 1] if clock.ndim > 1 else None
        clock = clock if end is None else clock[:, 0]
        seen = waves(clock, self.waves)
        embedding = self.clock(seen.to(self.clock.weight.dtype))
        if self.until is not None and end is not None:
            embedding = embedding + self.until(
                (waves(end, self.waves) - seen).to(self.until.weight.dtype)
            )
        if self.label is not None:
            if label is None:
                label = torch.full(clock.shape, self.classes, device=clock.device)
            embedding = embedding + self.label(label)
        if self.vector is not None and vector is not None:
            embedding = embedding + self.vector(vector.to(self.vector.weight.dtype))
        return F.silu(self.mix(F.silu(embedding)))
