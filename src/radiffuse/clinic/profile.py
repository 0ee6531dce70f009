"""The basic confidentiality profile: what becomes of each attribute of a header (DICOM PS3.15, table E.1-1).

The table is that of dicom-anonymizer (Kitware), edition 2026c of the standard. Where the table leaves a choice to the
kind of object (X/Z, X/D, X/Z/D), the answer that any object may hold is taken: an empty value for X/Z, a dummy for all
that may be a D.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from ..data.formats.dicom_file import PIXELS
from ..data.formats.dicom_values import quiet

__all__ = ["EDITION", "copied", "deidentified"]

EDITION = "2026c"
NewUid = Callable[[str], str]

_ACTIONS = {
    "X_TAGS": "remove", "Z_TAGS": "empty", "D_TAGS": "dummy", "U_TAGS": "uid", "Z_D_TAGS": "dummy",
    "X_Z_TAGS": "empty", "X_D_TAGS": "dummy", "X_Z_D_TAGS": "dummy", "X_Z_U_STAR_TAGS": "keep",
}  # fmt: skip
"""Of the table's columns; X/Z/U* are sequences of references, whose UIDs have an action of their own."""
_DUMMIES: dict[str, Any] = {
    "AS": "000Y", "DA": "19000101", "DT": "19000101000000", "TM": "000000", "IS": 0, "DS": 0,
    "UR": "http://removed.invalid",
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "REMOVED"),
    **dict.fromkeys(("FD", "FL"), 0.0), **dict.fromkeys(("SS", "US", "SL", "UL", "SV", "UV"), 0),
    **dict.fromkeys(("OB", "OW", "OF", "OD", "OL", "OV", "UN"), b"\0" * 8),
}  # fmt: skip


def copied(header: Dataset) -> Dataset:
    """A header as it is, without pixels; elements that cannot be read are left out."""
    return _each(header, lambda element: element)


def deidentified(header: Dataset, new_uid: NewUid) -> Dataset:
    """A copy of a header without pixels, and without what says who it is of.

    Args:
        header: of an image.
        new_uid: what stands in place of a UID of an instance.
    """

    def act(element: DataElement) -> DataElement | None:
        action = "remove" if element.tag.is_private else _action(element.tag)
        if action == "remove":
            return None
        if action == "empty":
            return DataElement(element.tag, element.VR, [] if element.VR == "SQ" else None)
        if action == "dummy":
            return _dummy(element, new_uid)
        if action == "uid":
            return _with_new_uids(element, new_uid)
        return element

    return _each(header, act)


def _each(header: Dataset, act: Callable[[DataElement], DataElement | None]) -> Dataset:
    """What `act` leaves of every element, in sequences too."""
    found = Dataset()
    for tag in list(header.keys()):
        with quiet():
            try:
                element = header[tag]
            except Exception:  # a damaged element may raise anything, and is not carried on
                continue
        if element.keyword in PIXELS:
            continue
        kept = act(element)
        if kept is None:
            continue
        value = kept.value
        if kept.VR == "SQ":
            value = Sequence([_each(item, act) for item in value])
        with quiet():
            found.add(DataElement(kept.tag, kept.VR, value))
    meta = getattr(header, "file_meta", None)
    if meta is not None:
        found.file_meta = type(meta)(_each(meta, act))
    return found


def _dummy(element: DataElement, new_uid: NewUid) -> DataElement:
    """The same element with a value that says nothing; every value within a sequence is such a one."""
    if element.VR == "SQ":
        items = []
        for item in element.value:
            inner = Dataset()
            for each in item:
                if not each.tag.is_private:
                    inner.add(_dummy(each, new_uid))
            items.append(inner)
        return DataElement(element.tag, "SQ", items)
    if element.VR == "UI":
        return _with_new_uids(element, new_uid)
    return DataElement(element.tag, element.VR, _DUMMIES.get(element.VR))


def _with_new_uids(element: DataElement, new_uid: NewUid) -> DataElement:
    value = element.value
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    new = [new_uid(str(one)) for one in value] if several else new_uid(str(value)) if value else ""
    return DataElement(element.tag, "UI", new)


def _action(tag: BaseTag) -> str:
    """ "remove", "empty", "dummy", "uid" or "keep"."""
    plain, ranges = _table()
    if tag in plain:
        return plain[tag]
    for (group, number, group_mask, number_mask), action in ranges:
        if tag.group & group_mask == group & group_mask and (
            tag.element & number_mask == number & number_mask
        ):
            return action
    return "keep"


@cache
def _table() -> tuple[dict[int, str], list[tuple[tuple[int, ...], str]]]:
    """Actions by tag, and those of repeating groups by group, element and their masks."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    plain, ranges = {}, []
    columns = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    for column, action in _ACTIONS.items():
        for tag in columns[column]:
            if len(tag) > 2:
                ranges.append((tuple(tag), action))
            else:
                plain[(tag[0] << 16) + tag[1]] = action
    return plain, ranges
