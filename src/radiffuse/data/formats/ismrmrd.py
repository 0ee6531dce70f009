"""ISMRMRD files: Cartesian readouts sorted into k-space by their counters, with their place in space.

The format: Inati et al. 2017, https://doi.org/10.1002/mrm.26089.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..columns import ArrayColumn
from ..table import Table
from .encoding import COUNTERS, STACKS, Encoding, encoding_of
from .prewhiten import whitened, whitening
from .readouts import Stretch, placed, stretch
from .stored import DAMAGED_HDF5, check_bytes, check_regular, hdf5_member

READ_AT_ONCE = 512
"""Readouts held in memory beside the k-space they are sorted into."""


def is_ismrmrd(path: Path) -> bool:
    """Whether an HDF5 file holds ISMRMRD data: a group `dataset` with `xml`, and no fastMRI `kspace`.

    Raises:
        UserError: its data lie in another file.
    """
    import h5py

    check_regular(path)
    try:
        with h5py.File(path) as file:
            if "kspace" in set(file) or "dataset" not in set(file):
                return False
            group = hdf5_member(file, "dataset", path)
            members = set(group) if isinstance(group, h5py.Group) else set()
            for name in {"xml", "data"} & members:
                member = hdf5_member(group, name, path)
                check_bytes(getattr(member, "nbytes", 0), path)  # of a group: 0
            return "xml" in members
    except DAMAGED_HDF5:
        return False


def check_no_stream(path: Path) -> None:
    """Refuse what is called .mrd and is no HDF5 file: the stream of a scanner's connection.

    Raises:
        UserError: it is one.
    """
    import h5py

    if path.suffix.lower() == ".mrd" and not h5py.is_hdf5(path):
        raise UserError(
            f"{path}: is no HDF5 file, as the .mrd files are that can be read; convert streams (mrd_stream_to_hdf5)"
        )


def open_ismrmrd(path: Path) -> Table:
    """ISMRMRD .h5: one case per slice, or per volume where partitions are encoded.

    `kspace` is complex `(coils, readout, lines[, partitions])`, its centre in the middle, without the
    oversampling of the readout, the mean of the averages, and 0 where nothing was measured. Noise scans
    whiten the coils; calibration and correction scans are left out. The affine of the image on that
    grid is RAS+. Slices are numbered along their normal; the patient is the file.

    Raises:
        UserError: the package is missing, or the file is damaged, not Cartesian, of several encodings,
            without readouts, or its readouts do not fit its header or each other, or hold NaN.
    """
    try:
        import ismrmrd
    except ImportError:
        raise UserError(
            f"{path}: is an ISMRMRD file, which needs a package: pip install 'radiffuse[ismrmrd]'"
        ) from None
    # the library's own default opens files for writing
    with ismrmrd.File(path, mode="r") as file:
        scan = file["dataset"]
        encoding = encoding_of(scan, path)
        heads = _heads(scan, path)
        rows = np.flatnonzero(_of_images(heads))
        if not len(rows):
            raise UserError(f"{path}: holds {len(heads)} readouts, and none of them is of an image")
        place = stretch(heads, _flagged(heads, ismrmrd.ACQ_IS_REVERSE), encoding.matrix[0])
        _check(heads, rows, place, encoding, path)
        case_of, firsts, numbers = _cases(heads, rows)
        kspace, noise = _sorted(scan, heads, case_of, place, encoding, path)
    affines = [_affine(head, encoding) for head in heads[firsts]]
    lost = [affine is None for affine in affines]
    notices = [f"{path}: does not say where it lies; there is no geometry"] if any(lost) else []
    if noise is not None and (mixture := whitening(noise)) is not None:
        kspace = whitened(kspace, mixture)
        notices.append(
            f"{path}: coils are mixed to white noise, by {noise.shape[1]} samples of noise in it; the brightness is "
            "that of before in the mean, but shaded where coils share noise or differ in it"
        )
    column = ArrayColumn(
        kspace,
        "raw",
        f"{path}: kspace",
        None if any(lost) else torch.from_numpy(np.stack([a for a in affines if a is not None])),
        "MR",
    )
    ids = _ids(path.stem, heads[firsts], encoding.volume)
    texts = {} if encoding.volume else {"slice": tuple(str(number) for number in numbers)}
    patients = (path.stem,) * len(ids)
    return Table(str(path), ids, {"kspace": column}, patients, texts=texts, notices=notices)


def _heads(scan: Any, path: Path) -> np.ndarray:
    """Headers of all acquisitions."""
    readouts = scan.acquisitions
    if readouts is None or not len(readouts):
        raise UserError(f"{path}: holds no acquisitions, only the header of a scan")
    try:
        return np.asarray(readouts.data["head"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: its acquisitions are damaged or no ISMRMRD readouts") from None


def _flagged(heads: np.ndarray, *flags: int) -> np.ndarray:
    """Which readouts have any of the flags (N,)."""
    bits = sum(1 << (flag - 1) for flag in flags)
    return (heads["flags"] & np.uint64(bits)) != 0


def _of_images(heads: np.ndarray) -> np.ndarray:
    """Which readouts are lines of an image (N,)."""
    import ismrmrd

    never = _flagged(
        heads,
        ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
        ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
        ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
        ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
        ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION_REFERENCE,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION,
    )
    calibration = _flagged(heads, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
    # scanners set both flags on lines that serve both
    both = _flagged(heads, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    return ~never & (both | ~calibration)


def _of_noise(heads: np.ndarray, coils: int) -> np.ndarray:
    """Which readouts are noise alone, of the coils of the image (N,)."""
    import ismrmrd

    alone = _flagged(heads, ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    return np.asarray(alone & (heads["active_channels"] == coils))


def _check(
    heads: np.ndarray, rows: np.ndarray, place: Stretch, encoding: Encoding, path: Path
) -> None:
    """Refuse readouts that do not fit the header or each other.

    Raises:
        UserError: names the first such readout.
    """
    for name, unit in (("number_of_samples", "samples"), ("active_channels", "coils")):
        values = heads[name][rows]
        if (other := np.flatnonzero(values != values[0])).size:
            raise UserError(
                f"{path}: {_named(heads, rows[other[0]])} has {values[other[0]]} {unit}, readout "
                f"{rows[0]} has {values[0]}; readouts of different length belong in files of their own"
            )
    _check_counters(heads, rows, encoding, path)
    fits = (place.first < place.stop) & (place.start >= 0) & (place.end <= encoding.matrix[0])
    if (bad := rows[~fits[rows]]).size:
        head, row = heads[bad[0]], bad[0]
        raise UserError(
            f"{path}: {_named(heads, row)} does not fit the {encoding.matrix[0]} samples of encodedSpace: "
            f"number_of_samples {head['number_of_samples']}, center_sample {head['center_sample']}, "
            f"discard_pre {head['discard_pre']}, discard_post {head['discard_post']}; mend the headers"
        )


def _check_counters(heads: np.ndarray, rows: np.ndarray, encoding: Encoding, path: Path) -> None:
    if (bad := rows[heads["encoding_space_ref"][rows] != 0]).size:
        raise UserError(
            f"{path}: {_named(heads, bad[0])} is of encoding {heads['encoding_space_ref'][bad[0]]}, and "
            "the header has one only (0); write each encoding to a file of its own"
        )
    index = heads["idx"][rows]
    for name, (low, high) in encoding.limits.items():
        if (out := np.flatnonzero((index[name] < low) | (index[name] > high))).size:
            raise UserError(
                f"{path}: {_named(heads, rows[out[0]])} has the counter {name} {index[name][out[0]]}, "
                f"outside the limits {low} to {high} of the header; mend one of them"
            )
    for axis, n in enumerate(encoding.matrix[1:]):
        at = _steps(heads[rows], encoding)[axis]
        if (out := np.flatnonzero((at < 0) | (at >= n))).size:
            raise UserError(
                f"{path}: {_named(heads, rows[out[0]])} lies at {at[out[0]]} of the {n} "
                f"{('lines', 'partitions')[axis]} of encodedSpace (centre {encoding.middle[axis]} at "
                f"{n // 2}); mend the encoding limits or the matrix"
            )
    told = np.stack([index[name] for name in COUNTERS], axis=1)
    _, first, same = np.unique(told, axis=0, return_index=True, return_inverse=True)
    earlier = first[same.reshape(-1)]
    if (again := np.flatnonzero(earlier != np.arange(len(rows)))).size:
        raise UserError(
            f"{path}: {_named(heads, rows[again[0]])} has all counters of readout "
            f"{rows[earlier[again[0]]]}; number the second measurement as an average or a repetition"
        )


def _named(heads: np.ndarray, row: int) -> str:
    """A readout by its place in the file and its main counters."""
    index = heads["idx"][row]
    line, partition = index["kspace_encode_step_1"], index["kspace_encode_step_2"]
    return f"readout {row} (line {line}, partition {partition}, slice {index['slice']})"


def _steps(heads: np.ndarray, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
    """Line and partition of readouts on axes whose centre of k-space is n // 2 (N,), (N,)."""
    at = [
        n // 2 - middle + heads["idx"][name].astype(np.int64)
        for n, middle, name in zip(encoding.matrix[1:], encoding.middle, COUNTERS[:2], strict=True)
    ]
    return at[0], at[1]


def _cases(heads: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The case of every readout (N,), -1 for those of no image; each case's first readout and number."""
    told = np.stack([heads["idx"][name][rows] for name in (*STACKS, "slice")], axis=1)
    _, first, same = np.unique(told, axis=0, return_index=True, return_inverse=True)
    order, numbers = _order(heads, rows[first])
    case_of = np.full(len(heads), -1)
    case_of[rows] = np.argsort(order)[same.reshape(-1)]
    return case_of, rows[first][order], numbers


def _sorted(
    scan: Any,
    heads: np.ndarray,
    case_of: np.ndarray,
    place: Stretch,
    encoding: Encoding,
    path: Path,
) -> tuple[Tensor, Tensor | None]:
    """K-space (cases, coils, *S): every readout in its place, averages as their mean; samples of noise."""
    coils = int(heads["active_channels"][case_of >= 0][0])
    shape = (int(case_of.max()) + 1, coils, *encoding.size)
    check_bytes(math.prod(shape) * torch.complex64.itemsize, path)
    kspace = torch.zeros(shape, dtype=torch.complex64)
    count = torch.zeros(len(kspace), *encoding.size, dtype=torch.int32)
    lines, partitions = _steps(heads, encoding)
    of_noise = _of_noise(heads, coils)
    noise = []
    for begin in range(0, len(heads), READ_AT_ONCE):
        for row, data in enumerate(_readouts(scan, begin, path), start=begin):
            case, line, partition = case_of[row], lines[row], partitions[row]
            if case < 0 and not of_noise[row]:
                continue
            if not np.isfinite(data).all():
                raise UserError(
                    f"{path}: {_named(heads, row)} holds NaN or infinite values; leave that readout out"
                )
            whole = torch.from_numpy(np.array(data, np.complex64))
            if of_noise[row]:
                noise.append(whole)
                continue
            samples, measured = placed(whole, place, row, encoding.matrix[0], encoding.kept)
            kspace[case, :, :, line, partition] += samples
            count[case, :, line, partition] += measured
    kspace /= count.clamp(min=1)[:, None]
    whole = kspace if encoding.volume else kspace[..., 0]
    return whole, torch.cat(noise, 1) if noise else None


def _readouts(scan: Any, begin: int, path: Path) -> list[np.ndarray]:
    """Samples of the next acquisitions, each complex (coils, n)."""
    try:
        return [readout.data for readout in scan.acquisitions[begin : begin + READ_AT_ONCE]]
    except (OSError, ValueError):
        raise UserError(
            f"{path}: its readouts from {begin} on are damaged, or not as long as their headers say"
        ) from None


def _order(heads: np.ndarray, firsts: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Cases stack by stack along their normal, and a number of each that leaves a gap between stacks.

    A stack has one contrast, phase, repetition, set and normal. The slice counter may follow the order
    of time, so that it only decides where the file says no places.
    """
    keys = []
    for head in heads[firsts]:
        normal = np.round(head["slice_dir"].astype(float), 3) + 0.0
        depth = round(float(head["position"].astype(float) @ normal), 2)
        stack = (*(int(head["idx"][name]) for name in STACKS), *normal.tolist())
        keys.append((stack, depth, int(head["idx"]["slice"])))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    numbers, number = [], -1
    for place, case in enumerate(order):
        new = place > 0 and keys[case][0] != keys[order[place - 1]][0]
        number += 2 if new else 1
        numbers.append(number)
    return np.array(order), numbers


def _affine(head: np.ndarray, encoding: Encoding) -> np.ndarray | None:
    """Index of the image -> RAS mm (4, 4); None where the directions are no axes of space or
    the place is not finite.

    The file speaks of LPS, and of the place of voxel n // 2, where the phase of every gradient is 0.
    """
    names = ("read_dir", "phase_dir", "slice_dir")
    directions = np.stack([head[name].astype(np.float64) for name in names], axis=1)
    turned = np.allclose(directions.T @ directions, np.eye(3), atol=0.01)
    if not turned or not np.isfinite(head["position"]).all():
        return None
    affine = np.eye(4)
    affine[:3, :3] = directions * encoding.spacing_mm
    middle = [n // 2 for n in encoding.size]
    affine[:3, 3] = head["position"].astype(np.float64) - affine[:3, :3] @ middle
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _ids(stem: str, heads: np.ndarray, volume: bool) -> tuple[str, ...]:
    """Name of each case: the file, the counters that differ, and the place of a slice in its stack."""
    index = heads["idx"]
    telling = [name for name in STACKS if len(np.unique(index[name])) > 1]
    lone = volume and len(np.unique(index["slice"])) == 1
    count: dict[tuple[int, ...], int] = {}
    names = []
    for one in index:
        stack = tuple(int(one[name]) for name in telling)
        place = count[stack] = count.get(stack, -1) + 1
        words = [f"{name}{one[name]:03d}" for name in telling]
        words += [] if lone else [f"slice{place:03d}"]
        names.append("_".join([stem, *words]))
    return tuple(names)
