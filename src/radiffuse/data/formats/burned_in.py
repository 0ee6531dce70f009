"""Names and dates that may stand in the pixels themselves."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .dicom_values import text

__all__ = ["suspicion", "told_of_pixels"]

_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
_ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3")


def suspicion(header: Any) -> str:
    """Why the pixels of a series may show who it is of; "" where nothing says so.

    BurnedInAnnotation YES; a secondary capture, which may be a photograph of a screen, whatever it says itself;
    ultrasound that does not say NO, for its makers write names above the picture.
    """
    said = text(header, "BurnedInAnnotation").upper()
    kind = text(header, "SOPClassUID")
    if said == "YES":
        return "BurnedInAnnotation is YES"
    if _is(kind, _SECONDARY):
        return "secondary capture"
    ultrasound = text(header, "Modality").upper() in ("US", "IVUS")
    if said != "NO" and (ultrasound or any(_is(kind, known) for known in _ULTRASOUND)):
        return "ultrasound without BurnedInAnnotation"
    return ""


def told_of_pixels(folder: Path, headers: Sequence[Any]) -> list[str]:
    """One line on all series of a data set whose pixels may show names; none where there are none."""
    why = Counter(found for header in headers if (found := suspicion(header)))
    if not why:
        return []
    reasons = ", ".join(f"{name}: {count}" for name, count in sorted(why.items()))
    return [
        f"{folder}: pixels of {why.total()} of {len(headers)} images may show names or dates ({reasons}); look at "
        "them: nothing here removes what is drawn into an image"
    ]


def _is(kind: str, known: str) -> bool:
    return kind == known or kind.startswith(f"{known}.")
