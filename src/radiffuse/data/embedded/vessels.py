r"""Pictures of vessels, made on the spot: dark trees on an uneven background, as angiograms and fundi show them.

$I = g + 18 b - c\,m + 5 z$: g between 120 and 170, b a smooth random field, m a mask of `trees` blurred a little, with
a contrast c between 35 and 70, z white noise. The trees bend more, are wider and more of them than those that a method
may draw for itself. `background` is the same without trees, of another person: b and z are drawn anew.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...errors import UsageError
from ...nn.blocks import downsample, resized
from ..columns import ArrayColumn
from ..formats.stored import check_bytes
from ..table import Table
from .anatomy import generator, uniform
from .options import MOST, options_of
from .trees import Trees

__all__ = ["VesselOptions", "open_vessels"]

_TREES = Trees(widest=4.5, thinnest=1.2, count=3, reach=7.0, bend=0.14, fork=0.6)
_CELLS = 6


@dataclass(frozen=True)
class VesselOptions:
    """What `vessels:count=60,size=96` can say.

    Attributes:
        count: number of pictures.
        size: pixels along each side.
    """

    count: int = 60
    size: int = 64


def open_vessels(name: str, seed: int = 0) -> Table:
    """Make the data set called `name`: image, background, and mask, 1 where a vessel is.

    Raises:
        UsageError: an option that is not known, or a value out of its range.
    """
    options = options_of(name, VesselOptions())
    if not (1 <= options.count <= MOST and 16 <= options.size <= 1024):
        raise UsageError(f"{name}: count 1 to {MOST} and size 16 to 1024 are possible")
    check_bytes(9 * options.count * options.size**2, name)
    made = [_case(index, options.size, seed) for index in range(options.count)]
    image, background, mask = (torch.stack(each) for each in zip(*made, strict=True))
    about = f"radiffuse vessels 1, {options}, seed {seed}"

    def pictures(data: Tensor, key: str) -> ArrayColumn:
        return ArrayColumn(data, "image", f"{name}: {key}", None, None, (0.0, 255.0))

    return Table(
        source=name,
        ids=tuple(f"vessels{index:04d}" for index in range(options.count)),
        columns={
            "image": pictures(image, "image"),
            "background": pictures(background, "background"),
            "mask": ArrayColumn(mask.to(torch.uint8), "mask", f"{name}: mask"),
        },
        mask_names={"mask": {1: "vessel"}},
        fingerprint=hashlib.sha256(about.encode()).hexdigest(),
    )


def _case(index: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, background and mask of one case, (1, S, S)."""
    draw = generator("vessels", seed, index)
    drawn = int(torch.randint(2**31, (), generator=draw))
    mask = _TREES.draw(1, (size, size), drawn)[0]
    soft = resized(downsample(mask[None]), (size, size))[0]
    contrast = float(uniform(draw, 35, 70))
    image = _ground(draw, size) - contrast * (mask + soft) / 2
    return _noisy(image, draw), _noisy(_ground(draw, size), draw), mask


def _ground(draw: Generator, size: int) -> Tensor:
    cells = torch.randn(1, 1, _CELLS, _CELLS, generator=draw)
    return float(uniform(draw, 120, 170)) + 18 * resized(cells, (size, size), corners=True)[0]


def _noisy(image: Tensor, draw: Generator) -> Tensor:
    return (image + 5 * torch.randn(image.shape, generator=draw)).clamp(0, 255)
