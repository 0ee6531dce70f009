"""Undersampled scans as training data: no fully sampled image leaves this file."""

from collections.abc import Callable
from typing import NoReturn

import torch

from ....acquisition import Acquired
from ....acquisition.splitting import centre_of
from ....data.scan import spread
from ....errors import UserError
from ....training.batches import Readable
from ...recipe import Batch

__all__ = ["Undersampled"]


class Undersampled:
    """What the scanner gave of each training case, measured once and kept: the firewall of self-supervision.

    A batch holds "kspace" complex (B, K, *S), 0 where not sampled; "mask" and "centre" boolean (B, 1, *S), what was
    sampled and the calibration region; "maps" complex (B, K, *S); "noise" (B,), the deviation of its parts; "share"
    (B,), one over the number of scans. An image is measured by a simulation that its content fixes, so that it is
    the same scan at every look, and is not kept.

    Args:
        cases: with "kspace", or else "image".
        acquire: {"kspace"} or {"image"} of one case -> a measurement.
        most: scans in all; evenly spaced ones of more.
    """

    def __init__(self, cases: Readable, acquire: Callable[[Batch], Acquired], most: int) -> None:
        self._cases, self._acquire = cases, acquire
        self._rows = spread(len(cases), most)
        self._kept: dict[int, Batch] = {}
        self.fingerprint: str = getattr(cases, "fingerprint", "")
        left = len(self._rows) < len(cases)
        counted = f"{len(self._rows)} of {len(cases)} training scans are measured and learned from"
        self.told = f"{counted} (--scans)" if left else ""
        """What is left out; "": nothing."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def images(self) -> NoReturn:
        """There are none.

        Raises:
            UserError: always.
        """
        raise UserError("training without references was asked for a fully sampled image")

    def batch(self, indices: list[int], /) -> Batch:
        """The scans of `indices`, side by side."""
        scans = [self._scan(self._rows[index]) for index in indices]
        return {key: torch.cat([scan[key] for scan in scans]) for key in scans[0]}

    def _scan(self, row: int) -> Batch:
        if row not in self._kept:
            case = self._cases.batch([row])
            given = next((key for key in ("kspace", "image") if key in case), None)
            if given is None:
                raise UserError(
                    "the data hold neither k-space nor images; name a column with --map image=COLUMN"
                )
            self._kept[row] = self._of(self._acquire({given: case[given]}))
        return self._kept[row]

    def _of(self, acquired: Acquired) -> Batch:
        assert acquired.mask is not None and acquired.maps is not None
        y, mask = acquired.measurement.y, acquired.mask
        return {
            "kspace": y,
            "mask": mask,
            "centre": centre_of(mask, y.shape[1] > 1),
            "maps": acquired.maps.to(y),
            "noise": acquired.measurement.deviations.float(),
            "share": torch.full((len(y),), 1 / len(self)),
        }
