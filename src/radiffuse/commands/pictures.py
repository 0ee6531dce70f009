"""Writing what a command made: samples, outputs in the format of their inputs, a sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..applications.task import Task
from ..data.cases import Cases
from ..data.formats.by_ending import affine_of, natural_ending, read_image, save_image, save_like
from ..data.formats.by_ending import like as in_values_of
from ..data.formats.nifti import write_displacement
from ..data.image import Image, oriented
from ..data.made import Made
from ..data.shown import planes
from ..data.transforms import resize, to_unit
from ..errors import UserError
from ..runs.run import Run

SHEET = "sheet.png"


def template(run: Run) -> Image:
    """An empty image stored as the training images are: type, range and geometry.

    Of DICOM they become DICOM, of a new patient who is called synthetic; else grey or colour images become .png, and
    all else .nii.gz. A .png cannot hold fractions or values below zero: for such data its values are 0 to 65535
    (colour: 0 to 255) over their range.
    """
    data = run.manifest.get("data", {})
    stored, facts = data.get("stored", {}), data.get("facts", {})
    key = next(iter(facts.get("channels", {})), None)
    size = tuple(facts["size"][key]) if key else ()
    channels = facts["channels"][key] if key else 1
    affine = stored.get("affine")
    limits = tuple(stored.get("range") or (0.0, 255.0))
    picture = len(size) == 2 and channels in (1, 3)
    image = Image(
        torch.zeros(channels, *size, dtype=getattr(torch, stored.get("dtype", "uint8"))),
        None if affine is None else torch.tensor(affine, dtype=torch.float64),
        range=(limits[0], limits[1]),
        format=".png" if picture else ".nii.gz",
    )
    modalities = stored.get("modality") or {}
    if stored.get("format") == ".dcm" and natural_ending(replace(image, format=".dcm")) == ".dcm":
        return replace(image, format=".dcm", modality=next(iter(modalities.values()), None))
    if not picture or _fits_a_picture(image):
        return image
    top, kind = (255, torch.uint8) if channels == 3 else (65535, torch.int32)
    return replace(image, data=image.data.to(kind), range=(0.0, float(top)))


def _fits_a_picture(image: Image) -> bool:
    low, high = image.range or (0.0, 255.0)
    deepest = 255 if len(image.data) == 3 else 65535
    return not image.data.is_floating_point() and low >= 0 and high <= deepest


def volume_like(run: Run, cases: Cases, row: int) -> Image:
    """An empty volume to be filled from a picture: on the grid of the case's own volume, or of the training's.

    Raises:
        UserError: the picture's pixels are known to be of another size than the training's voxels.
    """
    for key in (key for key in run.recipe.task.reads if key in cases.columns):
        own = cases.image(row, key)
        return replace(own, data=torch.zeros_like(own.data), range=None)
    size, axis = run.recipe.size, run.recipe.axis
    shape = (*size[1 : axis + 1], size[0], *size[axis + 1 :])
    affine = run.manifest.get("data", {}).get("stored", {}).get("affine")
    known = None if affine is None else torch.tensor(affine, dtype=torch.float64)
    volume = Image(torch.zeros(1, *shape, dtype=torch.uint8), known, format=".nii.gz")
    for key in (key for key in run.recipe.task.pictures if key in cases.columns):
        pixels, voxels = cases.image(row, key).spacing_mm, volume.spacing_mm
        if pixels is None or voxels is None:
            continue
        seen = tuple(step for k, step in enumerate(voxels) if k != axis)
        if any(abs(a - b) > 0.01 * b for a, b in zip(pixels, seen, strict=True)):
            mine, its = (" x ".join(f"{step:.4g}" for step in each) for each in (pixels, seen))
            raise UserError(
                f"{cases.where(row, key)}: has pixels of {mine} mm, and the model was trained on voxels of "
                f"{its} mm; resample the picture"
            )
    return volume


def displaced(key: str) -> bool:
    """Whether an output is a field of displacements, or a series in time: these are NIfTI whatever the input is."""
    return key.partition("-")[0] in ("displacement", "path")


def as_output(value: Tensor, like: Image, raw: bool = False, labels: bool = False) -> Image:
    """An output on the grid of its input: in its values, as labels, or as the numbers it is (`raw`)."""
    if not raw:
        return in_values_of(like, value, labels=labels)
    data = value.detach().float().cpu()
    return replace(like, data=data, affine=affine_of(like, data), range=None)


def write_output(
    value: Tensor, like: Image, name: Path, raw: bool = False, made: Made | None = None
) -> str | float | list[float]:
    """Write an image or a label map like its input, and return the file's name.

    A `raw` image becomes a float32 NIfTI of the values themselves, a raw `displacement` (voxels) a
    vector NIfTI in mm, and a `path` (one channel a frame) a 4-D NIfTI. Anything else (a class
    probability, a vector) comes back as plain numbers for the JSON file.
    """
    file = name.with_name(name.name + ".nii.gz")
    if name.name.endswith(("-displacement", "-displacement-mean")):
        write_displacement(value, like.affine, file, made)
        return file.name
    if name.name.endswith(("-path", "-path-mean")):
        return save_like(like, value, file, made=made).name
    if value.dim() != len(like.size) + 1:
        numbers: float | list[float] = value.tolist()
        return numbers
    if raw:
        return save_image(as_output(value, like, raw=True), file, made).name
    return save_like(like, value, name, labels=not value.is_floating_point(), made=made).name


def not_finite(outputs: Mapping[str, Tensor]) -> str | None:
    """The first key with a value that is NaN or infinite."""
    return next((key for key, value in outputs.items() if not value.isfinite().all()), None)


def diverged(run: Run, case: str, key: str) -> UserError:
    """What to tell of a case whose output is not finite."""
    ways = {"more steps (--steps N)": hasattr(run.recipe, "steps")}
    ways["another sampler (--set sampler=NAME)"] = "sampler" in getattr(
        run.recipe, "AFTER_TRAINING", ()
    )
    ways["a model trained longer or at a lower learning rate"] = not any(ways.values())
    return UserError(
        f"{case}: '{key}' holds values that are not finite, so nothing of it is written; "
        f"try {' or '.join(way for way, open_ in ways.items() if open_)}"
    )


def said_of(outputs: Mapping[str, Tensor], like: Image, task: Task) -> dict[str, Any]:
    """What `predictions.json` says of a case beyond files and values: units and spacing."""
    known = like.affine is not None
    if task.pictures:
        spacing = list(like.spacing_mm or ()) or "unknown: voxels of 1 mm are assumed"
        return {"spacing_mm": spacing}
    if "displacement" not in outputs:
        return {}
    return {
        "displacement": {
            "unit": "mm",
            "axes": "LPS",
            "geometry": "of the fixed image" if known else "unknown: voxels of 1 mm are assumed",
        }
    }


def write_sheet(folder: Path, files: Sequence[Path], most: int = 64, side: int = 128) -> None:
    """Write `sheet.png`: the first images side by side; volumes by their middle slices in three planes."""
    tiles = [_tile(read_image(file), side) for file in files[:most]]
    channels = max(len(tile) for tile in tiles)
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (1, 2))
    across = next(n for n in range(1, most + 1) if n * n >= len(tiles))
    down = -(-len(tiles) // across)
    sheet = torch.zeros(channels, down * height, across * width)
    for number, tile in enumerate(tiles):
        top, left = number // across * height, number % across * width
        sheet[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
    save_image(Image((sheet * 255).round().to(torch.uint8), range=(0, 255)), folder / SHEET)


def _tile(image: Image, side: int) -> Tensor:
    """`(1 or 3, rows, columns)` in [0, 1], a plane at most `side` long.

    A volume shows its middle slices as a radiologist sees them (`report.pictures.planes`).
    """
    if len(image.size) > 2 and image.affine is not None:
        image = oriented(image, "RAS")
    data = image.data
    low, high = image.range or (float(data.min()), float(data.max()))
    x = (to_unit(data, (low, max(high, low + 1e-6))) + 1) / 2
    if len(image.size) == 1:
        x = x[:, None]
    elif len(image.size) > 2:
        x = torch.from_numpy(planes(x.numpy(), black=0.0))
    shrink = max(1.0, max(image.size) / side)
    x = resize(x, [max(1, round(length / shrink)) for length in x.shape[1:]])
    return x if len(x) == 3 else x[:1]
