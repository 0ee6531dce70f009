"""The whole audit of a generative run: memorisation, membership, extraction, attributes, and a verdict in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....errors import UserError
from ....report.pictures import write_pairs
from ....training.options import TrainOptions
from ...latent.denoising import CodeDenoising
from .attacks import Shadow, membership, shadows
from .attributes import attributes
from .memory import Eye, extraction, looked_at, memorisation, pairs
from .people import People, as_one, chosen, read_people, without_repeats
from .verdict import verdict

__all__ = ["PICTURE", "Examined", "audit"]

PICTURE = "copies.png"
GONE = "the training data are not at hand"
NO_OTHERS = "there are no held-out images; name others of the same kind with --data"


@dataclass(frozen=True)
class Examined:
    """What is audited.

    Attributes:
        recipe, objective: a trained generative method.
        samples: images it drew, `(n, C, *S)` in [-1, 1].
        told: their labels, or None.
        train: its training cases; None where they are not at hand.
        held_out: cases of other people; None or empty where there are none.
        options: how it was trained, for shadow models.
    """

    recipe: Any
    objective: Any
    samples: Tensor
    told: Tensor | None
    train: Cases | None
    held_out: Cases | None
    options: TrainOptions | None = None


def audit(
    of: Examined, out: Path, *, cases: int = 256, shadow_models: int = 0, seed: int = 0
) -> dict[str, Any]:
    """The record of an audit; `out` gets the sheet of pairs, and keeps the networks and shadow models.

    Args:
        of: what is audited.
        out: folder.
        cases: members, and as many others, that attacks are tried on.
        shadow_models: to train; 0 or an even number.
        seed: of all draws.

    Raises:
        UserError: samples and images differ in size, or the training cases are of one person.
    """
    notices: list[str] = []
    train = None if of.train is None else _known(of.train, "training", notices)
    others = None
    if of.held_out is not None and len(of.held_out):
        others = _known(of.held_out, "held-out", notices)
    if train is not None and others is not None:
        others, lost = without_repeats(others, train)
        if lost:
            notices.append(
                f"{lost} held-out images are training images, or of people trained on: left out"
            )
        others = others if len(others) else None
    others = _told_all(of, others, notices)
    _check(of.samples, train, others)
    eyes: dict[str, Eye] = {}
    remembered: dict[str, Any] = {"refused": GONE if train is None else NO_OTHERS}
    if train is not None and others is not None:
        assert of.train is not None
        eyes = looked_at(of.samples, train, others, of.train.fingerprint, out / "features")
        remembered = memorisation(eyes, train)
        _sheet(out / PICTURE, of.samples, train, eyes)
    record: dict[str, Any] = {
        "samples": len(of.samples),
        "train": _counted(train),
        "held_out": _counted(others),
        "memorisation": remembered,
        "extraction": extraction(of.samples, others, eyes),
        **_attacked(of, train, others, out, cases, shadow_models, seed, notices),
        "notices": notices,
    }
    return {**record, "verdict": verdict(record)}


def _known(cases: Cases, which: str, notices: list[str]) -> People:
    """The images, with people who share one as one person, which is told."""
    people, repeated = as_one(read_people(cases))
    if repeated:
        notices.append(
            f"{repeated} {which} people have an image that is another's too, to the last grey: counted as one person"
        )
    return people


def _told_all(of: Examined, others: People | None, notices: list[str]) -> People | None:
    """Held-out images of which every number is known that a latent diffusion is told.

    Raises:
        UserError: the data lack one.
    """
    if others is None or not isinstance(of.objective, CodeDenoising):
        return others
    names = tuple(getattr(of.recipe, "names", ()))
    if lacking := [name for name in names if name not in others.numbers]:
        raise UserError(
            f"the held-out data have no {', '.join(lacking)}, which the model is told; --map {lacking[0]}=COLUMN"
        )
    kept = [
        row
        for row in range(len(others))
        if all(bool(others.numbers[name][row].isfinite()) for name in names)
    ]
    if len(kept) < len(others):
        lost = len(others) - len(kept)
        notices.append(f"{lost} held-out images lack a number that the model is told: left out")
    return others.take(kept) if kept else None


def _counted(people: People | None) -> dict[str, int]:
    if people is None:
        return {"images": 0, "people": 0}
    return {"images": len(people), "people": len(set(people.patients))}


def _check(samples: Tensor, train: People | None, others: People | None) -> None:
    for people in (train, others):
        if people is not None and people.images.shape[1:] != samples.shape[1:]:
            ours, theirs = tuple(samples.shape[1:]), tuple(people.images.shape[1:])
            raise UserError(f"samples of shape {ours} cannot be compared with images of {theirs}")
    if train is not None and len(set(train.patients)) < 2:
        raise UserError("the training images are of one person: an audit needs two or more")
    if not torch.isfinite(samples).all():
        raise UserError("a sample holds values that are not finite; the model has diverged")


def _attacked(
    of: Examined,
    train: People | None,
    others: People | None,
    out: Path,
    cases: int,
    count: int,
    seed: int,
    notices: list[str],
) -> dict[str, Any]:
    """Membership and attributes, which need members and others."""
    reason = GONE if train is None else NO_OTHERS if others is None else ""
    if not reason and not (
        hasattr(of.recipe, "denoiser") or isinstance(of.objective, CodeDenoising)
    ):
        reason = "the method has no denoiser whose error could be compared"
    if reason:
        return {"membership": {"refused": reason}, "attributes": {"refused": reason}}
    assert train is not None and others is not None
    members, rest = chosen(train, cases, seed), chosen(others, cases, seed)
    models: Sequence[Shadow] = ()
    if count and isinstance(of.objective, CodeDenoising):
        notices.append("no shadow models: they would share the auto-encoder that saw all people")
    elif count:
        assert of.train is not None and of.held_out is not None and of.options is not None
        parts = of.train, of.held_out
        models = shadows(of.recipe, parts, of.options, count, out / "shadows", seed)
    return {
        "membership": membership(of.recipe, of.objective, members, rest, models, seed),
        "attributes": attributes(of.recipe, of.objective, members, rest, of.samples, of.told, seed),
    }


def _sheet(path: Path, samples: Tensor, train: People, eyes: dict[str, Eye]) -> None:
    """The pairs nearest to each other: sample left, training image right, the eye and its relative distance below."""
    shown = pairs(eyes)
    notes = [f"{eye} {value:.2f} {'COPY' if copy else ''}" for _, _, eye, value, copy in shown]
    left = [samples[row].numpy() for row, *_ in shown]
    right = [train.images[at].numpy() for _, at, *_ in shown]
    write_pairs(path, left, right, notes, columns=4)
