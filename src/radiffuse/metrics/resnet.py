"""The ResNet-50 in whose features images are compared where the user has its weights (`pretrained`).

He et al. 2016, bottlenecks with the stride in the middle convolution, under the usual weight names
(`conv1.weight`, `bn1.running_mean`, `layer1.0.conv1.weight` ...).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UserError

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
_SIDE = 224
SLICES = 4
"""Of a volume along each axis, where it is seen as pictures."""


class _Bottleneck(nn.Module):
    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = _conv(into, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, out, 1), nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or into != out:
            self.downsample = nn.Sequential(_conv(into, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        straight = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.bn3(self.conv3(y)) + straight)


class ResNet50(nn.Module):
    """Pictures `(B, 1 or 3, H, W)` in [-1, 1] -> `(B, 2048)`, the mean over the last maps.

    They are resized to 224 pixels, grey repeated to three channels, and enter in [-1, 1] as in
    RadImageNet's own code.
    """

    pixels = 3 * _SIDE**2

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        into = 64
        for number, (width, blocks, stride) in enumerate(_STAGES, start=1):
            parts = [_Bottleneck(into, width, stride)]
            parts += [_Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*parts))
            into = 4 * width

    def forward(self, x: Tensor) -> Tensor:
        x = _Coloured()(x)
        x = functional.interpolate(x, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        for number in range(1, 1 + len(_STAGES)):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean(dim=(2, 3))

    def stages(self) -> nn.Sequential:
        """Its five stages one after another, of pictures at their own resolution: what `Perceptual` looks at."""
        pool = nn.MaxPool2d(3, 2, padding=1)
        names = [f"layer{number}" for number in range(1, 1 + len(_STAGES))]
        return nn.Sequential(
            nn.Sequential(_Coloured(), self.conv1, self.bn1, nn.ReLU(), pool),
            *map(self.get_submodule, names),
        )


class _Coloured(nn.Module):
    """Grey repeated to three channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def as_pictures(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pictures as they are; of volumes `SLICES` places along each axis, drawn anew, the same of both.

    Raises:
        UserError: images of one axis.
    """
    if x.ndim == 3:
        raise UserError("a ResNet-50 is of pictures, and these images have one axis")
    if x.ndim == 4:
        return [(x, y)]
    found = []
    for axis in (2, 3, 4):
        at = torch.randint(x.shape[axis], (SLICES,), device="cpu").to(x.device)
        a, b = (v.index_select(axis, at).movedim(axis, 1).flatten(0, 1) for v in (x, y))
        found.append((a, b))
    return found


def _conv(into: int, out: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(into, out, size, stride, padding=size // 2, bias=False)
