"""Denoisers of images of any size: continued to a whole stride, or cut into blended tiles; networks by tiles."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .denoiser import Denoiser
from .network import Given, Network
from .windows import Windows, tiled

__all__ = ["Padded", "Tiled", "by_tiles"]


class Padded(Denoiser):
    """A denoiser of images whose sides are multiples of `stride`, for images of any size.

    x_t (B, C, *S) is continued by reflection at the end of each axis, and the estimate cut back.
    """

    def __init__(self, denoiser: Denoiser, stride: int) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.stride = denoiser, denoiser.schedule, stride

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        size = x_t.shape[2:]
        missing = [-side % self.stride for side in size]
        if not any(missing):
            return self.denoiser(x_t, t)
        pads = [part for more in reversed(missing) for part in (0, more)]
        x_0 = self.denoiser(nn.functional.pad(x_t, pads, mode="reflect"), t)
        for axis, side in enumerate(size, start=2):
            x_0 = x_0.narrow(axis, 0, side)
        return x_0


class Tiled(Denoiser):
    """Images larger than the network was trained on: overlapping tiles, blended without seams.

    Args:
        denoiser: of tiles; a `Network` where there are conditions.
        tile: sides of a tile, at most the image's; an axis of 1 is left out of what the denoiser sees,
            so that a network of slices denoises a volume.
        overlap: of neighbouring tiles, an axis each (see `windows.tiled`).
        batch: tiles at once; bounds the memory.
        condition: as `Given` takes them; an image is cut as x_t is, all else goes by case.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        tile: Sequence[int],
        overlap: Sequence[int],
        batch: int = 16,
        **condition: Tensor,
    ) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.tile, self.overlap, self.batch = tuple(tile), tuple(overlap), batch
        self.condition = condition

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self._asked(lambda denoiser, x, at: denoiser(x, at), x_t, t)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        def both(denoiser: Denoiser, x: Tensor, at: Tensor) -> Tensor:
            return torch.cat(denoiser.with_variance(x, at), 1)

        mean, w = self._asked(both, x_t, t).chunk(2, 1)
        return mean, w

    def _asked(
        self, ask: Callable[[Denoiser, Tensor, Tensor], Tensor], x_t: Tensor, t: Tensor
    ) -> Tensor:
        """What `ask` says of the denoiser with the conditions of each tile, blended."""
        times = torch.as_tensor(t).expand(len(x_t))
        images = {k: c for k, c in self.condition.items() if c.shape[2:] == x_t.shape[2:]}
        others = {k: c for k, c in self.condition.items() if k not in images}

        def apply(cuts: list[Tensor], rows: Tensor) -> Tensor:
            told = dict(zip(images, cuts[1:], strict=True))
            told |= {name: value[rows.to(value.device)] for name, value in others.items()}
            at = times[rows.to(times.device)]
            if not told:
                return ask(self.denoiser, cuts[0], at)
            assert isinstance(self.denoiser, Network)
            return ask(Given(self.denoiser, **told), cuts[0], at)

        return tiled(apply, [x_t, *images.values()], self.tile, self.overlap, self.batch)


def by_tiles(network: nn.Module, tile: Sequence[int], overlap: float, at_once: int = 1) -> None:
    """Have a network of images called by overlapping tiles from now on, blended without seams; in place.

    An estimate is linear in what the network says at a noise level, so that tiles of either blend alike. Then
    only images of x_t's size are whole in memory; what lies between layers is that of `at_once` tiles. The
    network sees no further than a tile: its attention and norms are of one.

    Args:
        network: called as network(x (B, C, *S), clock (B,), image=(B, C_c, *S), ...), as `nn.UNet`.
        tile: sides of a tile, an axis each; the image's where they are longer. A side as long as the image's
            makes slabs.
        overlap: of neighbouring tiles, as a share of their side.
        at_once: tiles in one call.
    """
    whole = network.forward

    def forward(x: Tensor, clock: Tensor, image: Tensor | None = None, **told: Tensor) -> Tensor:
        size = tuple(min(side, wanted) for side, wanted in zip(x.shape[2:], tile, strict=True))
        if size == tuple(x.shape[2:]):
            return whole(x, clock, image=image, **told)

        def apply(cuts: list[Tensor], rows: Tensor) -> Tensor:
            rows = rows.to(x.device)
            each = {name: value[rows] for name, value in told.items() if value is not None}
            beside = {"image": cuts[1]} if len(cuts) > 1 else {}
            return whole(cuts[0], clock[rows], **beside, **each)

        overlaps = Windows(size, overlap=overlap).overlaps
        return tiled(apply, [x] if image is None else [x, image], size, overlaps, at_once)

    network.forward = forward
