"""The denoiser of label vectors, told an image (Han et al. 2022, CARD; Yang et al. 2023, DiffMIC)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import ResNet

__all__ = ["LabelNetwork"]


class LabelNetwork(nn.Module):
    """Predicts the noise of a label vector whose diffusion is that of y - mu, seen as y.

    The state handed in is m_t = alpha (y_0 - mu) + sigma z. What the layers read is
    y_t = m_t + mu = alpha y_0 + (1 - alpha) mu + sigma z, beside mu itself: the shift is here, at the
    input, and nowhere else. Layer norm stands where the authors have batch norm.

    Args:
        axes, channels: of the image.
        classes: C, length of the label vector.
        steps: T; each of its levels has a gate of its own.
        features: length of the image's feature vector and of the hidden layers.
        width, blocks, stem: of the image encoder, see `ResNet`.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        classes: int,
        steps: int,
        features: int = 6144,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        stem: int = 4,
    ) -> None:
        super().__init__()
        self.encoder = ResNet(axes, channels, width, blocks, stem=stem)
        self.describe = nn.Linear(self.encoder.out, features)
        self.norm = nn.LayerNorm(features)
        sizes = (2 * classes, features, features)
        self.layers = nn.ModuleList(_Gated(size, features, steps) for size in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in sizes)
        self.leave = nn.Linear(features, classes)

    def encode(self, image: Tensor) -> Tensor:
        """The image's features (B, features), the same at all times."""
        return self.norm(self.describe(self.encoder.pooled(image)))

    def forward(
        self,
        x: Tensor,
        clock: Tensor,
        mean: Tensor,
        image: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """The noise (N, C) in m_t.

        Args:
            x: m_t (N, C).
            clock: level 0 ... T (N,).
            mean: mu (N, C).
            image: (B, C, *S), N a multiple of B (row n is of image n modulo B); or
            features: `encode(image)`.

        Raises:
            ValueError: neither image nor features.
        """
        if features is None:
            if image is None:
                raise ValueError("the label network needs the image or its features")
            features = self.encode(image)
        features = features.repeat(len(x) // len(features), 1)
        y = x + mean
        level = clock.round().long()
        h = torch.cat([y, mean], dim=1)
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            h = F.softplus(norm(layer(h, level)))
            h = h * features if number == 0 else h
        return self.leave(h)


class _Gated(nn.Module):
    """A linear layer whose outputs are multiplied by a vector learned for each noise level."""

    def __init__(self, into: int, out: int, steps: int) -> None:
        super().__init__()
        self.linear = nn.Linear(into, out)
        self.gate = nn.Embedding(steps + 1, out)
        nn.init.uniform_(self.gate.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.gate(level) * self.linear(x)
