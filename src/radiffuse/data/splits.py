"""Splits by patient, and the guard against the same patient or picture on both sides."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

from ..diffusion.noise import derive
from ..errors import UserError

OnLeak = Literal["auto", "refuse", "drop", "keep"]
"""What to do where train and held-out cases share patients or byte-identical images.

auto: refuse a shared patient. Refuse shared images too, unless they are at most 1 % of the
held-out cases (a blemish of a large set): then drop the held-out copies and say which.
refuse: refuse both. drop: drop the held-out cases concerned. keep: go on with a warning.
"""

BLEMISH = 0.01


def assign(patients: Sequence[str], images: Sequence[frozenset[str]], seed: int) -> tuple[str, ...]:
    """Split 80/10/10 by patient: train < 0.8 <= val < 0.9 <= test, u = sha256(seed, patient)/2^256.

    The split of a patient does not depend on who else is there. Patients who share a
    byte-identical image (hashes in `images`) go together. There is always a train case, and a
    test case where there are two or more groups.
    """
    group = together(patients, images)
    place = {name: _uniform(f"{seed}:{name}") for name in set(group)}
    split = {n: "train" if u < 0.8 else "val" if u < 0.9 else "test" for n, u in place.items()}
    order = sorted(place, key=lambda name: (place[name], name))
    if "train" not in split.values():
        split[order[0]] = "train"
    if len(order) > 1 and "test" not in split.values():
        split[order[-1]] = "test"
    if len(order) > 1 and "train" not in split.values():
        split[order[0]] = "train"
    return tuple(split[name] for name in group)


def parted(patients: Sequence[str], share: float, name: str) -> tuple[list[int], list[int]]:
    """Rows of most patients, and of a share of them, one at least and not all where there are two.

    Which these are depends on the patients and on `name`, what they are set aside for, alone.
    """
    known = sorted(set(patients), key=lambda patient: derive(0, name, patient))
    count = min(max(1, round(share * len(known))), len(known) - 1)
    chosen = set(known[:count])
    rows: tuple[list[int], list[int]] = ([], [])
    for row, patient in enumerate(patients):
        rows[patient in chosen].append(row)
    return rows


def _uniform(text: str) -> float:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def together(patients: Sequence[str], images: Sequence[frozenset[str]]) -> list[str]:
    """Name of each case's group: the first by name of the patients that belong together."""
    parent = {patient: patient for patient in patients}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]  # keeps ways short: one picture may link thousands
            name = parent[name]
        return name

    owner: dict[str, str] = {}
    for patient, hashes in zip(patients, images, strict=True):
        for digest in hashes:
            first, second = sorted((root(owner.setdefault(digest, patient)), root(patient)))
            parent[second] = first
    return [root(patient) for patient in patients]


def guard(
    source: str,
    ids: Sequence[str],
    patients: Sequence[str],
    split_of: Sequence[str],
    images: Sequence[frozenset[str]],
    on_leak: OnLeak = "auto",
) -> tuple[set[int], list[str]]:
    """Find held-out cases whose patient or picture is also a training case.

    Returns:
        Rows to drop, and notices.

    Raises:
        UserError: such cases exist and `on_leak` refuses them; names up to three and the count.
    """
    held = [row for row, split in enumerate(split_of) if split != "train"]
    training = [row for row, split in enumerate(split_of) if split == "train"]
    people = {patients[row] for row in training}
    twins: dict[str, int] = {digest: row for row in training for digest in images[row]}
    same_person = [row for row in held if patients[row] in people]
    same_image = [row for row in held if not twins.keys().isdisjoint(images[row])]
    drop: set[int] = set()
    notices: list[str] = []
    if same_person:
        shared = sorted({patients[row] for row in same_person})
        stand = "stand" if len(shared) > 1 else "stands"
        what = f"{source}: {_count(shared, 'patient')} {stand} in train and in a held-out split"
        told = f"{what}: {_three(shared)}"
        _refuse(told, on_leak in ("auto", "refuse"))
        drop |= set(same_person) if on_leak == "drop" else set()
        notices.append(_outcome(told, len(same_person), on_leak))
    if same_image:
        pairs = [f"{ids[row]} = {ids[_twin(images[row], twins)]}" for row in same_image]
        what = f"{source}: {_count(pairs, 'held-out image')} byte-identical to a training image"
        told = f"{what}: {_three(pairs)}"
        small = len(same_image) <= BLEMISH * len(held)
        _refuse(told, on_leak == "refuse" or (on_leak == "auto" and not small))
        drop |= set(same_image) if on_leak in ("auto", "drop") else set()
        notices.append(_outcome(told, len(same_image), on_leak))
    return drop, notices


def _refuse(told: str, refused: bool) -> None:
    if refused:
        raise UserError(
            f"{told}; mend the split, or go on with --data-leak drop (leaves the held-out copies "
            "out) or --data-leak keep (results will be too good)"
        )


def _outcome(told: str, count: int, on_leak: OnLeak) -> str:
    if on_leak == "keep":
        return f"{told}; kept as asked: results on held-out cases will be too good"
    return f"{told}; {count} held-out case{'s are' if count > 1 else ' is'} left out"


def _twin(digests: frozenset[str], twins: Mapping[str, int]) -> int:
    return next(twins[digest] for digest in sorted(digests) if digest in twins)


def _three(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''}"
