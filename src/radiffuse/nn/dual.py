r"""The dual-granularity classifier of DiffMIC: the whole image, and patches its saliency chose.

After GMIC (Shen et al. 2021) as used by Yang et al. 2023. The global branch maps the image to a
saliency map A_c a class; its mean over space is the global logit. Where the maps are high, patches
are cut; a second network reads them, and gated attention (Ilse et al. 2018)

$$ a_k \propto \exp\big(w^T(\tanh(V h_k) \odot \mathrm{sigmoid}(U h_k))\big), \quad \sum_k a_k = 1 $$

weighs their features h_k into the local logits. The fusion is the mean of both branches' logits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .blocks import conv
from .resnet import ResNet

__all__ = ["DualPrior", "Look", "crops", "salient_windows"]


class Look(NamedTuple):
    """What the classifier saw.

    Attributes:
        fusion, whole, local: logits (B, classes).
        saliency: (B, classes, *S / stride).
        corners: int64 (B, K, axes), lowest corner of each patch in voxels.
        attention: (B, K), sums to 1.
    """

    fusion: Tensor
    whole: Tensor
    local: Tensor
    saliency: Tensor
    corners: Tensor
    attention: Tensor


class DualPrior(nn.Module):
    """Logits of the whole image, of its salient patches, and of both.

    Args:
        axes, channels: of the image; the patches keep all its channels.
        classes: number of classes.
        width, blocks, bottleneck, stem: of both networks, see `ResNet`.
        crop: side of a patch in voxels.
        patches: K.
        top: share of the highest saliency whose mean is the global logit; 1 = all.
        likely: weigh each class's map by its global probability where patches are chosen. Without it
            the maps are summed as they are (the paper): a softmax teaches the other classes to be low
            where one is high, so that a plain sum tends to be lowest where the evidence is.
        attention: length of the attention's inner vectors.
    """

    seen: Tensor

    def __init__(
        self,
        axes: int,
        channels: int,
        classes: int,
        *,
        width: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        bottleneck: bool = True,
        stem: int = 4,
        crop: int = 32,
        patches: int = 6,
        top: float = 1.0,
        likely: bool = False,
        attention: int = 128,
    ) -> None:
        super().__init__()
        self.crop, self.patches, self.top, self.likely = crop, patches, top, likely
        self.whole = ResNet(axes, channels, width, blocks, bottleneck, stem)
        self.saliency = conv(axes, self.whole.out, classes, size=1)
        self.local = ResNet(axes, channels, width, blocks, bottleneck, stem)
        self.value = nn.Linear(self.local.out, attention)
        self.gate = nn.Linear(self.local.out, attention)
        self.weigh = nn.Linear(attention, 1)
        self.leave = nn.Linear(self.local.out, classes)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor) -> Look:
        saliency = self.saliency(self.whole(image))
        flat = saliency.flatten(2)
        whole = flat.topk(max(1, round(self.top * flat.shape[2])), dim=2).values.mean(2)
        weight = whole.detach().float().softmax(1) if self.likely else None
        maps = saliency.detach().float()
        corners = salient_windows(maps, image.shape[2:], self.crop, self.patches, weight)
        parts = crops(image, corners, self.crop)
        features = self.local.pooled(parts.flatten(0, 1)).unflatten(0, corners.shape[:2])
        scores = self.weigh(torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features)))
        attention = scores.float().softmax(dim=1)
        local = self.leave((attention * features).sum(1))
        fusion = (whole + local) / 2
        return Look(fusion, whole, local, saliency, corners, attention[..., 0])


def salient_windows(
    saliency: Tensor, size: Sequence[int], crop: int, count: int, weight: Tensor | None = None
) -> Tensor:
    """Corners of the `count` windows of highest mean saliency, greedily, int64 (B, count, axes).

    The maps (B, classes, *h) are scaled to [0, 1] each and summed, with `weight` (B, classes) or
    equally. Windows as large as a crop on the
    map's grid, at every cell, are compared; the best one is emptied before the next is chosen, and
    none is chosen twice. Corners are given on the image's grid of `size`.
    """
    flat = saliency.flatten(2)
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    scaled = (flat - low) / (high - low).clamp_min(1e-6)
    scaled = scaled if weight is None else scaled * weight[..., None]
    total = scaled.sum(1).reshape(-1, *saliency.shape[2:])
    grid = total.shape[1:]
    sides = window_sides(grid, size, crop)
    free = torch.stack([n - side + 1 for n, side in zip(torch.tensor(grid), sides, strict=True)])
    taken = torch.zeros(len(total), int(free.prod()), dtype=torch.bool, device=total.device)
    axes = [torch.arange(n, device=total.device) for n in grid]
    corners = []
    for _ in range(count):
        means = total
        for axis, side in enumerate(sides):
            means = means.unfold(axis + 1, side, 1).mean(-1)
        best = means.flatten(1).masked_fill(taken, -torch.inf).argmax(1)
        taken = taken.scatter(1, best[:, None], True)
        corner = torch.stack(torch.unravel_index(best, means.shape[1:]), dim=1)
        corners.append(corner)
        inside = torch.ones_like(total, dtype=torch.bool)
        for axis, side in enumerate(sides):
            place = axes[axis][None] - corner[:, axis, None]
            within = (place >= 0) & (place < side)
            shape = [len(total), *[1] * axis, -1, *[1] * (len(grid) - axis - 1)]
            inside = inside & within.reshape(shape)
        total = total.masked_fill(inside, 0.0)
    found = torch.stack(corners, dim=1).double()
    scale = torch.tensor([s / n for s, n in zip(size, grid, strict=True)]).to(found)
    most = torch.tensor([side - crop for side in size], device=found.device)
    return torch.minimum((found * scale).round().long(), most)


def window_sides(grid: Sequence[int], size: Sequence[int], crop: int) -> list[int]:
    """Cells of a saliency map of `grid` that a patch of `crop` voxels covers, by axis."""
    return [max(1, min(n, round(crop * n / side))) for n, side in zip(grid, size, strict=True)]


def crops(image: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut (B, K, C, *side) out of (B, C, *S) at lowest corners (B, K, axes)."""
    batch, channels, *size = image.shape
    count, axes = corners.shape[1:]
    index = torch.zeros(batch, count, *[1] * axes, dtype=torch.int64, device=image.device)
    for axis in range(axes):
        place = corners[..., axis, None] + torch.arange(side, device=image.device)
        shape = [batch, count, *[1] * axis, side, *[1] * (axes - axis - 1)]
        index = index * size[axis] + place.reshape(shape)
    flat = index.reshape(batch, 1, -1).expand(-1, channels, -1)
    cut = image.flatten(2).gather(2, flat)
    return cut.reshape(batch, channels, count, *[side] * axes).transpose(1, 2)
