"""The embedded data sets by their names: `brains:count=200,size=96`, `brains3d:count=20`."""

import hashlib

import torch

from ...errors import UsageError
from ..columns import ArrayColumn, Column
from ..formats.stored import check_bytes
from ..table import Table, labels_from
from .brains import LEVELS, BrainOptions, make_case, numbers_of
from .options import MOST, options_of
from .pairs import open_pairs

__all__ = ["open_brains", "parse"]

_NAMES = {
    "tissue": {1: "fluid", 2: "grey matter", 3: "white matter"},
    "lesion": {1: "lesion"},
}


def parse(name: str) -> tuple[bool, BrainOptions]:
    """ "brains3d:count=20,size=48" -> (True, options).

    Raises:
        UsageError: an option that is not known, or a value out of its range.
    """
    volumes = name.partition(":")[0] == "brains3d"
    options = BrainOptions(count=48, size=48, label="none") if volumes else BrainOptions()
    options = options_of(name, options)
    labels = ("lesion", "none") if volumes else ("level", "lesion", "none")
    if not (1 <= options.count <= MOST and 8 <= options.size <= 256 and 0 <= options.lesions <= 1):
        raise UsageError(
            f"{name}: count 1 to {MOST}, size 8 to 256 and lesions 0 to 1 are possible"
        )
    if not 0 <= options.first <= MOST:
        raise UsageError(f"{name}: first is the number of a person, 0 to {MOST}")
    images = (5 if volumes else 9) * options.count * options.size ** (3 if volumes else 2)
    check_bytes(images, name)
    if options.label not in labels:
        raise UsageError(f"{name}: label is one of {', '.join(labels)}")
    if options.pairs not in ("none", "people", "motion"):
        raise UsageError(f"{name}: pairs is one of none, people, motion")
    return volumes, options


def open_brains(name: str, seed: int = 0) -> Table:
    """Make the data set called `name`: keys t1, t2, flair, tissue (1 fluid, 2 grey, 3 white), lesion, and numbers of
    the person (brain_size, ventricles, atrophy, t1_contrast; see `anatomy.Subject`). Slices have "shares" too, of
    every pixel what is outside, fluid, grey and white, and the number "height", mm above the anterior commissure.

    Slices are `(C, rows, columns)` as a radiologist sees them: front up, the person's right on
    the left. Volumes have index axes to the right, front and top. Both have their affine.
    """
    volumes, options = parse(name)
    about = f"radiffuse brains 1, {volumes}, {options}, seed {seed}".replace(", first=0)", ")")
    if options.pairs != "none":
        return open_pairs(name, volumes, options, seed, hashlib.sha256(about.encode()).hexdigest())
    about = about.replace(", pairs='none'", "")
    made = [make_case(index, volumes, options, seed) for index in numbers_of(volumes, options)]
    affines = torch.stack([case.affine for case in made])

    def column(key: str) -> Column:
        data = torch.stack([case.images[key] for case in made])
        data = data if key == "shares" else data[:, None]
        if key in ("tissue", "lesion"):
            return ArrayColumn(data, "mask", f"{name}: {key}", affines)
        return ArrayColumn(data, "image", f"{name}: {key}", affines, "MR", (0.0, 255.0))

    ids = tuple(case.name for case in made)
    columns = {key: column(key) for key in made[0].images}
    for key in made[0].numbers:
        values = torch.tensor([case.numbers[key] for case in made])
        columns[key] = ArrayColumn(values, "scalar", f"{name}: {key}")
    names: tuple[str, ...] | None = None
    if options.label != "none":
        labels = [case.level if options.label == "level" else case.lesion for case in made]
        words = LEVELS if options.label == "level" else ("healthy", "lesion")
        columns["label"] = labels_from(torch.tensor(labels), name, ids)
        names = tuple(words[label] for label in labels)
    return Table(
        source=name,
        ids=ids,
        columns=columns,
        patients=tuple(case.patient for case in made),
        label_names=names,
        mask_names=_NAMES,
        default={"image": "t1"},
        fingerprint=hashlib.sha256(about.encode()).hexdigest(),
    )
