"""Auto-encoders of healthy images: plain, variational, and denoising (Kascenas et al. 2022).

What is no part of a healthy image is not rebuilt. The first two have a narrow code. The third is a U-Net
that removes coarse noise from healthy images, and lesions with it. Its constants are those of Kascenas,
Pugeault and O'Neil, "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI" (MIDL 2022),
and of their code (AntanasKascenas/DenoisingAE, src/denoising.py), for images of 128 pixels in [0, 1].
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from ...nn.blocks import conv, resized, upsample
from ..recipe import Batch
from ..supervised import direct_unet

__all__ = ["Autoencoder", "DenoisingAutoencoder", "Reconstruction", "coarse_noise", "cut_to_body"]

GRID, STD = 16, 0.4
"""Points of the noise's grid along the longest side (`noise_res`), and its deviation there: 0.2 in [0, 1]."""
CELL = 4
"""Pixels between two points at least; the paper has eight of 128."""
BODY = 0.01
"""Voxels of the body have a larger sum over channels, in [0, 1]."""
WINDOW, INSIDE = 5, 0.95
"""The residual is kept where this share of a window is body, and becomes the median of such a window."""
DIVERGENCE = 0.02
"""Weight of the divergence of a variational code, nats a value, beside the squared error."""


class Reconstruction(nn.Module):
    """A convolutional auto-encoder, or a variational one; any number of axes.

    Args:
        channels: of the images.
        size: their spatial size; halved up to three times, as often as it divides.
        variational: the code is a normal distribution, kept near the standard one.
    """

    def __init__(self, channels: int, size: Sequence[int], variational: bool) -> None:
        super().__init__()
        axes, depth = len(size), 0
        while depth < 3 and all(side % 2 ** (depth + 1) == 0 for side in size):
            depth += 1
        widths = [channels, 16, 32, 64][: depth + 1]
        self.variational = variational
        down: list[nn.Module] = []
        for before, width in pairwise(widths):
            down += [conv(axes, before, width, stride=2), nn.GroupNorm(8, width), nn.SiLU()]
        self.down = nn.Sequential(*down)
        code = 4
        self.code = conv(axes, widths[-1], 2 * code, size=1)
        self.enter = conv(axes, code, max(widths[-1], 16), size=1)
        self.up = nn.ModuleList()
        before = max(widths[-1], 16)
        for width in [*widths[-2:0:-1], 16][:depth]:
            stage = nn.Sequential(conv(axes, before, width), nn.GroupNorm(8, width), nn.SiLU())
            self.up.append(stage)
            before = width
        self.leave = conv(axes, before, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, *S) -> reconstructions, and the divergence of the code (nats a value)."""
        mean, log_variance = self.code(self.down(x)).float().chunk(2, dim=1)
        divergence = torch.zeros((), device=x.device)
        code = mean
        if self.variational:
            divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / x.numel()
            noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
            code = mean + noise * (log_variance / 2).exp()
        h = self.enter(code)
        for stage in self.up:
            h = stage(upsample(h))
        return self.leave(h), divergence


class Autoencoder:
    """Squared error of rebuilt images, for `supervised.trained`; the map is the squared residual.

    Args:
        network: see `Reconstruction`.
        outside: nothing is learned where batch["mask"] is not empty.
    """

    def __init__(self, network: Reconstruction, outside: bool = False) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.outside = outside

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        rebuilt, divergence = self.players["network"](batch["image"])
        error = (rebuilt.float() - batch["image"]).square()
        yield "network", _learned(error, batch, self.outside).mean() + DIVERGENCE * divergence

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Squared difference from the reconstruction, mean over channels, (B, 1, *S)."""
        rebuilt = self.players["network"](batch["image"])[0].float()
        return (batch["image"] - rebuilt).square().mean(1, keepdim=True)


class DenoisingAutoencoder:
    """A U-Net that removes coarse noise from the body, for `supervised.trained`.

    Squared error over the body. The map is the absolute residual of the image as it is, mean over
    channels, kept inside the body and median-filtered.

    Args:
        channels: of the images.
        size: their spatial size.
        outside: nothing is learned where batch["mask"] is not empty.
    """

    def __init__(self, channels: int, size: Sequence[int], outside: bool = False) -> None:
        network = direct_unet(len(size), channels, channels, size, squash=False)
        self.players: dict[str, nn.Module] = {"network": network}
        self.outside = outside

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        image = batch["image"]
        there = _body(image)
        cleaned = self.players["network"](image + there * coarse_noise(image)).float()
        error = there * (cleaned - image).square()
        yield "network", _learned(error, batch, self.outside).mean()

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """The map (B, 1, *S)."""
        cleaned = self.players["network"](batch["image"]).float()
        found = (batch["image"] - cleaned).abs().mean(1, keepdim=True)
        return cut_to_body(found, batch["image"])


def coarse_noise(like: Tensor, std: float = STD, grid: int = GRID) -> Tensor:
    r"""Gaussian noise between the points of a coarse grid, shifted by as many voxels as you like.

    $n(x) = \sum_k w_k(x + s)\,z_k$ with $z_k \sim N(0, \text{std}^2)$ on the points, multilinear weights w, and one
    shift s for the batch, uniform, around the border.

    Args:
        like: images (B, C, *S), whose shape and device it has.
        std: at the points; between them less.
        grid: points along the longest side; others have theirs at the same distance, which is `CELL`
            pixels or more.
    """
    size = like.shape[2:]
    cell = max(max(size) / grid, CELL)
    points = [max(2, round(side / cell)) for side in size]
    drawn = std * torch.randn(*like.shape[:2], *points, device=like.device)
    noise = resized(drawn, size, corners=True)
    shifts = [int(torch.randint(side, ())) for side in size]
    return noise.roll(shifts, tuple(range(2, like.ndim)))


def cut_to_body(found: Tensor, image: Tensor) -> Tensor:
    """A map (B, 1, *S) kept where the window about a voxel is body, then the median of that window."""
    there = _body(image).cpu().numpy().astype(np.float32)
    window = (1, 1, *[WINDOW] * (image.ndim - 2))
    kept = found.cpu().numpy() * (ndimage.uniform_filter(there, window, mode="nearest") > INSIDE)
    return torch.from_numpy(ndimage.median_filter(kept, window, mode="mirror")).to(found)


def _body(image: Tensor) -> Tensor:
    """Where the image (B, C, *S) in [-1, 1] is not black, (B, 1, *S)."""
    return (image + 1).sum(1, keepdim=True) / 2 > BODY


def _learned(error: Tensor, batch: Batch, outside: bool) -> Tensor:
    """An error (B, C, *S), 0 inside the lesions where these are not to be learned."""
    return error * (batch["mask"] == 0) if outside else error
