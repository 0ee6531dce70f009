"""A recorded evaluation of completed contrasts as a section of docs/measured.md."""

from collections.abc import Sequence

from ....report.markdown import short, table
from ...evaluation.page import Record, comparison

__all__ = ["section"]


def section(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """The method beside its baselines over all configurations, then one table a metric by configuration."""
    overall = {**record, "baselines": {k: v for k, v in record["baselines"].items() if "psnr" in v}}
    lines = comparison(overall, name, shown)
    tables = {record["name"]: record["method"], **record["baselines"]}
    for metric in ("psnr", "ssim", "crps", "coverage_90"):
        who = {
            name: its
            for name, its in tables.items()
            if any(k.startswith(metric + "_") for k in its)
        }
        rows = [
            [
                f"{each['made']} from {', '.join(each['given'])}",
                *(short(its.get(metric + each["end"])) for its in who.values()),
            ]
            for each in record["configurations"]
        ]
        lines += table([metric, *who], rows)
    return lines
