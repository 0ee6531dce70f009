"""One image as stored: numbers, geometry, modality and value range together."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .shown import png


@dataclass(frozen=True, repr=False)
class Image:
    """One image, volume or series in its stored units.

    Attributes:
        data: `(C, *S)` with one to three spatial axes S. The type is the stored one where torch
            can hold it (uint8, int16, float32 ...; uint16 becomes int32). A picture's axes are
            (rows, columns); a volume's are its file's index axes. The fourth axis of a 4-D NIfTI
            is the channel axis.
        affine: `(4, 4)` float64, index (i, j, k, 1) -> (x, y, z, 1) in mm, RAS+ (x grows to the
            patient's right, y to the front, z to the head). None where no geometry is known.
        modality: "MR", "CT", ... where the file says so.
        range: value range that the encoding declares (uint8 -> (0, 255)); None where it does not.
        format: ending of the file it came from (".nii.gz", ".png", ".dcm" ...); None if none.
        frame_seconds: time from one channel to the next, of a series in time whose file declares it.
        own: axis codes of the file ("LAS") where a volume was turned since; `save_image` turns it back.
        files: of a DICOM image, those it was read from, in the order of its slices: what is made of it refers to them.
        frames: which frames of its only file it is, from 0; None where it is all of its files.
        placed: False where the affine holds voxel sizes alone, and where they lie was assumed.
        world: what the affine's places are counted in, FrameOfReferenceUID of DICOM; "" where nothing says it.
        two_axes: whether its file, NIfTI, has two axes, and no third of length one.
        labels: code, label and meaning of what the labels 1, 2 ... show, of a segmentation that says it.
    """

    data: Tensor
    affine: Tensor | None = None
    modality: str | None = None
    range: tuple[float, float] | None = None
    format: str | None = None
    frame_seconds: float | None = None
    own: str | None = None
    files: tuple[Path, ...] = ()
    frames: tuple[int, ...] | None = None
    placed: bool = True
    world: str = ""
    labels: tuple[tuple[str, str, str], ...] = ()
    two_axes: bool = False

    def __repr__(self) -> str:
        """Channels, size, type, values and geometry, in one line."""
        kind = str(self.data.dtype).removeprefix("torch.")
        said = [f"{len(self.data)} x {' x '.join(map(str, self.size))} {kind}"]
        if self.data.numel():
            said.append(f"{float(self.data.min()):.4g} to {float(self.data.max()):.4g}")
        if self.spacing_mm:
            said.append(f"{' x '.join(f'{mm:.3g}' for mm in self.spacing_mm)} mm")
        said += [part for part in (orientation_of(self), self.modality) if part]
        return f"Image({', '.join(said)})"

    def _repr_png_(self) -> bytes:
        """In a notebook: its window is `range`, or its smallest and largest value; volumes lie in RAS."""
        shown = upright(self)
        data = shown.data.abs() if shown.data.is_complex() else shown.data.double()
        low, high = self.range or (float(data.min()), float(data.max()))
        return png((2 * (data - low) / max(high - low, 1e-12) - 1).clamp(-1, 1).numpy())

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size S."""
        return tuple(self.data.shape[1:])

    @property
    def flat(self) -> bool:
        """Whether it is a picture, of rows and columns."""
        return len(self.size) == 2

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Distance in mm between neighbours along each spatial axis: lengths of affine columns.

        The diagonal of an oblique affine says something else and is never used.
        """
        if self.affine is None:
            return None
        lengths = self.affine[:3, :3].norm(dim=0)
        return tuple(float(length) for length in lengths[: len(self.size)])


def axis_codes(affine: Tensor, axes: int = 3) -> str:
    """Where each index axis points, nearest of R L A P S I, for example "RAS" or "LPS".

    The assignment of index axes to world axes maximises the total absolute cosine, one to one.
    """
    order, signs = _orientation(affine)
    names = ("LR", "PA", "IS")
    return "".join(names[order[i]][int(signs[i] > 0)] for i in range(axes))


def _orientation(affine: Tensor) -> tuple[list[int], list[int]]:
    """World axis and sign of each index axis."""
    cosines = affine[:3, :3] / affine[:3, :3].norm(dim=0).clamp_min(1e-12)
    permutations = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))

    def agreement(order: tuple[int, ...]) -> float:
        return sum(abs(float(cosines[world, i])) for i, world in enumerate(order))

    order = max(permutations, key=agreement)
    return list(order), [1 if cosines[world, i] >= 0 else -1 for i, world in enumerate(order)]


def oriented(image: Image, codes: str = "RAS") -> Image:
    """Flip and permute the axes of a volume, or of a picture in its plane, so that they point along `codes`; no
    resampling.

    World coordinates of every voxel stay what they were.

    Raises:
        ValueError: the image has no affine, or `codes` is no orientation, or one of another plane.
    """
    axes = len(image.size)
    if image.affine is None or axes not in (2, 3):
        raise ValueError("only an image with an affine can be reoriented")
    world = ["RLAPSI".find(code) // 2 for code in codes]
    order, signs = _orientation(image.affine)
    if sorted(world) != sorted(order[:axes]):
        raise ValueError(f"{codes!r} is no orientation such as 'RAS', or of another plane")
    source = [order.index(axis) for axis in world]
    data = image.data.permute(0, *(axis + 1 for axis in source))
    move = torch.eye(4, dtype=torch.float64)
    move[:axes, :axes] = 0
    flips = []
    for target, axis in enumerate(source):
        wanted = 1 if codes[target] in "RAS" else -1
        if signs[axis] == wanted:
            move[axis, target] = 1
        else:
            move[axis, target] = -1
            move[axis, 3] = image.size[axis] - 1
            flips.append(target + 1)
    data = data.flip(flips) if flips else data
    return replace(image, data=data.contiguous(), affine=image.affine @ move)


def upright(image: Image) -> Image:
    """A volume in RAS, as `shown.planes` takes it; pictures, and what has no geometry, as they are."""
    return oriented(image, "RAS") if orientation_of(image) else image


def codes_of(image: Image) -> str:
    """Axis codes of a volume, or of a picture that says where it lies ("RA"); "" where no geometry is known."""
    if image.affine is None or not image.flat or not image.placed:
        return orientation_of(image)
    return axis_codes(image.affine, 2)


def of_one_plane(codes: str, others: str) -> bool:
    """Whether two orientations are flips and permutations of each other."""
    return sorted("RLAPSI".index(c) // 2 for c in codes) == sorted(
        "RLAPSI".index(c) // 2 for c in others
    )


def orientation_of(image: Image) -> str:
    """Axis codes of a volume, for example "RAS"; "" of pictures and where no geometry is known."""
    return axis_codes(image.affine) if image.affine is not None and len(image.size) == 3 else ""
