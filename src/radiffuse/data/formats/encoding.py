"""What the header of an ISMRMRD file says of its encoding: matrix, field of view, counters."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError

STACKS = ("contrast", "phase", "repetition", "set")
"""Counters that part the slices or volumes of a file into stacks."""
LONGEST = 65535
"""Samples of an axis that the format can number."""
COUNTERS = ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", *STACKS)


@dataclass(frozen=True)
class Encoding:
    """What the header says of its one encoding.

    Attributes:
        matrix: samples of a readout, lines, partitions.
        kept: samples of a readout that are left without oversampling.
        spacing_mm: of voxels along readout, lines and partitions (of slices: their thickness).
        middle: counters of the line and the partition in the centre of k-space.
        limits: lowest and highest value by counter, where the header says them.
    """

    matrix: tuple[int, int, int]
    kept: int
    spacing_mm: tuple[float, float, float]
    middle: tuple[int, int]
    limits: dict[str, tuple[int, int]]

    @property
    def size(self) -> tuple[int, int, int]:
        """Samples, lines, partitions of a case."""
        return (self.kept, *self.matrix[1:])

    @property
    def volume(self) -> bool:
        """Whether a case is a volume, not a slice."""
        return self.matrix[2] > 1


def _header(scan: Any, path: Path) -> Any:
    from xsdata.exceptions import ConverterWarning, ParserError

    try:
        with warnings.catch_warnings():
            # a value that is not of its type stays a text: it matters only if it is one of ours
            warnings.simplefilter("ignore", ConverterWarning)
            return scan.header
    except (ParserError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        raise UserError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:160]
    return f"{path}: its ISMRMRD header (xml) cannot be read ({reason}); mend it"


def encoding_of(scan: Any, path: Path) -> Encoding:
    """The one Cartesian encoding of a file.

    Raises:
        UserError: the header cannot be read or contradicts itself, or there are several encodings or
            another trajectory.
    """
    header = _header(scan, path)
    if len(header.encoding) != 1:
        raise UserError(
            f"{path}: holds {len(header.encoding)} encodings, which may differ in size and place; write "
            "each to a file of its own"
        )
    said = header.encoding[0]
    trajectory = getattr(said.trajectory, "value", said.trajectory)
    if trajectory != "cartesian":
        raise UserError(
            f"{path}: its trajectory is {trajectory}, and only cartesian readouts are read; grid it to "
            "Cartesian k-space first"
        )
    spaces = (said.encodedSpace, said.reconSpace)
    try:
        sizes = np.array([[int(getattr(s.matrixSize, axis)) for axis in "xyz"] for s in spaces])
        fields = np.array(
            [[float(getattr(s.fieldOfView_mm, axis)) for axis in "xyz"] for s in spaces]
        )
        limits = {
            counter: (int(limit.minimum), int(limit.maximum), int(limit.center))
            for counter in COUNTERS
            if (limit := getattr(said.encodingLimits, counter.replace("encode_", "encoding_")))
        }
    except (ValueError, TypeError) as error:
        raise UserError(_unreadable(path, error)) from None
    if (
        not ((sizes > 0) & (sizes <= LONGEST)).all()
        or not (fields > 0).all()
        or not np.isfinite(fields).all()
    ):
        raise UserError(
            f"{path}: its header says matrices {sizes.tolist()} and fields of view {fields.tolist()} mm "
            f"of encodedSpace and reconSpace; all must be greater than 0, and matrices up to {LONGEST}"
        )
    nx, ny, nz = (int(n) for n in sizes[0])
    dx, dy, dz = (float(d) for d in fields[0] / sizes[0])
    line, partition = COUNTERS[:2]
    return Encoding(
        (nx, ny, nz),
        _kept(sizes[:, 0], fields[:, 0], path),
        (dx, dy, dz),
        (limits.get(line, (0, 0, ny // 2))[2], limits.get(partition, (0, 0, nz // 2))[2]),
        {name: (low, high) for name, (low, high, _) in limits.items()},
    )


def _kept(samples: np.ndarray, fields: np.ndarray, path: Path) -> int:
    """Samples of a readout without oversampling: as many as the field of view of reconSpace takes."""
    encoded, wanted = (int(n) for n in samples)
    exact = encoded * fields[1] / fields[0]
    if abs(exact - wanted) < 1:
        return min(encoded, wanted)
    if wanted < encoded:
        raise UserError(
            f"{path}: its readouts have {encoded} samples over {fields[0]:g} mm (encodedSpace), its "
            f"images {wanted} over {fields[1]:g} mm (reconSpace): voxels differ, so that oversampling "
            "cannot be told from resolution; mend the header"
        )
    # an image that is interpolated has more voxels than were measured
    return min(encoded, max(1, round(exact)))
