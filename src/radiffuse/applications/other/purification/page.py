"""Recorded purifications as sections of docs/measured.md."""

from collections.abc import Sequence

from ....report.markdown import short
from ...evaluation.page import Record, comparison

__all__ = ["section"]


def section(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """Method and baselines, the settings that were chosen, and what an attacker who knows the defence leaves."""
    settings, method = record["settings"], record["method"]
    chosen = ", ".join(f"{who} {value:g}" for who, value in settings["chosen"].items())
    knowing = settings["adaptive"]
    said = (
        f"Attacks within {settings['eps']}. Chosen on validation images under PGD: strength {settings['strength']:g}, "
        f"{chosen}. An attacker who knows the defence (BPDA, EOT over {knowing['draws']} draws, {knowing['cases']} "
        f"cases) leaves the method an accuracy of {short(method['accuracy_adaptive'])}."
    )
    return [*comparison(record, name, shown), said, ""]
