"""Medical Segmentation Decathlon / MONAI `dataset.json`: lists of images and their masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..columns import ArrayColumn, Column, names_mask
from ..table import (
    DESCRIBING,
    Table,
    describing,
    file_column,
    known_split,
    labels_from,
    labels_from_text,
    labels_named,
    numbered,
    numbers,
    persons,
)
from .stems import slashed, stem
from .stored import ending
from .who import people_in_folders, people_in_names, subject_of, told

LISTS = ("training", "train", "validation", "val", "test")
"""Names of lists of cases."""

Entry = dict[str, Any]


def open_decathlon(path: Path, content: Mapping[str, Any]) -> Table:
    """The cases that a Decathlon `dataset.json` lists.

    "training" (or "train") and "validation" lists of {"image", "label"}; "test" a list of paths or
    of such objects. Files of other keys are columns of their names. A `label` that is a number or a word is the class
    of its case. Cases without a label are left out if others have one, with a notice; one names the keys that are
    not used. The split is the file's where it names validation or test cases that stay, else made from patients.

    Raises:
        UserError: not such a file, or a path that leads nowhere.
    """
    notices: list[str] = []
    found = _labelled(_listed(path, content), path, notices)
    entries = [entry for _, entry in found]
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    files = _files(entries, keys, path)
    columns: dict[str, Column] = {}
    for key in files:
        name = _role(key, files)
        columns[name] = file_column([path.parent / entry[key] for entry in entries], name, notices)
    names = numbered([stem(Path(entry[files[0]])) for entry in entries])
    label_names = None
    if "label" in keys and "label" not in files:
        label, label_names = _classes([entry.get("label") for entry in entries], path, names)
        columns["label"] = label
        label_names = label_names or _called(label, content)
    meta = _patients(entries, keys, path, notices)
    used = {*files, *meta.values(), *(("label",) if "label" in columns else ())}
    if passed := [key for key in keys if key not in used]:
        notices.append(
            f"{path}: {', '.join(passed)} of cases {'is' if len(passed) == 1 else 'are'} passed over; a cases.csv has "
            "columns of any name"
        )
    splits = tuple(split for split, _ in found)
    given = None if set(splits) == {"train"} else splits
    if meta:
        said = {"patient": [str(entry.get(meta["patient"], "")) for entry in entries]}
        patients = persons(said, names, str(path), notices)
    else:
        patients = _people([entry[files[0]] for entry in entries], names, given, path, notices)
    called = {_role(key, files): labels_named(content) for key in files if _of_mask(key)}
    return Table(
        source=str(path),
        ids=names,
        columns=columns,
        patients=patients,
        split_of=given,
        label_names=label_names,
        mask_names=called,
        notices=notices,
    )


def _listed(path: Path, content: Mapping[str, Any]) -> list[tuple[str, Entry]]:
    """Every case with its split."""
    found: list[tuple[str, Entry]] = []
    for word in LISTS:
        listed = content.get(word) or []
        if not isinstance(listed, list):
            raise UserError(f"{path}: {word!r} must be a list of cases, found {listed!r:.40}")
        for item in listed:
            found.append((known_split(word, str(path)), _item(item, path)))
    if not found:
        raise UserError(f"{path}: lists no case under 'training', 'validation' or 'test'")
    return found


def _item(item: Any, path: Path) -> Entry:
    """What a case says, its paths with slashes."""
    entry = {"image": item} if isinstance(item, str) else item
    if isinstance(entry, dict) and isinstance(entry.get("image"), list):
        raise UserError(
            f"{path}: the image of a case is a list of files ({', '.join(map(str, entry['image']))}); give each "
            'contrast a key of its own, {"t1": ..., "t2": ...}, or name them in columns of a cases.csv'
        )
    if not isinstance(entry, dict) or not (
        isinstance(entry.get("image"), str)
        or any(isinstance(v, str) and ending(v) for v in entry.values())
    ):
        raise UserError(f"{path}: a case must be a path or an object with 'image', found {item!r}")
    return {
        str(key): slashed(path.parent, value) if isinstance(value, str) else value
        for key, value in entry.items()
        if value is not None
    }


def _of_mask(key: str) -> bool:
    """Whether files of this key are masks; Decathlon and MONAI call them labels."""
    return key == "label" or names_mask(key)


def _role(key: str, files: Sequence[str]) -> str:
    """The column of a key of files: "label" is the class of a case."""
    return key if key != "label" else "label_mask" if "mask" in files else "mask"


def _labelled(
    found: list[tuple[str, Entry]], path: Path, notices: list[str]
) -> list[tuple[str, Entry]]:
    """The cases that have a label, or a mask, where some have."""
    known = {key for _, entry in found for key in entry if _of_mask(key)}
    if not known:
        return found
    key = "label" if "label" in known else sorted(known)[0]
    there = [one for one in found if one[1].get(key) not in (None, "")]
    if there and (left := len(found) - len(there)):
        path_like = any(_is_file(entry[key], path) for _, entry in there)
        what = "mask" if path_like else "label"
        notices.append(f"{path}: {left} cases without a {what} are left out")
    return there or found


def _is_file(value: Any, path: Path) -> bool:
    return isinstance(value, str) and (bool(ending(value)) or (path.parent / value).exists())


def _files(entries: Sequence[Entry], keys: Sequence[str], path: Path) -> list[str]:
    """Keys that name a file in every case, images first.

    Raises:
        UserError: no image is named alike in all of them.
    """
    files = [
        key
        for key in keys
        if all(
            _is_file(entry.get(key), path)
            or (key == "image" and isinstance(entry.get(key), str))  # which may lead nowhere
            for entry in entries
        )
    ]
    images = [key for key in files if not _of_mask(key)]
    if not images:
        raise UserError(
            f"{path}: no key names an image file in every case ({', '.join(keys)}); 'image' is expected"
        )
    return [*images, *(key for key in files if _of_mask(key))]


def _classes(
    values: Sequence[Any], path: Path, names: Sequence[str]
) -> tuple[ArrayColumn, tuple[str, ...] | None]:
    """Numbers or words as the classes of cases.

    Raises:
        UserError: neither, or files in some cases only.
    """
    odd = next((v for v in values if not isinstance(v, str | int | float)), None)
    odd = odd if odd is not None else next((v for v in values if _is_file(v, path)), None)
    where = f"{path}: label"
    if odd is not None:
        raise UserError(
            f"{where}: {odd!r:.60} of a case is no number or word, as a class, nor are they files in all cases, as "
            "masks; name several labels of a case in columns of a cases.csv"
        )
    words = [str(value if isinstance(value, str) else float(value)) for value in values]
    found = numbers(words)
    if found is not None:
        return labels_from(found, where, names), None
    return labels_from_text([str(value) for value in values], where, names)


def _called(label: ArrayColumn, content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The name of each case's class, where "labels" has them all."""
    given = content.get("labels")
    given = given if isinstance(given, dict) else {}
    found = [given.get(str(int(number))) for number in label.data]
    return tuple(map(str, found)) if all(isinstance(name, str) for name in found) else None


def _patients(
    entries: Sequence[Entry], keys: Sequence[str], path: Path, notices: list[str]
) -> dict[str, str]:
    """The key that says the patient of a case, as {"patient": key}; {} where none does."""
    plain = [
        key
        for key in keys
        if "".join(c for c in key.lower() if c.isalnum()) in DESCRIBING["patient"]
        and all(isinstance(entry.get(key, ""), str | int) for entry in entries)
    ]
    return describing(plain, str(path), notices)


def _people(
    images: Sequence[str],
    names: tuple[str, ...],
    given: tuple[str, ...] | None,
    path: Path,
    notices: list[str],
) -> tuple[str, ...] | None:
    """Whose each image is, by its folder or its name."""
    # a guess at who is who does not overrule a split that somebody made
    stems, parts = (
        [stem(Path(image)) for image in images],
        [Path(image).parts[:-1] for image in images],
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
    return patients


def _below(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The folders below one of images: what stands above names a data set."""
    at = next((k + 1 for k, word in enumerate(parts) if word.lower().startswith("images")), 0)
    return parts[at:]
