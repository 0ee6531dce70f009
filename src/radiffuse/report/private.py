"""What a differentially private training keeps to, in words."""

from collections.abc import Mapping
from html import escape
from typing import Any

from .sections import table_of
from .source import Source

__all__ = ["lines", "said", "section"]

OUTSIDE = (
    "Outside of the guarantee: how many there are, size and channels of the images, and all that an evaluation "
    "measures or shows (numbers, copies, feature networks), which reads images anew."
)


def said(budget: Mapping[str, Any]) -> str:
    """The guarantee in a line; "" where there is none.

    Args:
        budget: "private" of a manifest.
    """
    if not budget:
        return ""
    per = "patient" if budget["unit"] == "patient" else "single image"
    return (
        f"differentially private per {per}: epsilon {budget['epsilon_spent']:.3g} of {budget['epsilon']:g} spent, at "
        f"delta {budget['delta']:g}"
    )


def lines(budget: Mapping[str, Any]) -> list[str]:
    """What a card says of it."""
    if not budget:
        return []
    return [
        f"{said(budget)[0].upper()}{said(budget)[1:]}. {budget['steps_taken']} steps, each with {budget['batch']} of "
        f"{budget['units']} {budget['unit']}s in the mean (Poisson sampling, rate {budget['sampling_rate']:.4g}); "
        f"gradients of norm {budget['clip']:g} at most, each the mean of {budget['draws']} draws; noise multiplier "
        f"{budget['noise_multiplier']:.4g}; accountant {budget['accountant']} of Opacus. {OUTSIDE}"
    ]


def section(source: Source) -> str:
    """The budget as a table; "" where the training was not private."""
    budget = source.manifest.get("private") or {}
    if not budget:
        return ""
    rows = {name.replace("_", " "): value for name, value in budget.items()}
    return f'<p class="note">{escape(said(budget))}. {escape(OUTSIDE)}</p>{table_of(rows)}'
