"""Which class is healthy, by what classes are called."""

import re
from collections.abc import Sequence

from ...errors import UserError

__all__ = ["healthy_class", "labels_like"]

_HEALTHY = re.compile(
    r"health\w*|normals?|controls?|hc|cn|good|negative|neg|no|none|absent|(?:no|non|without|free)[ _-].+"
    r"|no(?:n?tumou?r|n?lesion|finding|disease|cancer|defect|anomaly|pneumonia|covid)s?",
    re.IGNORECASE,
)
"""What classes of healthy images are called."""


def healthy_class(names: Sequence[str]) -> int:
    """The label of the class that is called healthy; 0 where classes have no names.

    Raises:
        UserError: none or several are called so.
    """
    if not names:
        return 0
    found = [label for label, name in enumerate(names) if _HEALTHY.fullmatch(name.strip())]
    if len(found) == 1:
        return found[0]
    told = ", ".join(f"{label} {name}" for label, name in enumerate(names))
    which = "several" if found else "none"
    raise UserError(
        f"which class is healthy is not clear: {which} of {told} {'are' if found else 'is'} called so; --healthy N "
        "says which"
    )


def labels_like(strange: Sequence[str], names: Sequence[str], healthy: int) -> dict[str, int]:
    """Labels of classes that a model does not know: those called healthy are `healthy`, others the first that is not.

    Args:
        strange: what the classes are called.
        names: of the model's own classes.
        healthy: its label of healthy images.

    Returns:
        By class; nothing where the model knows no names, and none of several classes is called healthy.
    """
    sound = {name for name in strange if _HEALTHY.fullmatch(name.strip())}
    if len(strange) > 1 and not sound and not names:
        return {}
    return {name: healthy if name in sound else int(not healthy) for name in strange}
