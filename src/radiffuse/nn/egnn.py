r"""E(3)-equivariant network of a chain of points (Satorras et al. 2021, eq. 3-6), dense in pairs: O(N^2).

A layer has features h (B, N, W) and points x (B, N, 3); $e_{ij}$ says how far apart i and j stand in the chain:

$$ m_{ij} = \phi_m(h_i, h_j, \|x_i-x_j\|^2, e_{ij}), \quad
x_i \leftarrow x_i + \frac1N\sum_j \frac{x_i-x_j}{\|x_i-x_j\|+\epsilon}\,\phi_x(m_{ij}), \quad
h_i \leftarrow h_i + \phi_h\big(h_i, \textstyle\sum_j m_{ij}\big). $$

Turned, mirrored and shifted points give turned, mirrored and shifted points: it cannot tell left from right.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EGNN"]

_NEAR = 1e-8
_SEED = 8256


class EGNN(nn.Module):
    """Layers of messages between all points of a chain (Trippe et al. 2023, appendix D).

    Features begin as sines and cosines of the place in the chain, plus those of the time turned by one fixed
    orthogonal matrix, so that the two are not confused. That matrix is made from its own seed.

    Args:
        width: W, even.
        layers: number of layers, each followed by a layer norm of h.
        longest: period of the waves of the place in the chain; longer chains work, and were not trained.
        ticks: period of the waves of the time, and ticks in a time from 0 to 1.
    """

    turn: Tensor

    def __init__(
        self, width: int = 256, layers: int = 4, longest: int = 128, ticks: int = 1024
    ) -> None:
        super().__init__()
        self.width, self.longest, self.ticks = width, longest, ticks
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.register_buffer("turn", _orthogonal(width), persistent=False)

    def forward(self, x: Tensor, clock: Tensor, mask: Tensor | None = None) -> Tensor:
        """How the points are moved, (B, N, 3), 0 where there is none.

        Args:
            x: (B, N, 3).
            clock: times in [0, 1], (B,); the network sees clock * ticks - 1.
            mask: (B, N), 1 where there is a point; None: everywhere.
        """
        count = x.shape[1]
        mask = torch.ones_like(x[..., 0]) if mask is None else mask.to(x)
        start = x = x * mask[..., None]
        place = torch.arange(count, device=x.device)
        h = _waves(place, self.width, self.longest).to(x)
        told = _waves(clock.float() * self.ticks - 1, self.width, self.ticks) @ self.turn.float()
        h = (h + told[:, None].to(x)) * mask[..., None]
        # rows of pairs by their offset, which runs from 1 - N to N - 1
        offsets = _waves(torch.arange(1 - count, count, device=x.device), self.width, self.longest)
        rows = place[:, None] - place + count - 1
        for layer in self.layers:
            h, x = layer(h, x, offsets.to(x), rows, mask)
        return (x - start) * mask[..., None]


class _Layer(nn.Module):
    """One round of messages; x moves along normalised differences, whose lengths get no gradient."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = (width, width, 1, width)
        self.enter, self.leave = nn.Linear(width, width), nn.Linear(width, width)
        self.first, self.second = nn.Linear(sum(self.parts), width), nn.Linear(width, width)
        pull = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(pull.weight, gain=0.001)
        self.pull = nn.Sequential(nn.Linear(width, width), nn.SiLU(), pull)
        self.node = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, h: Tensor, x: Tensor, offsets: Tensor, rows: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        gap = x[:, :, None] - x[:, None]
        squared = gap.square().sum(-1, keepdim=True)
        h = self.enter(h) * mask[..., None]
        message = self._messages(h, squared, offsets, rows)
        along = gap / (squared.detach().sqrt() + _NEAR) * self.pull(message)
        # sums over the points there are
        moved = torch.einsum("bijc,bj->bic", along, mask) / mask.sum(1)[:, None, None]
        heard = torch.einsum("bijw,bj->biw", message, mask)
        h = (h + self.node(torch.cat([h, heard], dim=-1))) * mask[..., None]
        return self.norm(self.leave(h) * mask[..., None]), x + moved * mask[..., None]

    def _messages(self, h: Tensor, squared: Tensor, offsets: Tensor, rows: Tensor) -> Tensor:
        """(B, N, N, W). The first linear map of (h_i, h_j, squared, e_ij), its parts before they are paired."""
        here, there, distance, apart = self.first.weight.split(self.parts, dim=1)
        first = F.linear(h, here, self.first.bias)[:, :, None] + F.linear(h, there)[:, None]
        first = torch.addcmul(first + F.linear(offsets, apart)[rows], squared, distance[:, 0])
        return F.silu(self.second(F.silu(first)))


def _waves(value: Tensor, length: int, period: int) -> Tensor:
    r"""Sines and cosines of $\pi v / P^{2k/L}$, k = 0 .. L/2 - 1: (..., L)."""
    exponents = 2 * torch.arange(length // 2, device=value.device) / length
    angles = value[..., None].float() * math.pi / period**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _orthogonal(side: int) -> Tensor:
    """A random orthogonal matrix, always the same one."""
    drawn = torch.randn(side, side, generator=torch.Generator().manual_seed(_SEED)).double()
    q, r = torch.linalg.qr(drawn)
    return (q * r.diagonal().sign()).float()
