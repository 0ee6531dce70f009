"""A normalising flow of causal transformers over patches (TarFlow, Zhai et al. 2024)."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import depth_to_space, space_to_depth, zeroed

__all__ = ["Causal", "TarFlow"]

Cache = list[tuple[Tensor, Tensor]]


class _Layer(nn.Module):
    """Pre-norm attention that looks back only, and a layer of four times the width; each a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, h: Tensor, before: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """h (B, T, W); the keys and values of tokens `before`, where only one new token is given."""
        batch, tokens, width = h.shape
        parts = self.qkv(self.norm_1(h)).reshape(batch, tokens, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        if before is not None:
            k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=tokens > 1)
        h = h + self.out(seen.transpose(1, 2).reshape(batch, tokens, width))
        return h + self.narrow(F.gelu(self.wide(self.norm_2(h)))), (k, v)


class Causal(nn.Module):
    r"""$z_t = (x_t - \mu(x_{<t}))\,e^{-a(x_{<t})}$ token by token; the first token stays as it is.

    It begins as the identity. The Jacobian is triangular: its log-determinant is $-\sum a$.

    Args:
        tokens, length: T tokens of so many numbers.
        width, layers, heads: of the transformer.
    """

    def __init__(self, tokens: int, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.enter = nn.Linear(length, width)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.leave = zeroed(nn.Linear(width, 2 * length))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, L); z of its shape, and the log-determinant (B,)."""
        h = self.enter(x) + self.place
        for layer in self.layers:
            h, _ = layer(h)
        law = self.leave(self.norm(h)).float()
        mean, log_scale = F.pad(law[:, :-1], (0, 0, 1, 0)).chunk(2, 2)
        return (x - mean) * torch.exp(-log_scale), -log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """x of z (B, T, L), one token after the other."""
        made = [z[:, :1]]
        caches: list[tuple[Tensor, Tensor] | None] = [None] * len(self.layers)
        for place in range(z.shape[1] - 1):
            h = self.enter(made[-1]) + self.place[place]
            for number, layer in enumerate(self.layers):
                h, caches[number] = layer(h, caches[number])
            mean, log_scale = self.leave(self.norm(h)).float().chunk(2, 2)
            made.append(z[:, place + 1 : place + 2] * torch.exp(log_scale) + mean)
        return torch.cat(made, 1)


class TarFlow(nn.Module):
    """Causal blocks over the patches of an image, each in the reverse order of the last.

    Args:
        axes, channels: of the image.
        size: its sides, which `patch` divides.
        patch: side of a patch.
        width, blocks, layers: of the transformers.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        size: Sequence[int],
        patch: int,
        width: int,
        blocks: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.patch, self.grid = patch, tuple(side // patch for side in size)
        self.length = channels * patch**axes
        heads = math.gcd(width, max(1, width // 64))
        self.blocks = nn.ModuleList(
            Causal(math.prod(self.grid), self.length, width, layers, heads) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S); the latent of its tokens (B, T, L), and the log-determinant (B,)."""
        z = self._tokens(x.float())
        total = torch.zeros(len(x), device=x.device)
        for block in self.blocks:
            z, log_determinant = block(z)
            total, z = total + log_determinant, z.flip(1)
        return z, total

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) in nats (B,): that of its latent under N(0, I), and the log-determinant."""
        z, total = self(x)
        flat = z.float().flatten(1)
        return total - 0.5 * flat.square().sum(1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)

    def states(self, z: Tensor) -> Iterator[Tensor]:
        """From the latent (B, T, L) to the image, (B, C, *S) after each block."""
        for block in reversed(self.blocks):
            z = block.inverse(z.flip(1))  # type: ignore[operator]
            yield self._image(z)

    def _tokens(self, x: Tensor) -> Tensor:
        return space_to_depth(x, self.patch).flatten(2).mT

    def _image(self, tokens: Tensor) -> Tensor:
        return depth_to_space(tokens.mT.unflatten(2, self.grid), self.patch)
