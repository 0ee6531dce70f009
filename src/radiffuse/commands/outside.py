"""What of the cases to predict lies outside of what a model was trained on."""

from collections.abc import Container

from ..data.dataset import Cases
from ..data.seen import outside
from ..runs.run import Run
from ..training.progress import say

__all__ = ["say_outside"]


def say_outside(opened: Run, cases: Cases, done: Container[str]) -> None:
    """A notice of each kind of image that the model has not seen, of cases that are still to be predicted.

    Of a volume that goes slice by slice the middle slice is looked at.
    """
    known = opened.manifest.get("data", {}).get("seen", {})
    if known:
        alike = [key for key in opened.recipe.task.alike if key in known]
        known = {
            **({key: known[alike[0]] for key in opened.recipe.task.alike} if alike else {}),
            **known,
        }
        for line in outside(known, cases, _rows(cases, done)):
            say(f"note: {line}")


def _rows(cases: Cases, done: Container[str]) -> list[int]:
    if cases.volumes is None:
        return [row for row, case in enumerate(cases.ids) if case not in done]
    slices: dict[int, list[int]] = {}
    for place, row in enumerate(cases.rows):
        slices.setdefault(cases.volumes.of[row], []).append(place)
    ids = cases.whole().ids
    return [
        some[len(some) // 2]
        for case, some in zip(ids, slices.values(), strict=True)
        if case not in done
    ]
