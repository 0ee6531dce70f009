"""Adversarial purification: the image without what an attacker added, and the class of what is left."""

from ...task import Task

__all__ = ["PURIFICATION"]

PURIFICATION = Task(
    "purification",
    reads=("image", "label"),
    writes=("purified", "probability", "label"),
    given=("image",),
    evaluation="radiffuse.applications.other.purification.evaluate:evaluate_purification",
    title="Adversarial purification",
    shown=(
        *("accuracy", "accuracy_fgsm", "accuracy_pgd", "accuracy_apgd", "accuracy_adaptive"),
        *("balanced_accuracy", "balanced_accuracy_pgd", "balanced_accuracy_apgd"),
    ),
    page="radiffuse.applications.other.purification.page:section",
)
"""Reads "image" (B, C, *S) in [-1, 1] and "label" int64 (B,). Writes "purified" (B, C, *S) in [-1, 1], "probability"
(B, classes) of the purified image, rows summing to 1, and "label" int64 (B,), the likeliest class."""
