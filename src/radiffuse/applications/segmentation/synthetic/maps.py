"""Soft label maps: shares of every voxel that are outside, tissues, and the labels to be segmented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ....data.cases import Cases
from ....data.columns import ArrayColumn, Column, Kind, content_hash
from ....data.image import Image
from ....errors import UserError
from ...losses import segmentation_loss

__all__ = ["BODY", "EMPTY", "Maps", "as_images", "likeness", "smoothed"]

BODY = -0.9
"""Where images are brighter there is body, in data without tissues."""
EMPTY = 0.075
"""Where nothing that is drawn takes a larger share, it is outside (the authors' number)."""


@dataclass(frozen=True)
class Maps:
    """How label maps are made of data, and read.

    A map has 1 + T + L channels: outside, the tissues, the labels. They add up to 1 at every voxel. A voxel has label k
    where all labels together take half of it or more and k most of that; so the labels of a map made of masks are the
    masks.

    Attributes:
        tissues: T.
        labels: L.
        soft: shares; else every voxel is one thing.
    """

    tissues: int
    labels: int
    soft: bool = True

    @property
    def channels(self) -> int:
        """1 + T + L."""
        return 1 + self.tissues + self.labels

    def of(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The maps (B, 1 + T + L, *S) of a batch with "mask", and "shares", "tissue" or "image".

        Shares of tissues are the data's. A mask keeps half of every voxel for its label, and gives the other half
        to the labels around.

        Raises:
            UserError: a label that the model does not know.
        """
        labels = self._encoded(batch["mask"], self.labels, "mask")[:, 1:]
        found = torch.cat([self._tissues(batch) * (1 - labels.sum(1, keepdim=True)), labels], 1)
        return found if self.soft else self.hard(found)

    def _tissues(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Shares of outside and of each tissue, (B, 1 + T, *S)."""
        if "shares" in batch:
            return normalised((batch["shares"].float() + 1) / 2)
        if "tissue" in batch:
            return self._encoded(batch["tissue"], self.tissues, "tissue")
        inside = (batch["image"].amax(1, keepdim=True) > BODY).long()
        return self._encoded(inside, 1, "tissue")

    def _encoded(self, mask: Tensor, most: int, key: str) -> Tensor:
        """Softened one-hot channels of labels 0 to `most`."""
        if int(mask.min()) < 0 or int(mask.max()) > most:
            label = int(mask.min()) if int(mask.min()) < 0 else int(mask.max())
            raise UserError(f"{key} holds label {label}, and the model knows 0 to {most}")
        one_hot = F.one_hot(mask[:, 0], most + 1).movedim(-1, 1).float()
        return (one_hot + smoothed(one_hot)) / 2 if self.soft else one_hot

    def image(self, maps: Tensor) -> Tensor:
        """Maps as an image in [-1, 1]."""
        return 2 * maps - 1

    def drawn(self, image: Tensor) -> Tensor:
        """Maps of such an image as a decoder makes it: cut to [0, 1], shares add up to 1, and where none is worth
        naming it is outside."""
        shares = ((image.float() + 1) / 2).clamp(0, 1)
        empty = shares[:, 1:].amax(1, keepdim=True) < EMPTY
        outside = torch.where(empty, 1.0, shares[:, :1])
        found = normalised(torch.cat([outside, shares[:, 1:]], 1))
        return found if self.soft else self.hard(found)

    def mask(self, maps: Tensor) -> Tensor:
        """The labels int64 (B, 1, *S), 0 elsewhere."""
        labels = maps[:, 1 + self.tissues :]
        there = labels.sum(1, keepdim=True) >= 0.5
        return torch.where(there, 1 + labels.argmax(1, keepdim=True), 0)

    def hard(self, maps: Tensor) -> Tensor:
        """One-hot maps: the label of `mask`, elsewhere the tissue of the largest share."""
        mask, tissue = self.mask(maps), maps[:, : 1 + self.tissues].argmax(1, keepdim=True)
        what = torch.where(mask > 0, self.tissues + mask, tissue)
        return F.one_hot(what[:, 0], self.channels).movedim(-1, 1).to(maps)


def normalised(shares: Tensor) -> Tensor:
    """Shares (B, K, *S) that add up to 1; a voxel of nothing is the first."""
    shares = shares.clamp(0, 1)
    total = shares.sum(1, keepdim=True)
    first = torch.zeros_like(shares)
    first[:, 0] = 1
    return torch.where(total > 1e-3, shares / total.clamp_min(1e-3), first)


def likeness(made: Tensor, image: Tensor) -> Tensor:
    """Cross-entropy and soft Dice of maps as images (B, K, *S) in [-1, 1]; ()."""
    shares, truth = ((x.float() + 1) / 2 for x in (made, image))
    return segmentation_loss(shares.clamp_min(1e-6).log(), truth)


def smoothed(x: Tensor) -> Tensor:
    """(B, C, *S) weighed 1/4, 1/2, 1/4 along every axis; the border goes on."""
    for axis in range(2, x.ndim):
        last = x.shape[axis] - 1
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], axis)
        after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
        x = x / 2 + (before + after) / 4
    return x


@dataclass(frozen=True)
class _MapColumn:
    """The maps of cases, made when they are asked for."""

    maps: Maps
    cases: Cases

    @property
    def kind(self) -> Kind:
        return "image"

    def __len__(self) -> int:
        return len(self.cases.all_ids)

    def stack(self, rows: Sequence[int]) -> Tensor:
        batch = replace(self.cases, rows=tuple(rows)).batch(range(len(rows)))
        return self.maps.image(self.maps.of(batch))

    def image(self, row: int) -> Image:
        return Image(self.stack([row])[0], range=(-1.0, 1.0))

    def to_size(self, size: tuple[int, ...]) -> "_MapColumn":
        raise NotImplementedError("maps have the size of their cases")

    def as_kind(self, kind: Kind) -> "_MapColumn":
        raise NotImplementedError("maps are images")

    def hashed(self, row: int) -> str:
        return content_hash(self.stack([row])[0])

    def stamp(self, row: int) -> str:
        return ""

    def source(self, row: int) -> str:
        return f"map of {self.cases.columns['mask'].source(row)}"


def as_images(
    cases: Cases, maps: Maps, flags: Sequence[str] = (), numbers: Sequence[str] = ()
) -> Cases:
    """The same cases with their maps as "image" (B, 1 + T + L, *S) in [-1, 1].

    Args:
        cases, maps: of these.
        flags: names of numbers, 0 or 1, that say which labels a case holds; all of them or none.
        numbers: columns that stay.
    """
    columns: dict[str, Column] = {"image": _MapColumn(maps, cases)}
    if flags:
        columns |= _flags(cases, maps, flags)
    columns |= {name: cases.columns[name] for name in numbers}
    known = f"maps {maps} {cases.fingerprint}"
    return replace(cases, columns=columns, ranges={"image": (-1.0, 1.0)}, shapes={}, known=known)


def _flags(cases: Cases, maps: Maps, names: Sequence[str]) -> dict[str, Column]:
    found = torch.zeros(len(cases.all_ids), len(names))
    for first in range(0, len(cases), 64):
        rows = range(first, min(first + 64, len(cases)))
        mask = cases.batch(rows)["mask"].flatten(1)
        for label in range(len(names)):
            there = (mask == label + 1).any(1).float()
            found[torch.tensor([cases.rows[row] for row in rows]), label] = there
    return {
        name: ArrayColumn(found[:, k].clone(), "scalar", f"flags of {cases.source}")
        for k, name in enumerate(names)
    }
