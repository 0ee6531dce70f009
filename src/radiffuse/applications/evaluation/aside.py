"""Training patients who are not trained on, where no validation patients are left to set something by."""

from ...data.dataset import Cases
from ...data.splits import parted

__all__ = ["apart"]

SHARE = 0.1
"""Of the training patients."""


def apart(training: Cases) -> tuple[Cases, Cases]:
    """Cases of most training patients, and of a tenth of them; the same ones whenever it is asked."""
    rest, aside = parted(training.patients, SHARE, "calibration")
    return training.take(rest), training.take(aside)
