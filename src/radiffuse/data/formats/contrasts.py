"""Contrasts of the same cases: in folders of their own (moving, fixed), or told by names (p01_t1, image12)."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import UserError
from .paired import MASKS, Beside, Parts
from .stems import stem

__all__ = ["CONTRAST", "contrasts"]

_IMAGES = (
    r"images?|imaging|imgs?|volumes?|vol|scans?|orig|inputs?|outputs?|sources?|targets?|moving|fixed|noisy|clean|denoised|degraded|references?"
    r"|(low|high|full|quarter)([ _-]?(dose|res|resolution|quality|field|count))?|[lh]r|fbp"
    r"|t[12]([ _-]?(w|c|n|f|ce|gd|post|pre))?|flair|t2[ _-]?star|pd([ _-]?w)?|adc|dwi|swi|dti|bold|asl|mra"
    r"|ct|cbct|sct|mri?|pet|fdg|spect|us|oct"
)
_LABELS = r"masks?|segs?|segmentations?|gts?|ground[_-]?truths?|annotations?|labels?|(moving|fixed)[ _-](mask|seg)"
CONTRAST = re.compile(_IMAGES, re.IGNORECASE)
"""What one image of each case is called, where several are beside each other."""
_ENDS = re.compile(rf"(?:(?P<case>.*?)[_.-])?(?P<word>{_IMAGES}|{_LABELS})", re.IGNORECASE)
_BEGINS = re.compile(
    rf"(?P<word>{_IMAGES}|{_LABELS})(?=[\W_]|\d+$)[ _.-]*(?P<case>.+)", re.IGNORECASE
)

Key = tuple[Parts, str]
"""The folders of a case, and its name."""
Told = Callable[[Path, Parts], tuple[Key, str] | None]
"""Case and contrast of a file; None where it tells neither."""


def contrasts(files: Sequence[Path], root: Path) -> Beside | None:
    """The columns of several files a case; None where nothing says that there are two or more.

    Folders of one level that are all called as contrasts or masks are, two at least of contrasts, and hold files of the
    same names, with or without their own behind (t1/p01.png or t1/p01_t1.png). Or files that all end in such a word
    (p01_t1.nii.gz and p01_seg.nii.gz, or p01/t1.nii.gz), or all begin with one (volume-1.nii and segmentation-1.nii).

    Raises:
        UserError: files are called so, and a case lacks what most have.
    """
    parts = [file.relative_to(root).parts[:-1] if root.is_dir() else () for file in files]
    for level in range(min(map(len, parts), default=0)):
        names = {part[level] for part in parts}
        known = sum(CONTRAST.fullmatch(name) is not None for name in names)
        if known > 1 and all(CONTRAST.fullmatch(name) or MASKS.fullmatch(name) for name in names):
            held = _held(files, parts, _by_folder(level))
            if held and _whole(held):
                return _beside(held)
    for place in (_ENDS, _BEGINS):
        held = _held(files, parts, _by_name(place))
        if not held or not any(CONTRAST.fullmatch(word) for word in held):
            continue
        if _whole(held):
            return _beside(held)
        _check_lacking(held, root)
    return None


def _by_folder(level: int) -> Told:
    def told(file: Path, part: Parts) -> tuple[Key, str]:
        bare = re.sub(
            rf"[_.-]({re.escape(part[level])}|{_LABELS})$", "", stem(file), flags=re.IGNORECASE
        )
        return ((*part[:level], *part[level + 1 :]), bare), part[level]

    return told


def _by_name(place: re.Pattern[str]) -> Told:
    def told(file: Path, part: Parts) -> tuple[Key, str] | None:
        found = place.fullmatch(stem(file))
        return ((part, found["case"] or ""), found["word"].lower()) if found else None

    return told


def _held(
    files: Sequence[Path], parts: Sequence[Parts], told: Told
) -> dict[str, dict[Key, Path]] | None:
    """The files of each contrast by case; None where a file tells nothing, two tell the same, or there is one alone."""
    held: dict[str, dict[Key, Path]] = {}
    for file, part in zip(files, parts, strict=True):
        found = told(file, part)
        if found is None or held.setdefault(found[1], {}).setdefault(found[0], file) != file:
            return None
    return held if len(held) > 1 else None


def _whole(held: dict[str, dict[Key, Path]]) -> bool:
    """Whether every case has all of them."""
    return len({frozenset(found) for found in held.values()}) == 1


def _check_lacking(held: dict[str, dict[Key, Path]], root: Path) -> None:
    """Refuse files of which most belong together; the others may be missing, or be cases of another kind."""
    keys = {key for found in held.values() for key in found}
    counts = {key: sum(key in found for found in held.values()) for key in keys}
    if 2 * sum(count > 1 for count in counts.values()) < len(keys):
        return
    key, word = next(
        (key, word) for word in sorted(held) for key in sorted(keys) if key not in held[word]
    )
    lone = next(found[key] for found in held.values() if key in found)
    raise UserError(
        f"{root}: files are called {', '.join(sorted(held))}, of the same cases, and beside {lone} is no {word}; name "
        "what belongs to a case in a cases.csv, and leave empty what a case lacks"
    )


def _beside(held: dict[str, dict[Key, Path]]) -> Beside:
    """Images first; one alone is "image", one mask alone "mask"."""
    masks = [word for word in held if not CONTRAST.fullmatch(word)]
    images = [word for word in held if word not in masks]
    called = {"image": images, "mask": masks}
    alone = {words[0]: name for name, words in called.items() if len(words) == 1}
    keys = list(next(iter(held.values())))
    columns = {
        alone.get(word, word): tuple(held[word][key] for key in keys) for word in (*images, *masks)
    }
    parts = tuple(part for part, _ in keys)
    if all(parts) and len(set(parts)) == len(keys):  # a folder a case
        return Beside(
            columns, tuple(part[:-1] for part in parts), tuple(part[-1] for part in parts)
        )
    return Beside(columns, parts, tuple(name or "case" for _, name in keys))
