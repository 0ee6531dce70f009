"""Classification: the class of an image, with a probability that tells how sure it is."""

from ..task import Task

__all__ = ["CLASSIFICATION"]

CLASSIFICATION = Task(
    "classification",
    reads=("image", "label"),
    writes=("probability", "label", "prior_probability", "spread"),
    given=("image",),
    evaluation="radiffuse.applications.classification.evaluate:evaluate_classification",
    title="Classification",
    shown=("accuracy", "balanced_accuracy", "f1", "auroc", "ece"),
    page="radiffuse.applications.classification.page:section",
)
"""Writes "probability" (B, classes), rows summing to 1; "label" int64 (B,), the likeliest class;
"prior_probability" (B, classes), the classifier's that guides the diffusion; "spread" (B,), how
far the draws disagree, 0 where they all say the same class."""
