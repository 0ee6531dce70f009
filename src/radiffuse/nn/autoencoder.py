"""Auto-encoders of images, whose codes are Gaussian (KL) or entries of a codebook (VQ)."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .blocks import (
    Attention,
    conv,
    cut_to,
    depth_to_space,
    groups,
    space_to_depth,
    upsample,
    whole_strides,
)

__all__ = ["AutoEncoder", "Codebook", "Gaussian"]


class Gaussian(nn.Module):
    r"""Codes from a normal law of diagonal covariance (Kingma & Welling 2014, appendix B).

    Reads mean and log-variance from twice the channels. The penalty is
    $\tfrac12\sum(\mu^2 + s^2 - \log s^2 - 1)$ over the elements of a case, averaged over cases.
    """

    wide = 2

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h (B, 2 C, *L); a drawn code (B, C, *L), and the penalty ()."""
        mean, deviation = self.law(h)
        drawn = mean + deviation * torch.randn_like(mean)
        each = mean.square() + deviation.square() - 2 * deviation.log() - 1
        return drawn, 0.5 * each.flatten(1).sum(1).mean()

    def law(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the code, (B, C, *L) each."""
        mean, log_variance = h.float().chunk(2, 1)
        return mean, (0.5 * log_variance.clamp(-30, 20)).exp()

    def settled(self, code: Tensor) -> Tensor:
        """The code that the decoder reads: as it is."""
        return code


class Codebook(nn.Module):
    r"""Codes that are entries of a codebook (van den Oord et al. 2017, VQ-VAE).

    Each place takes the nearest entry; the gradient passes straight through to the encoder, which is drawn
    to the entry by the commitment $\beta\,\lVert h - \mathrm{sg}(e)\rVert^2$ (the penalty). Entries are moving
    averages of what chose them (appendix A.1). An entry that less than `least` places a step choose is dead, and
    begins again at a place of the batch.

    Args:
        count: entries, K.
        length: numbers of an entry.
        decay: of the moving averages.
        commitment: beta.
        least: places a step below which an entry is dead.
    """

    wide = 1
    entries: Tensor
    chosen: Tensor
    sums: Tensor

    def __init__(
        self,
        count: int,
        length: int,
        decay: float = 0.99,
        commitment: float = 0.25,
        least: float = 0.01,
    ) -> None:
        super().__init__()
        self.decay, self.commitment, self.least = decay, commitment, least
        self.register_buffer("entries", torch.randn(count, length))
        self.register_buffer("chosen", torch.zeros(count))
        self.register_buffer("sums", torch.zeros(count, length))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h (B, C, *L); the nearest entries (B, C, *L), and the penalty ()."""
        h = h.float()
        if self.training:
            self._learn(h.detach())
        nearest = self.settled(h)
        penalty = self.commitment * F.mse_loss(h, nearest)
        return h + (nearest - h).detach(), penalty

    def law(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The code before it is settled, (B, C, *L), and no deviation."""
        return h.float(), torch.zeros_like(h, dtype=torch.float32)

    def settled(self, code: Tensor) -> Tensor:
        """The nearest entries, (B, C, *L)."""
        return self.entries[self.indices(code)].movedim(-1, 1).to(code)

    def indices(self, code: Tensor) -> Tensor:
        """The nearest entry of each place, (B, *L) int64."""
        places = code.movedim(1, -1)
        return (
            torch.cdist(places.flatten(0, -2), self.entries.to(places))
            .argmin(1)
            .reshape(places.shape[:-1])
        )

    @torch.no_grad()
    def _learn(self, h: Tensor) -> None:
        places = h.movedim(1, -1).flatten(0, -2)
        if not self.chosen.any():  # the first batch
            self._begin(torch.ones_like(self.chosen, dtype=torch.bool), places)
        nearest = torch.cdist(places, self.entries).argmin(1)
        count = torch.bincount(nearest, minlength=len(self.entries)).to(places)
        self.chosen.lerp_(count, 1 - self.decay)
        # no product of matrices: autocast would round it
        total = torch.zeros_like(self.sums).index_add_(0, nearest, places)
        self.sums.lerp_(total, 1 - self.decay)
        self._begin(self.chosen < self.least, places)
        self.entries.copy_(self.sums / self.chosen.unsqueeze(1))

    def _begin(self, dead: Tensor, places: Tensor) -> None:
        """Entries that begin at places of the batch, as if each had been chosen once a step."""
        if dead.any():
            rows = torch.randint(len(places), (int(dead.sum()),), device=places.device)
            self.entries[dead] = self.sums[dead] = places[rows]
            self.chosen[dead] = 1.0


class AutoEncoder(nn.Module):
    """Encoder, law of the codes, decoder; residual blocks, each level halves the resolution.

    Args:
        axes: number of spatial axes, 1 to 3.
        channels: of the images.
        latent: channels C_z of a code.
        width: channels of the first level.
        multiples: width of each level over `width`; every level but the first halves the resolution.
        blocks: residual blocks a level.
        codes: entries of a codebook; 0 = Gaussian codes.
        attends: one attention at the coarsest level, of encoder and decoder.
        patch: fold blocks of this side into channels first (less arithmetic).
        local: normalise the channels of each voxel in place of groups of channels over the whole image, so that
            a part of an image is decoded as it is in the whole (without attention).
        decay: of the codebook's moving averages.
        shares: channels of a voxel are shares p of a whole, by a softmax; images are 2 p - 1.
        recompute: gradient checkpointing: less memory, one more forward pass.

    Attributes:
        stride: voxels of the image a place of the code, along every axis.
        seen: training steps so far.
        local: whether a part of an image is decoded as it is in the whole.
        reach: places of the code around a voxel that its value depends on, where `local`.
    """

    seen: Tensor

    def __init__(
        self,
        axes: int,
        channels: int,
        latent: int,
        width: int,
        multiples: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        codes: int = 0,
        attends: bool = False,
        patch: int = 1,
        local: bool = False,
        decay: float = 0.99,
        shares: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.shares = shares
        widths = [width * multiple for multiple in multiples]
        self.patch, self.latent, self.local = patch, latent, local and not attends
        self.stride = patch * 2 ** (len(widths) - 1)
        self.law = Codebook(codes, latent, decay) if codes else Gaussian()
        # places around one that a convolution, a block and a level above reach, in places of the code
        self.reach = 1 + sum((2 * blocks + 1) / 2**level for level in range(len(widths))) + 1
        folded, last = channels * patch**axes, widths[-1]
        norm = _VoxelNorm if local else _group_norm
        middle = [Attention(axes, last), _Block(axes, last, last, norm)] if attends else []
        self.encoder = _Chain(
            recompute,
            conv(axes, folded, widths[0]),
            *_levels(axes, widths, blocks, norm, down=True),
            *middle,
            *_leaving(axes, last, latent * self.law.wide, norm),
        )
        middle = [_Block(axes, last, last, norm), Attention(axes, last)] if attends else []
        self.decoder = _Chain(
            recompute,
            conv(axes, latent, last),
            *middle,
            *_levels(axes, widths[::-1], blocks, norm, down=False),
            *_leaving(axes, widths[0], folded, norm),
        )
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S); its reconstruction from a drawn code (B, C, *S), and the penalty of the codes ()."""
        code, penalty = self.law(self._encoded(x))
        return cut_to(self._image(code.to(x)), x.shape[2:]), penalty

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the code of x (B, C, *S), (B, C_z, *ceil(S / stride)) each; of a codebook the code
        before it takes the nearest entries, and 0.

        Raises:
            ValueError: sides shorter than the stride; others that it does not divide are continued by reflection.
        """
        return self.law.law(self._encoded(x))

    def _encoded(self, x: Tensor) -> Tensor:
        x = whole_strides(x, [self.stride] * (x.ndim - 2))
        return self.encoder(space_to_depth(x, self.patch))

    def decode(self, code: Tensor) -> Tensor:
        """The image (B, C, *(L stride)) of a code (B, C_z, *L), which takes the nearest entries of a codebook first."""
        return self._image(self.law.settled(code))

    def _image(self, code: Tensor) -> Tensor:
        image = depth_to_space(self.decoder(code), self.patch)
        return 2 * image.softmax(1) - 1 if self.shares else image


class _Chain(nn.Sequential):
    """Layers one after the other, each done again for its gradient where that is asked for."""

    def __init__(self, recompute: bool, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        again = self.recompute and self.training and torch.is_grad_enabled()
        for layer in self:
            x = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
        return x


Norm = Callable[[int], nn.Module]


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(groups(channels), channels)


class _VoxelNorm(nn.Module):
    """Channels of each voxel over their root mean square, times a weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.reshape(-1, *[1] * (x.ndim - 2))
        scale = torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-6)
        return x * scale.to(x.dtype) * weight.to(x.dtype)


def _levels(
    axes: int, widths: Sequence[int], blocks: int, norm: Norm, down: bool
) -> list[nn.Module]:
    """Blocks of each level, and what lies between two."""
    found: list[nn.Module] = [_Block(axes, widths[0], widths[0], norm) for _ in range(blocks)]
    for before, after in pairwise(widths):
        found += [conv(axes, before, before, stride=2) if down else _Up(axes, before)]
        found += [_Block(axes, before, after, norm)]
        found += [_Block(axes, after, after, norm) for _ in range(blocks - 1)]
    return found


def _leaving(axes: int, into: int, out: int, norm: Norm) -> list[nn.Module]:
    return [norm(into), nn.SiLU(), conv(axes, into, out)]


class _Block(nn.Module):
    """Residual block: norm, SiLU, convolution, twice."""

    def __init__(self, axes: int, into: int, out: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(*_leaving(axes, into, out, norm), *_leaving(axes, out, out, norm))
        self.skip = conv(axes, into, out, size=1) if into != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class _Up(nn.Module):
    """Repeat every voxel twice along every axis, and a convolution."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.conv = conv(axes, width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(upsample(x))
