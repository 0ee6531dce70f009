"""The Inception-v3 in whose features images are compared where the user has its weights (`pretrained`).

Szegedy et al. 2016 under torchvision's weight names (`Mixed_5b.branch1x1.conv.weight` ...). The
network of the Frechet Inception distance (Heusel et al. 2017, weights of 2015-12-05) differs in its
pooling, not in its names: means over the pixels inside the image only, and in the last block a
maximum in place of the mean. Numbers of the literature are those of that one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIDE = 299
Size = int | tuple[int, int]


class _Step(NamedTuple):
    """A convolution of a branch, or two side by side where there are two sizes."""

    out: int
    sizes: tuple[Size, ...]


def _step(out: int, *sizes: Size) -> _Step:
    return _Step(out, sizes)


Branches = dict[str, tuple[_Step, ...]]
_WIDE, _TALL = (1, 7), (7, 1)
_REDUCE_6A: Branches = {
    "branch3x3": (_step(384, 3),),
    "branch3x3dbl": (_step(64, 1), _step(96, 3), _step(96, 3)),
}
_REDUCE_7A: Branches = {
    "branch3x3": (_step(192, 1), _step(320, 3)),
    "branch7x7x3": (_step(192, 1), _step(192, _WIDE), _step(192, _TALL), _step(192, 3)),
}
_MIXED_7: Branches = {
    "branch1x1": (_step(320, 1),),
    "branch3x3": (_step(384, 1), _step(384, (1, 3), (3, 1))),
    "branch3x3dbl": (_step(448, 1), _step(384, 3), _step(384, (1, 3), (3, 1))),
    "branch_pool": (_step(192, 1),),
}


def _mixed_5(pool: int) -> Branches:
    return {
        "branch1x1": (_step(64, 1),),
        "branch5x5": (_step(48, 1), _step(64, 5)),
        "branch3x3dbl": (_step(64, 1), _step(96, 3), _step(96, 3)),
        "branch_pool": (_step(pool, 1),),
    }


def _mixed_6(width: int) -> Branches:
    there, back = (_step(width, _WIDE), _step(width, _TALL)), (_step(192, _WIDE), _step(192, _TALL))
    return {
        "branch1x1": (_step(192, 1),),
        "branch7x7": (_step(width, 1), there[0], back[1]),
        "branch7x7dbl": (_step(width, 1), there[1], there[0], there[1], back[0]),
        "branch_pool": (_step(192, 1),),
    }


_BLOCKS: dict[str, Branches] = {
    "Mixed_5b": _mixed_5(32),
    "Mixed_5c": _mixed_5(64),
    "Mixed_5d": _mixed_5(64),
    "Mixed_6a": _REDUCE_6A,
    "Mixed_6b": _mixed_6(128),
    "Mixed_6c": _mixed_6(160),
    "Mixed_6d": _mixed_6(160),
    "Mixed_6e": _mixed_6(192),
    "Mixed_7a": _REDUCE_7A,
    "Mixed_7b": _MIXED_7,
    "Mixed_7c": _MIXED_7,
}


class _Conv(nn.Module):
    """Convolution, batch normalisation, ReLU. Strided ones take no border, others keep the size."""

    def __init__(
        self, into: int, out: int, size: Size, stride: int = 1, border: bool = True
    ) -> None:
        super().__init__()
        sides = (size, size) if isinstance(size, int) else size
        keep = border and stride == 1
        padding = (sides[0] // 2, sides[1] // 2) if keep else (0, 0)
        self.conv = nn.Conv2d(into, out, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches side by side, the pooled one last; without a `branch_pool` the block halves the maps."""

    def __init__(self, into: int, branches: Branches, pool: str) -> None:
        super().__init__()
        self.chains: list[list[tuple[str, ...]]] = []
        self.pool = pool if "branch_pool" in branches else "halve"
        self.out = into if self.pool == "halve" else 0
        for branch, steps in branches.items():
            self.chains.append([])
            width = into
            for number, step in enumerate(steps, start=1):
                last = number == len(steps)
                name = branch if len(steps) == 1 else f"{branch}_{number}"
                names = (name,) if len(step.sizes) == 1 else (f"{name}a", f"{name}b")
                for each, size in zip(names, step.sizes, strict=True):
                    stride = 2 if last and self.pool == "halve" else 1
                    self.add_module(each, _Conv(width, step.out, size, stride))
                self.chains[-1].append(names)
                width = step.out * len(names)
            self.out += width

    def forward(self, x: Tensor) -> Tensor:
        maps = [
            self._chain(self._pooled(x) if "branch_pool" in c[0] else x, c) for c in self.chains
        ]
        return torch.cat(
            maps if self.pool != "halve" else [*maps, functional.max_pool2d(x, 3, 2)], 1
        )

    def _chain(self, x: Tensor, chain: list[tuple[str, ...]]) -> Tensor:
        for names in chain:
            x = torch.cat([self.get_submodule(name)(x) for name in names], dim=1)
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "max":
            return functional.max_pool2d(x, 3, 1, padding=1)
        return functional.avg_pool2d(x, 3, 1, padding=1, count_include_pad=self.pool == "mean")


class InceptionV3(nn.Module):
    """Pictures `(B, 1 or 3, H, W)` in [-1, 1] -> `(B, 2048)`, the mean over the last maps.

    They are resized to 299 pixels, bilinear, grey repeated to three channels.

    Args:
        fid: pool as the network of the Frechet Inception distance does.
    """

    pixels = 3 * _SIDE**2

    def __init__(self, fid: bool = True) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, border=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, border=False)
        width = 192
        for name, branches in _BLOCKS.items():
            pool = "mean" if not fid else "max" if name == "Mixed_7c" else "mean inside"
            block = _Block(width, branches, pool)
            self.add_module(name, block)
            width = block.out

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        x = functional.interpolate(x, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = functional.max_pool2d(x, 3, 2)
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))
