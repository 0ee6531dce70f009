"""Networks that learn from a later step on: said where a training ends before it."""

from typing import Any

from ..errors import UserError
from ..training.options import TrainOptions

__all__ = ["begun_too_late", "check_begins"]


def check_begins(objective: Any, options: TrainOptions) -> None:
    """Refuse a number of steps that ends before the network that predicts begins to learn.

    Raises:
        UserError: it does.
    """
    who, step, flag, needed = getattr(objective, "begins", ("", 0, "", False))
    if needed and step and options.steps is not None and options.steps <= step:
        raise UserError(
            f"{who} learns from step {step} on ({flag}), and {options.steps} steps end before: take more steps, "
            f"or a smaller {flag}"
        )


def begun_too_late(objective: Any) -> list[str]:
    """A line on a network that the training that just ended did not come to."""
    who, step, flag, _ = getattr(objective, "begins", ("", 0, "", False))
    seen = int(objective.seen()) if step else 0
    if not step or seen > step:
        return []
    return [
        f"{who} learns from step {step} on ({flag}), and this training ended at step {seen}: it has learned nothing"
    ]
