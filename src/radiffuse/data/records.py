"""The JSON files of runs and predictions, one type each: what is read of them is checked first.

A field that nothing reads is let through, whatever it holds: later versions of a format may add some.
"""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..errors import UserError

__all__ = [
    "FORMAT",
    "LATENTS",
    "Calibrated",
    "Entry",
    "Latents",
    "Manifest",
    "Metrics",
    "Point",
    "Predictions",
    "read_record",
    "refuse_format",
    "values_of",
]

FORMAT = 1
"""Format of `config.toml` and of the JSON files of runs and predictions. A change that older code would misread gets
the next number."""

LATENTS = "latents.json"
"""What `train` found of the codes of a latent diffusion."""

Number = int | float
Interval = tuple[Number | None, Number | None]
FileName = Annotated[str, Meta(pattern=r"^(?!\.{1,2}$)[^/\\\x00]+$")]
"""A file in the folder itself: a record never leads out of it."""


class Facts(Struct):
    """Of `Manifest.data`: what the recipe was fitted to."""

    channels: dict[str, int] = {}
    size: dict[str, list[int]] = {}
    class_names: list[str] = []
    mask_names: dict[str, list[str]] = {}


class Stored(Struct):
    """Of `Manifest.data`: how the first image is stored."""

    range: tuple[Number, Number] | None = None
    dtype: str = "uint8"
    affine: list[list[Number]] | None = None


class Data(Struct):
    """Of `Manifest`: the data of the training; `seen` by image key, see `data.seen`."""

    path: str = ""
    fingerprint: str = ""
    cases: int | None = None
    facts: Facts = msgspec.field(default_factory=Facts)
    stored: Stored = msgspec.field(default_factory=Stored)
    seen: dict[str, dict[str, tuple[Number, Number]]] = {}


class First(Struct):
    """Of `Manifest`: the first stage."""

    sha256: str = ""


class Budget(Struct):
    """Of `Manifest`: what a private training keeps to and has spent (`training.budget.Plan`)."""

    epsilon: Number
    delta: Number
    unit: str
    units: int
    batch: int
    steps: int
    clip: Number
    noise_multiplier: Number
    draws: int
    accountant: str
    sampling_rate: Number
    steps_taken: int
    epsilon_spent: Number


class Manifest(Struct):
    """`manifest.json` of a run.

    Attributes:
        model_sha256: of model.safetensors; two while one replaces the other.
        first: of a latent diffusion, its auto-encoder.
        private: the budget of a differentially private training.
    """

    method: str = ""
    preset: str = ""
    version: str = ""
    commit: str | None = None
    command: str = ""
    data: Data = msgspec.field(default_factory=Data)
    environment: dict[str, Any] = {}
    model_sha256: str | list[str] | None = None
    first: First | None = None
    private: Budget | None = None


class Calibrated(Struct):
    """`calibration.json` of a run.

    Attributes:
        model_sha256: of the model it is of.
        healthy_levels: shares of healthy values, and the threshold that each lies above.
        strength: of a purification.
    """

    model_sha256: str
    healthy_levels: Annotated[list[tuple[Number, Number]], Meta(min_length=1)] | None = None
    strength: Annotated[float, Meta(ge=0)] | None = None


class Metric(Struct):
    """One number with its interval, or why there is none."""

    mean: Number | None = None
    ci95: Interval | None = None
    n: int | None = None
    refused: str | None = None


class Features(Struct):
    """Of `Metrics`: the features of a distance of sets."""

    name: str = ""
    hash: str = ""


class Ranks(Struct):
    """Of `Metrics`: where the truth stands among draws."""

    shares: list[Number] = []


class Referred(Struct):
    """A point of a curve over the share of cases that a reader sees."""

    referred: Number | None = None
    mean: Number | None = None
    ci95: Interval | None = None


class Rejection(Struct):
    """Of `Metrics`: accuracy against cases referred."""

    by: str = ""
    curve: list[Referred] = []


class Calibration(Struct):
    """Of `Metrics`: what healthy cases look like."""

    voxels: list[tuple[Number, Number]] | None = None
    healthy_scores: list[Number] = []
    refused: str | None = None


class Part(Struct):
    """Of `MeasuredData`: one split."""

    split: list[str] = []
    n: int | None = None
    patients: int | None = None
    fingerprint: str = ""


class MeasuredData(Struct):
    """Of `Metrics`: the data of the numbers."""

    source: str = ""
    train: Part = msgspec.field(default_factory=Part)
    held_out: Part = msgspec.field(default_factory=Part)


class Settings(Struct):
    """Of `Metrics`: what was asked for, states and cases of trajectory.png, columns of pictures and their ends."""

    frames: Annotated[list[int], Meta(max_length=2)] = []
    panels: list[str] = []
    scales: dict[str, Number] = {}
    copy_threshold: Number | None = None
    deciding: dict[str, Any] = {}


class Metrics(Struct):
    """`metrics.json` of an evaluation."""

    id: str = ""
    name: str = ""
    shown: list[str] = []
    method: dict[str, Metric] = {}
    baseline: dict[str, Metric] = {}
    reference: dict[str, Metric] = {}
    baselines: dict[str, dict[str, Metric]] = {}
    features: Features = msgspec.field(default_factory=Features)
    settings: Settings = msgspec.field(default_factory=Settings)
    data: MeasuredData = msgspec.field(default_factory=MeasuredData)
    rank_histogram: Ranks = msgspec.field(default_factory=Ranks)
    rejection: dict[str, Rejection] = {}
    calibration: Calibration = msgspec.field(default_factory=Calibration)
    command: str = ""
    environment: dict[str, Any] = {}
    model_sha256: str = ""


class Latents(Struct):
    """`latents.json` of a latent diffusion."""

    shift: list[float] = []
    scale: list[float] = []
    mean: list[float] = []
    deviation: list[float] = []
    overall: float = 0.0
    own_noise: float = 0.0
    start: float = 0.0
    levels: list[dict[str, float]] = []
    decoder: list[dict[str, float]] = []
    codes: dict[str, Any] = {}
    verdict: list[str] = []


class Column(Struct):
    """Of `Shown`: what a column of a strip is.

    Attributes:
        key: of the batch or the prediction.
        width: in pixels of the strip.
        kind: "grey", "heat" (black over red and yellow to white) or "labels".
        least, most: values that are black and white.
        unit: of these.
        labels: those that are there.
    """

    key: str = ""
    width: int = 0
    kind: str = ""
    least: Number = 0.0
    most: Number | None = None
    unit: str = ""
    labels: list[int] = []


class Shown(Struct):
    """Of `Entry`: the pictures of a case side by side.

    Attributes:
        file: that holds them.
        heads: of the columns.
        columns: what they are.
        given: volumes that were given, by key.
        made: volumes that were made where that is no NIfTI file, by key.
        names: of the labels of masks, by key; "" has none.
        unit: of the stored values.
    """

    file: str = ""
    heads: list[str] = []
    columns: list[Column] = []
    given: dict[str, str] = {}
    made: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    unit: str = ""


class Written(Struct):
    """Of `Entry`: one file. `kind` is derived or synthetic; `method`, `run` and `version` are what made it."""

    file: str
    key: str = ""
    role: str = ""
    sha256: str = ""
    kind: str = ""
    method: str = ""
    run: str = ""
    version: str = ""


class Entry(Struct):
    """What was written of a case: of `Predictions`, and of the parts that become them.

    Attributes:
        files: by key; of a DICOM series of several files their folder.
        shown: pictures of the case.
        written: every file, with its role and hash.
    """

    case: str
    files: dict[str, FileName]
    shown: Shown | None = None
    written: list[Written] = []


class Predictions(Struct):
    """`predictions.json` of `sample` and `predict`."""

    settings: dict[str, Any]
    predictions: list[Entry]
    run: str = ""
    command: str = ""
    version: str = ""
    environment: dict[str, Any] = {}


class Point(Struct):
    """Of `quality.json`, a list: the quality of one number of steps."""

    name: str = ""
    evaluations: Number | None = None
    fid: Metric = msgspec.field(default_factory=Metric)


def read_record(path: Path | str, kind: Any) -> Any:
    """Read a JSON record whose fields are those of `kind`, as plain values.

    Args:
        path: the file.
        kind: `Manifest`, `Metrics`, `Predictions`, `list[Point]` ...

    Raises:
        UserError: it is missing, no JSON or of another format, or a field is of another type (named).
    """
    path = Path(path)
    try:
        value = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if isinstance(value, dict) and "format" in value:
        refuse_format(path, value["format"])
    return values_of(value, kind, path)


def values_of(value: Any, kind: Any, path: Path) -> Any:
    """`value` if its fields are those of `kind`.

    Raises:
        UserError: names the file, the field, what was expected there and what was found.
    """
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$")
        said = re.sub(r"`str` matching regex .*", "the name of a file in this folder", said)
        said = said[0].lower() + said[1:].replace("`", "")
        field = where.rstrip("`").lstrip(".")
        raise UserError(
            f"{path}: {field + ': ' if field else ''}{said}; not written by radiffuse, or changed since"
        ) from None
    return value


def refuse_format(path: Path | str, written: Any, advice: str = "use that version") -> None:
    """Refuse a record of another format.

    Raises:
        UserError: says which it is, and whether that is older or newer.
    """
    if type(written) is not int:
        raise UserError(
            f"{path}: format: expected int, got {written!r}; not written by radiffuse, or changed since"
        )
    if written != FORMAT:
        other = "a newer" if written > FORMAT else "an older"
        raise UserError(
            f"{path}: written by {other} radiffuse (format {written}, not {FORMAT}); {advice}"
        )
