"""A hierarchical variational auto-encoder: latents of several levels, drawn from the top down (Child 2021, VDVAE)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import (
    coarsest,
    conv,
    cut_to,
    depth_to_space,
    downsample,
    groups,
    space_to_depth,
    upsample,
    whole_strides,
    zeroed,
)

__all__ = ["Hierarchy"]

Draw = Callable[[Tensor], Tensor]
_NARROWEST, _WIDEST = -6.5, 1.0
"""Log-deviation of the image given its latents: from a third of a bin of 256 grey values on."""


class _Plain(nn.Module):
    """x + a branch of two convolutions behind a norm that begins at zero."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.branch = _branch(axes, width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _branch(axes: int, into: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(groups(into), into),
        nn.SiLU(),
        conv(axes, into, into // 2),
        nn.SiLU(),
        zeroed(conv(axes, into // 2, out)),
    )


class _Stochastic(nn.Module):
    """One group of latents: its prior from above, its posterior from above and from the image."""

    def __init__(self, axes: int, width: int, latent: int) -> None:
        super().__init__()
        self.prior = _branch(axes, width, 2 * latent + width)
        self.posterior = _branch(axes, 2 * width, 2 * latent)
        self.enter = conv(axes, latent, width, size=1)
        self.after = _Plain(axes, width)
        self.latent = latent

    def forward(self, h: Tensor, seen: Tensor | None, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """h (B, W, *S); what is below it, the divergence (B,), and log p - log q of the draw (B,).

        Without `seen` the latents are drawn from the prior, and both numbers are 0.
        """
        mean, log_scale, more = self.prior(h).split([self.latent, self.latent, h.shape[1]], 1)
        mean, log_scale = mean.float(), log_scale.float().clamp(-6, 4)
        divergence = ratio = h.new_zeros(len(h), dtype=torch.float32)
        if seen is None:
            z = mean + log_scale.exp() * draw(mean)
        else:
            its = self.posterior(torch.cat([h, seen], 1)).float()
            its_mean, its_scale = its.chunk(2, 1)
            # from the prior on, so that an untrained posterior is the prior
            its_mean, its_scale = mean + its_mean, (log_scale + its_scale).clamp(-8, 4)
            e = draw(its_mean)
            z = its_mean + its_scale.exp() * e
            gap = ((its_mean - mean) / log_scale.exp()).square()
            narrow = (2 * (its_scale - log_scale)).exp()
            each = 0.5 * (narrow + gap - 1) - (its_scale - log_scale)
            divergence = each.flatten(1).sum(1)
            away = ((z - mean) / log_scale.exp()).square()
            log = its_scale - log_scale + 0.5 * (e.square() - away)
            ratio = log.flatten(1).sum(1)
        return self.after(h + more + self.enter(z.to(h.dtype))), divergence, ratio


class Hierarchy(nn.Module):
    r"""Image and latents: $p(x\mid z)\prod_l p(z_l\mid z_{<l})$ and $\prod_l q(z_l\mid z_{<l}, x)$.

    An encoder halves the image level by level; from a learned constant of the coarsest grid the decoder comes down,
    at each group drawing latents and adding them. Prior and posterior share that path. Every law is a diagonal
    Gaussian; the image's mean and deviation are the network's.

    Args:
        axes, channels: of the image.
        size: its sides; those that the strides do not divide are continued, and cut back.
        widths: channels of each level, finest first.
        blocks: groups of latents a level.
        latent: channels of a group.
        patch: side of the blocks of voxels folded into channels.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        size: Sequence[int],
        widths: Sequence[int],
        blocks: int,
        latent: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.size, self.patch = tuple(size), patch
        self.strides = (patch * 2 ** (len(widths) - 1),) * axes
        coarse = coarsest(size, self.strides[0])
        folded = channels * patch**axes
        self.enter = conv(axes, folded, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(*(_Plain(axes, width) for _ in range(blocks))) for width in widths
        )
        self.narrower = nn.ModuleList(conv(axes, *pair, size=1) for pair in pairwise(widths))
        self.constant = nn.Parameter(0.1 * torch.randn(1, widths[-1], *coarse))
        self.up = nn.ModuleList(
            nn.ModuleList(_Stochastic(axes, width, latent) for _ in range(blocks))
            for width in reversed(widths)
        )
        self.wider = nn.ModuleList(
            conv(axes, *pair, size=1) for pair in pairwise(tuple(reversed(widths)))
        )
        self.leave_norm = nn.GroupNorm(groups(widths[0]), widths[0])
        self.leave = conv(axes, widths[0], 2 * folded, size=1)

    def forward(
        self, x: Tensor, draw: Draw = torch.randn_like
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and log-deviation (B, C, *S) of x (B, C, *S) given latents drawn from its posterior; of each group
        the divergence from its prior, and log p - log q of the draw, both (B, groups) in nats."""
        h = self.enter(space_to_depth(whole_strides(x, self.strides), self.patch))
        seen = [self.down[0](h)]
        for change, level in zip(self.narrower, self.down[1:], strict=True):
            seen.append(level(change(downsample(seen[-1]))))
        found = list(self._descended(len(x), seen, draw))
        divergences, ratios = (torch.stack([each[k] for each in found], 1) for k in (1, 2))
        return *self._law(found[-1][0]), divergences, ratios

    def drawn(self, count: int, draw: Draw) -> Tensor:
        """Means (count, C, *S) of images whose latents are drawn from the prior."""
        *_, (h, _, _) = self._descended(count, None, draw)
        return self._law(h)[0]

    def _descended(
        self, count: int, seen: list[Tensor] | None, draw: Draw
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Below each group: features, divergence and ratio."""
        h = self.constant.expand(count, *self.constant.shape[1:])
        for number, level in enumerate(self.up):
            if number:
                h = upsample(self.wider[number - 1](h))
            for group in level:  # type: ignore[attr-defined]
                known = None if seen is None else seen[-1 - number]
                h, divergence, ratio = group(h, known, draw)
                yield h, divergence, ratio

    def _law(self, h: Tensor) -> tuple[Tensor, Tensor]:
        out = depth_to_space(self.leave(F.silu(self.leave_norm(h))).float(), self.patch)
        mean, log_scale = cut_to(out, self.size).chunk(2, 1)
        return mean, log_scale.clamp(_NARROWEST, _WIDEST)
