"""Medical Segmentation Decathlon / MONAI `dataset.json`: lists of images and their masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..columns import Column
from ..table import Table, file_column, known_split, labels_named, numbered
from .stems import stem
from .who import people_in_folders, people_in_names, subject_of, told

LISTS = ("training", "train", "validation", "val", "test")
"""Names of lists of cases."""


def open_decathlon(path: Path, content: Mapping[str, Any]) -> Table:
    """The cases that a Decathlon `dataset.json` lists.

    "training" (or "train") and "validation" lists of {"image", "label"}; "test" a list of paths or
    of such objects. Cases without a mask are left out if others have one, with a notice. The split
    is the file's where it names validation or test cases that stay, else made from patients.

    Raises:
        UserError: not such a file, or a path that leads nowhere.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for word in LISTS:
        listed = content.get(word) or []
        if not isinstance(listed, list):
            raise UserError(f"{path}: {word!r} must be a list of cases, found {listed!r:.40}")
        for item in listed:
            found.append((known_split(word, str(path)), _item(item, path)))
    if not found:
        raise UserError(f"{path}: lists no case under 'training', 'validation' or 'test'")
    notices: list[str] = []
    masked = [entry for entry in found if "label" in entry[1]]
    if masked and len(masked) < len(found):
        left = len(found) - len(masked)
        notices.append(f"{path}: {left} cases without a mask are left out")
        found = masked
    images = [path.parent / entry["image"] for _, entry in found]
    columns: dict[str, Column] = {"image": file_column(images, "image", notices)}
    if masked:
        masks = [path.parent / entry["label"] for _, entry in found]
        columns["mask"] = file_column(masks, "mask", notices)
    splits = tuple(split for split, _ in found)
    names = numbered([stem(image) for image in images])
    given = None if set(splits) == {"train"} else splits
    # a guess at who is who does not overrule a split that somebody made
    stems, parts = (
        [stem(image) for image in images],
        [Path(entry["image"]).parts[:-1] for _, entry in found],
    )
    people = people_in_folders(list(map(_below, parts)), stems)
    if given and not all(map(subject_of, parts)):
        people = None
    patients = people or (None if given else people_in_names(stems, names))
    if people:
        counted = f"each folder {people[0]} ... counts as one person ({len(set(people))})"
        notices.append(f"{path}: {counted}")
    elif len(names) > 1:
        notices.append(f"{path}: {told(patients)}; name patients in a cases.csv")
    called = {"mask": labels_named(content)}
    return Table(str(path), names, columns, patients, given, mask_names=called, notices=notices)


def _below(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The folders below one of images: what stands above names a data set."""
    at = next((k + 1 for k, word in enumerate(parts) if word.lower().startswith("images")), 0)
    return parts[at:]


def _item(item: Any, path: Path) -> dict[str, str]:
    entry = {"image": item} if isinstance(item, str) else item
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise UserError(f"{path}: a case must be a path or an object with 'image', found {item!r}")
    return {key: entry[key] for key in ("image", "label") if isinstance(entry.get(key), str)}
