"""What the outputs of a prediction are, in words and codes: one row a key."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["MEANINGS", "Form", "Meaning", "Role", "meaning"]

Form = Literal["image", "labels", "probabilities", "map", "report"]
Role = Literal["answer", "probability", "uncertainty", "map", "draw", "sample", "report"]


@dataclass(frozen=True)
class Meaning:
    """What an output is.

    Attributes:
        said: in words, as a series description says it.
        form: an image like its source, labels of voxels, probabilities of labels, a map in units of its own, or a
            structured report.
        role: for `predictions.json`.
        code: of the derivation or of the quantity: scheme, value, meaning; "": a local code of `said`.
        generated: shows what was not measured (an image of another contrast, a healthy counterpart).
        same_units: values mean what those of the source do.
        in_source_units: a map whose numbers are differences of such values.
    """

    said: str
    form: Form
    role: Role = "answer"
    code: tuple[str, str, str] | None = None
    generated: bool = False
    same_units: bool = True
    in_source_units: bool = False


MEANINGS: Mapping[str, Meaning] = {
    "denoised": Meaning("denoised", "image"),
    "image": Meaning("reconstructed", "image"),
    "magnitude": Meaning("reconstructed magnitude", "map"),
    "healthy": Meaning("healthy counterpart", "image", generated=True),
    "target": Meaning("translated", "image", generated=True, same_units=False),
    "displacement": Meaning("displacement", "map"),
    "warped": Meaning("registered", "image", code=("DCM", "125027", "Deformed for registration")),
    "mask": Meaning("segmentation", "labels"),
    "probability": Meaning("probability of labels", "probabilities", "probability"),
    "expected": Meaning("expected probability of labels", "probabilities", "probability"),
    "anomaly": Meaning("anomaly map", "map"),
    "unmeasured": Meaning("unmeasured part", "map", "map"),
    "unexplained": Meaning("unexplained part", "map", "map"),
    "deviation": Meaning("deviation", "map", "uncertainty"),
    "reconstruction:expected": Meaning("expected image", "map", "map"),
    "purified": Meaning("purified", "image"),
    "divergence": Meaning("divergence map", "map", "map"),
    "source": Meaning("translated", "image", generated=True, same_units=False),
    "report": Meaning("classes and scores", "report", "report"),
}
"""Keys of `Task.writes`, or TASK:KEY where they mean something else in one of them. Any other key is an image that was
made of others (of a contrast that a case lacked)."""

_ENDS: Mapping[str, tuple[str, Role | None, Form | None]] = {
    "mean": ("mean of draws", None, None),
    "std": ("standard deviation of draws", "uncertainty", "map"),
    "interval90": ("half width of the 90 % interval", "uncertainty", "map"),
    "energy": ("variance of signed draws", "uncertainty", "map"),
    "vote": ("majority of draws", None, None),
    "staple": ("STAPLE of draws", None, None),
}
"""What stands behind a key where several draws are told together."""


def meaning(key: str, draw: int | None = None, task: str = "") -> Meaning:
    """What an output is.

    Args:
        key: "denoised", "denoised-mean".
        draw: the number of a draw that is kept for itself.
        task: name of the task that writes it.
    """
    base, _, end = key.partition("-")
    found = MEANINGS.get(f"{task}:{base}") or MEANINGS.get(base)
    found = found or Meaning(f"{base} made of others", "image", generated=True, same_units=False)
    if end in _ENDS:
        said, role, form = _ENDS[end]
        found = replace(
            found,
            said=f"{found.said}, {said}",
            role=role or found.role,
            form=form or found.form,
            code=None,
            in_source_units=found.same_units
            and found.form == "image"
            and end in ("std", "interval90"),
        )
    if draw is not None:
        found = replace(found, said=f"{found.said}, draw {draw + 1}", role="draw")
    return found
