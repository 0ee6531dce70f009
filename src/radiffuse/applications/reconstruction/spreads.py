"""Whether draws of a reconstruction err as far as they differ, patient by patient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...metrics.calibration import conformal_factor, half_width, rank_histogram
from ...metrics.estimate import Metric, average_per_patient, refused

__all__ = ["LEVEL", "Spreads", "body", "magnitude"]

LEVEL, DARK, GREY = 0.9, 0.05, 1 / 255


def magnitude(x: Tensor) -> Tensor:
    """Images as they are compared: without phase, in [0, 1]."""
    return (x.abs() if x.is_complex() else x).clamp(0, 1)


def body(truth: Tensor) -> Tensor:
    """Where images (B, C, *S) in [0, 1] show something, and holes within: boolean, their shape.

    Air is easy to cover with an interval: of a patient it says nothing.
    """
    from scipy.ndimage import binary_fill_holes

    bright = (truth > DARK).any(1).cpu().numpy()
    filled = torch.stack([torch.from_numpy(binary_fill_holes(one)) for one in bright])
    return filled[:, None].to(truth.device).expand_as(truth)


class Spreads:
    """Errors and interval widths of every case, for coverage before and after conformal scaling.

    Attributes:
        factors: the conformal factors of each half of the patients, of the body's pixels.
    """

    def __init__(self) -> None:
        self.errors: list[Tensor] = []
        self.widths: list[Tensor] = []
        self.bodies: list[Tensor] = []
        self.ranks: list[Tensor] = []
        self.factors: list[float] = []

    def add(self, drawn: Tensor, truth: Tensor) -> None:
        """Draws (K, B, 1, *S) of one batch, and the truth, in [0, 1]."""
        if len(drawn) < 2:
            return
        x = magnitude(drawn)
        inside = body(truth)
        self.errors += list((truth - x.mean(0)).abs())
        # a grey value has a resolution: no interval is narrower than one of 255 steps
        self.widths += list(half_width(x, LEVEL).clamp(min=GREY))
        self.bodies += [w if bool(w.any()) else torch.ones_like(w) for w in inside]
        self.ranks.append(rank_histogram(x, truth, where=inside))

    def histogram(self) -> dict[str, Any]:
        """Shares of the body's pixels whose truth has rank 0 ... K among K draws."""
        if not self.ranks:
            return {}
        counts = torch.stack(self.ranks).sum(0)
        total = int(counts.sum())
        return {"shares": (counts / max(1, total)).tolist(), "n": total}

    def metrics(self, patients: Sequence[str]) -> dict[str, Metric]:
        """Coverage as it is, and after the factor fitted on the other half of the patients."""
        if not self.errors:
            return {}
        everywhere = [torch.ones_like(w) for w in self.bodies]
        whole, _ = self._coverage("coverage90", everywhere, patients)
        within, self.factors = self._coverage("coverage90_body", self.bodies, patients)
        return {**whole, **within}

    def factor(self, patients: Sequence[str]) -> float | None:
        """The conformal factor of the body's pixels of all patients: for those to come."""
        return self._fit(self._of(self.bodies), patients) if self.errors else None

    def _of(self, where: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Errors and widths of each case within a region."""
        return [(e[w], d[w]) for e, d, w in zip(self.errors, self.widths, where, strict=True)]

    def _fit(self, pairs: Sequence[tuple[Tensor, Tensor]], patients: Sequence[str]) -> float:
        errors, widths = zip(*pairs, strict=True)
        return conformal_factor(errors, widths, patients, LEVEL, guaranteed=False).factor

    def _coverage(
        self, name: str, where: Sequence[Tensor], patients: Sequence[str]
    ) -> tuple[dict[str, Metric], list[float]]:
        pairs = self._of(where)
        plain = [_share(error, width) for error, width in pairs]
        found = {name: average_per_patient(plain, patients)}
        names = sorted(set(patients))
        if len(names) < 4:
            reason = "conformal scaling needs 4 patients: half to fit it, half to test it"
            return {**found, f"{name}_conformal": refused(reason, len(names))}, []
        half, scaled, factors = set(names[::2]), list(plain), []
        for fitting in (True, False):
            fit = [k for k, patient in enumerate(patients) if (patient in half) == fitting]
            factor = self._fit([pairs[k] for k in fit], [patients[k] for k in fit])
            factors.append(factor)
            for k in set(range(len(patients))) - set(fit):
                error, width = pairs[k]
                scaled[k] = _share(error, factor * width)
        return {**found, f"{name}_conformal": average_per_patient(scaled, patients)}, factors


def _share(error: Tensor, width: Tensor) -> float:
    return float((error <= width).double().mean())
