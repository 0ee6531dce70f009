"""Cartesian readouts: where the samples of a line lie in k-space, and the line without oversampling."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...operators.fourier import centred_fft, centred_ifft


@dataclass(frozen=True)
class Stretch:
    """Which samples of each of N readouts count, and where they go.

    Attributes:
        turned: whether the readout ran backwards (N,).
        first, stop: the samples that count, of the readout turned forwards (N,).
        start: where the first of them lies on the encoded axis (N,); outside of it where the readout does
            not fit.
    """

    turned: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    start: np.ndarray

    @property
    def end(self) -> np.ndarray:
        """Where the encoded axis goes on after the last sample (N,)."""
        return self.start + self.stop - self.first


def stretch(heads: np.ndarray, turned: np.ndarray, encoded: int) -> Stretch:
    """The place of readouts on an axis of `encoded` samples whose centre of k-space is `encoded // 2`.

    `discard_pre` and `discard_post` are in the order of time. `center_sample` counts on the readout turned
    forwards, as mrpro, SIRF and Gadgetron read it: an even line has its centre at n // 2 both ways.

    Args:
        heads: headers of acquisitions (N,).
        turned: whether each ran backwards (N,).
    """
    samples, pre, post, centre = (
        heads[name].astype(np.int64)
        for name in ("number_of_samples", "discard_pre", "discard_post", "center_sample")
    )
    first = np.where(turned, post, pre)
    stop = samples - np.where(turned, pre, post)
    return Stretch(turned, first, stop, encoded // 2 + first - centre)


def placed(
    data: Tensor, place: Stretch, row: int, encoded: int, kept: int
) -> tuple[Tensor, Tensor]:
    """One readout (K, n) on its axis: the line (K, kept), zero where not measured, and where it was (kept,).

    Args:
        place: of all readouts.
        row: which of them this is.
        encoded, kept: length of the axis with oversampling and without.
    """
    first, stop = int(place.first[row]), int(place.stop[row])
    start, end = int(place.start[row]), int(place.end[row])
    forwards = data.flip(-1) if place.turned[row] else data
    line = torch.zeros(len(data), encoded, dtype=torch.complex64)
    line[:, start:end] = forwards[:, first:stop]
    if kept == encoded:
        at = torch.arange(encoded)
        return line, (at >= start) & (at < end)
    # samples of the shorter line lie between those of the longer one, by their distance from the centre
    at = encoded // 2 + (torch.arange(kept) - kept // 2) * (encoded / kept)
    measured = (at >= start - 0.5) & (at <= end - 0.5)
    return without_oversampling(line, kept, -1) * measured, measured


def without_oversampling(kspace: Tensor, kept: int, axis: int) -> Tensor:
    """K-space of the middle `kept` voxels along an axis, whose origin is at n // 2 before and after."""
    left = kspace.shape[axis] // 2 - kept // 2
    return centred_fft(centred_ifft(kspace, (axis,)).narrow(axis, left, kept), (axis,))
