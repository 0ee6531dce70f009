"""Reports: one self-contained HTML page about a run or a folder of predictions. No torch here."""

from .page import write_report

__all__ = ["write_report"]
