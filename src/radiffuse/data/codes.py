"""One meaning of a value in the whole data set: which stored numbers of masks are which labels.

A picture often stores labels far apart, 0 and 255 or 0, 85, 170 and 255, so that they can be seen. Which
numbers there are is found over all files and all masks: a file that holds 0 and 255 alone says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UserError
from .columns import ArrayColumn, Column, Kind, in_threads
from .copies import named
from .image import Image
from .scan import spread, too_large

__all__ = ["CodedColumn", "check_ignored", "coded"]

MOST_CODES = 16
"""More different numbers than this are no codes of labels."""
LARGEST_LABEL = 64
"""Numbers up to this are labels as they are."""
SMALL_LABEL = 32
"""Beside labels up to this alone 255 may mean "ignore"."""
WHITE = (245, 255)
"""White of 8 bit, as JPEG leaves it."""
ENDS = 0.5
"""Share of black and white in a mask that was blurred."""
LARGEST_COUNTED = 1 << 16


def coded(
    columns: Mapping[str, Column], known: Sequence[int], source: str
) -> tuple[dict[str, Column], list[str], tuple[int, ...]]:
    """The columns with masks in labels 0, 1, 2 ...

    Args:
        columns: by key.
        known: the numbers that mean the labels 0, 1, 2 ..., of a data set before; empty: found in these.
        source: of the data, for messages.

    Returns:
        The columns, notices, and the numbers that mean the labels; () without masks.

    Raises:
        UserError: 255 beside labels 1, 2 ..., which may be a label or mean "ignore"; grey values that are no labels;
            codes that mean none of the known labels.
    """
    masks = [key for key, column in columns.items() if column.kind == "mask"]
    if not masks:
        return dict(columns), [], ()
    if known and _far_apart(known):
        codes, why = tuple(known), "as in training"
    else:
        found = {0}.union(*(_values(columns[key]) for key in masks))
        codes, why = tuple(sorted(found)), f"found over all of {' and '.join(masks)}"
        _check_grey(codes, columns, masks, source)
        if not _far_apart(codes) or (known and found <= set(known)):
            return dict(columns), [], tuple(known) or codes
        _check_known(codes, known, source)
    if not known and codes[-1] == 255 and len(codes) > 2 and codes[-2] < SMALL_LABEL:
        raise UserError(
            f"{source}: masks hold {', '.join(map(str, codes))}: 255 may be one more label or mean "
            "'ignore'; number it on, or set it to the label it stands for"
        )
    made = {**columns, **{key: CodedColumn(columns[key], codes) for key in masks}}
    told = ", ".join(f"{code} is label {label}" for label, code in enumerate(codes))
    return made, [f"{source}: masks store codes, {why}: {told}"], tuple(known) or codes


def check_ignored(
    names: Mapping[str, Mapping[int, str]], columns: Mapping[str, Column], source: str
) -> None:
    """Refuse masks that hold what their names call "ignore" (nnU-Net): voxels of which nobody says what they are.

    Args:
        names: of the numbers that masks store, by key.
        columns: as stored, whatever codes a training had.
        source: of the data, for messages.

    Raises:
        UserError: a mask holds it.
    """
    for key, named_ in names.items():
        number = next((n for n, name in named_.items() if name.strip().lower() == "ignore"), None)
        if number is None or key not in columns or columns[key].kind != "mask":
            continue
        if number in _values(columns[key]):
            raise UserError(
                f"{source}: masks hold {number}, which is named 'ignore': no class, and no background either; "
                "label these voxels, or leave their cases out"
            )


def _check_known(codes: Sequence[int], known: Sequence[int], source: str) -> None:
    """Refuse codes where training had labels as they are; 0 and 255 alone are 0 and 1, as ever."""
    if known and not (tuple(codes) == (0, 255) and tuple(known) == (0, 1)):
        raise UserError(
            f"{source}: masks hold {', '.join(map(str, codes))}, and those of the training the labels "
            f"{', '.join(map(str, known))}; number them as there"
        )


def _check_grey(
    codes: Sequence[int], columns: Mapping[str, Column], masks: Sequence[str], source: str
) -> None:
    """Refuse masks of many grey values up to white: JPEG and interpolation blur 0 and 255.

    Most voxels of what was blurred are still black or white; labels of an atlas are none of the two.
    """
    if len(codes) <= MOST_CODES or not WHITE[0] <= codes[-1] <= WHITE[1]:
        return
    for key in masks:
        for row in spread(len(columns[key]), 16):
            data = columns[key].image(row).data
            ends = float(((data == 0) | (data >= WHITE[0])).double().mean())
            if WHITE[0] <= int(data.max()) and ends > ENDS and len(_numbers(data)) > 2:
                raise UserError(
                    f"{columns[key].source(row)}: its mask holds {len(_numbers(data))} grey values up to "
                    f"{int(data.max())}, as JPEG and interpolation make them of 0 and 255; labels are wanted: "
                    "threshold it (mask > 127), and store it as PNG"
                )


def _values(column: Column) -> set[int]:
    """The numbers that a mask column stores; of a few files where it is large."""
    if isinstance(column, ArrayColumn):
        return _numbers(column.data)
    rows = spread(len(column), 64) if too_large(column) else range(len(column))
    return set[int]().union(*in_threads(lambda row: _numbers(column.image(row).data), rows))


def _numbers(data: Tensor) -> set[int]:
    """The different values of a tensor."""
    low, high = (int(end) for end in data.aminmax())
    if data.is_floating_point() or low < 0 or high > LARGEST_COUNTED:
        return {int(value) for value in torch.unique(data).tolist()}
    return set(torch.bincount(data.flatten()).nonzero()[:, 0].tolist())  # no sorting of volumes


def _far_apart(codes: Sequence[int]) -> bool:
    """Whether numbers are codes of labels that were spread to be seen, not labels themselves."""
    return 0 < len(codes) <= MOST_CODES and max(codes) > LARGEST_LABEL and min(codes) >= 0


@dataclass(frozen=True)
class CodedColumn:
    """Masks whose stored numbers stand for labels.

    Attributes:
        column: as stored.
        codes: the number that means label 0, 1, 2 ...
    """

    column: Column
    codes: tuple[int, ...]

    @property
    def kind(self) -> Kind:
        return self.column.kind

    def __len__(self) -> int:
        return len(self.column)

    def _labels(self, data: Tensor, row: int) -> Tensor:
        table = torch.tensor(self.codes, device=data.device)
        place = torch.searchsorted(table, data.long().contiguous()).clamp(max=len(table) - 1)
        other = data[table[place] != data]
        if len(other):
            raise UserError(
                f"{self.column.source(row)}: a mask holds {int(other[0])}, and the codes of labels in "
                f"these data are {', '.join(map(str, self.codes))}; mend it, or leave the case out"
            )
        return place.to(torch.uint8)

    def image(self, row: int) -> Image:
        image = self.column.image(row)
        return replace(image, data=self._labels(image.data, row), range=None)

    def stack(self, rows: Sequence[int]) -> Tensor:
        stored = self.column.stack(rows)
        parts = [self._labels(one, row) for row, one in zip(rows, stored, strict=True)]
        return torch.stack(parts)

    def to_size(self, size: tuple[int, ...]) -> "CodedColumn":
        return replace(self, column=self.column.to_size(size))

    def as_kind(self, kind: Kind) -> "CodedColumn":
        return replace(self, column=self.column.as_kind(kind))

    def hashed(self, row: int) -> str:
        return self.column.hashed(row)

    def stamp(self, row: int) -> str:
        return named(self.column.stamp(row), self.codes)

    def source(self, row: int) -> str:
        return self.column.source(row)
