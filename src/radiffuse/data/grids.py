"""Registration pairs as `open_cases` checks them: one grid, something to see, masks that fit."""

from collections.abc import Mapping, Sequence

from ..errors import UserError
from .columns import Column
from .geometry import agree, apart
from .scan import Seen

PAIR = ("moving", "fixed")


def check_pair(
    columns: Mapping[str, Column], seen: Mapping[str, Seen], source: str, ids: Sequence[str]
) -> None:
    """Check the keys `moving` and `fixed`, and the masks of either, where the data have both.

    Raises:
        UserError: an image of one grey value, a pair on two grids, a mask of another size.
    """
    if any(key not in columns or columns[key].kind != "image" for key in PAIR):
        return
    for key in PAIR:
        if seen[key].constant:
            row = seen[key].constant[0]
            raise UserError(
                f"{source}: the {key} image of case {ids[row]} is empty (one grey value "
                "throughout); there is nothing to register, leave the case out"
            )
    if len(seen["moving"].shapes) == len(ids):  # a set too large to be read was looked at in part
        for row, case in enumerate(ids):
            _check_grids(row, case, columns, source)
    for key in PAIR:
        if f"{key}_mask" in columns:
            _check_mask(key, seen, source, ids)


def _check_mask(key: str, seen: Mapping[str, Seen], source: str, ids: Sequence[str]) -> None:
    both = zip(seen[key].shapes, seen[f"{key}_mask"].shapes, strict=False)
    for row, (image, mask) in enumerate(both):
        if image[1:] != mask[1:]:
            raise UserError(
                f"{source}: the {key}_mask of case {ids[row]} has {_sides(mask[1:])} voxels, its "
                f"image {_sides(image[1:])}; a mask must lie on the grid of its image"
            )


def _check_grids(row: int, case: str, columns: Mapping[str, Column], source: str) -> None:
    moving, fixed = (columns[key].image(row) for key in PAIR)
    if moving.size == fixed.size and agree(moving.affine, fixed.affine, fixed.size):
        return
    how = f"{_sides(moving.size)} and {_sides(fixed.size)} voxels"
    if moving.size == fixed.size:
        gap = apart(moving.affine, fixed.affine, fixed.size)
        how = f"their affines put a corner {gap:.3g} mm apart"
    raise UserError(
        f"{source}: moving and fixed of case {case} lie on different grids ({how}); resample the "
        "moving image onto the fixed one's grid first, as SimpleITK.Resample(moving, fixed) does"
    )


def _sides(size: Sequence[int]) -> str:
    return " x ".join(str(side) for side in size)
