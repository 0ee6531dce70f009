"""Recorded denoising as sections of docs/measured.md."""

from collections.abc import Sequence

from ...report.markdown import short, table
from ..evaluation.page import Record, comparison

__all__ = ["reference", "section"]


def section(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """Method and baselines at the main noise level, and the PSNR of all at every level."""
    levels = record["levels"]
    names = list(next(iter(levels.values())))
    rows = [
        [level, *(short(its[who].get("psnr")) for who in names)] for level, its in levels.items()
    ]
    said = "PSNR at several noise levels, one model:"
    return [*comparison(record, name, shown), said, "", *table(["", *names], rows)]


def reference(record: Record, name: str) -> list[str]:
    """PSNR of blurred noisy images against the blurred reference: how far the two agree at all."""
    found = record["psnr_by_fwhm"]
    about = (
        f"`{record['command']}`: PSNR of noisy images against their reference after both are "
        f"blurred, {record['n']} held-out images. White noise of one pixel falls as the width of "
        "the blur; what stays is a reference that is brighter or lies elsewhere, which nothing in "
        "the noisy image tells."
    )
    rows = [["PSNR", *(short(metric) for metric in found.values())]]
    heading = f"### What the reference of {name} allows"
    return [heading, "", about, "", *table(["width in pixels", *found], rows)]
