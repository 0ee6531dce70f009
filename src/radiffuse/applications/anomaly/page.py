"""Recorded detection of lesions by size and contrast as a section of docs/measured.md."""

from ...report.markdown import short, table
from ..evaluation.page import Record

__all__ = ["lesions"]

SHOWN = ("auroc", "pixel_average_precision", "dice_best")
HEAD = ("radius mm", "contrast", "AUROC", "voxel AP", "best Dice", "strongest baseline", "its AP")


def lesions(record: Record, name: str) -> list[str]:
    """Detection against size and contrast: the method, then its strongest baseline at that point."""
    rows = []
    for point in record["points"]:
        best = point["settings"]["baseline"]
        own = [short(point["method"].get(key)) for key in SHOWN]
        other = short(point["baselines"][best].get("pixel_average_precision"))
        rows.append([f"{point['radius_mm']:g}", f"{point['contrast']:g}", *own, best, other])
    picture = f"![Detection against contrast and size](lesions-{name}.svg)"
    begin = [f"### Lesions of {name}", "", f"`{record['trained_by']}`", "", picture, ""]
    return [*begin, *table(HEAD, rows)]
