"""`audit.json`, what `radiffuse audit` writes; read as the other records are (`records.read_record`)."""

from typing import Any

import msgspec
from msgspec import Struct

from .records import Metric, Number

__all__ = ["Audit"]


class Compared(Struct):
    """Of `Audit`: one way of comparing samples with training images; shares with `refused` where there are too few."""

    share: Metric
    beyond_chance: Metric | None = None
    chance: Number | None = None
    threshold: Number | None = None
    p: Number | None = None
    nearest: Metric = msgspec.field(default_factory=Metric)
    nearest_held_out: Metric = msgspec.field(default_factory=Metric)
    relative: Metric = msgspec.field(default_factory=Metric)
    relative_held_out: Metric = msgspec.field(default_factory=Metric)


class Remembered(Struct):
    """Of `Audit`: memorisation, by way of comparing; people and cases that samples are copies of."""

    eyes: dict[str, Compared] = {}
    people: list[dict[str, str | int]] = []
    cases: list[dict[str, str | int]] = []
    refused: str | None = None


class Extracted(Struct):
    """Of `Audit`: images that were drawn again and again."""

    threshold: Number | None = None
    groups: int | None = None
    largest: int | None = None
    samples: int | None = None
    extracted: int | None = None
    refused: str | None = None


class Audit(Struct):
    """`audit.json`. Membership and attributes: a table of `Metric` an attack, or `refused` and why.

    Attributes:
        samples: how many were looked at.
        train, held_out: images and people.
        verdict: sentences.
    """

    samples: int
    train: dict[str, int]
    held_out: dict[str, int]
    memorisation: Remembered
    extraction: Extracted
    membership: dict[str, Any]
    attributes: dict[str, Any]
    verdict: list[str]
    notices: list[str] = []
    name: str = ""
    run: str = ""
    model_sha256: str = ""
    command: str = ""
    version: str = ""
    environment: dict[str, Any] = {}
