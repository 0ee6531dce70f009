"""`train --train.private`: what of the data may be seen by it, before its first step and in its run folder."""

import math
from functools import partial
from typing import Any

from ..data.dataset import Cases, Facts
from ..diffusion.spectrum import BINS, power_on
from ..errors import UsageError, UserError
from ..runs.run import record_model
from ..training.budget import planned, refuse_options
from ..training.private import Ledger, Private, people, refuse_objective
from ..training.progress import say
from .train_flags import Order

__all__ = ["begun", "public", "published", "refuse"]

STD = 0.5
"""Deviation that images in [-1, 1] are taken to have: a constant, for theirs would be a number of the data."""


def refuse(asked: Order, cases: Cases) -> None:
    """Refuse what would read from the data more than the noised gradients do.

    Raises:
        UsageError, UserError: names what breaks the guarantee, and which flag mends it.
    """
    try:
        import opacus  # noqa: F401
    except ImportError:
        raise UsageError("--train.private needs Opacus: pip install 'radiffuse[private]'") from None
    refuse_options(asked.train)
    recipe, no = asked.recipe, f"--train.private: {asked.method}"
    if asked.first is not None or asked.later:
        raise UserError(f"{no} trains several networks after each other, and the budget is of one")
    for name in ("suitable", "calibrated", "learns_from"):
        if hasattr(recipe, name):
            raise UserError(f"{no} chooses among the training cases by what they show ({name})")
    if recipe.task.name != "generation":
        raise UserError(f"{no} makes no images from noise alone; ddpm, ncsn and sde can be private")
    given = asked.data.range
    if not given:
        raise UsageError(
            "--train.private: the range of stored values would be read from the data; --range LOW HIGH names it"
        )
    wrong = [key for key in cases.image_keys if tuple(cases.ranges[key]) not in set(given.values())]
    if wrong:
        raise UsageError(f"--train.private: {wrong[0]} is scaled by another range than --range")
    wants = getattr(recipe, "conditional", False) or getattr(recipe, "classifier", False)
    if wants and not recipe.classes:
        raise UsageError(
            "--train.private: the number of classes would be read from the data; --classes N names it"
        )
    if getattr(cases.columns.get("image"), "reference", ()):
        raise UserError("--train.private: the stain of the tiles was measured on the data")


def public(facts: Facts, recipe: Any) -> Facts:
    """Facts without what was measured: keys, channels and sizes as they are, constants for all else.

    Args:
        facts: of the data.
        recipe: not fitted; its classes are named by a flag.
    """
    return Facts(
        keys=facts.keys,
        channels=facts.channels,
        size=facts.size,
        classes=getattr(recipe, "classes", 0),
        class_names=(),
        std=STD,
        mean=0.0,
        # of two independent images of that deviation
        diameter=STD
        * math.sqrt(2 * max(facts.channels[k] * math.prod(facts.size[k]) for k in facts.channels)),
        cases=facts.cases,
        spectrum={key: _spectrum(facts.size[key]) for key in facts.channels},
    )


def _spectrum(size: tuple[int, ...]) -> tuple[float, ...]:
    """Power that falls as 1 / f^2, as that of most pictures does, of variance STD^2 on images of this size."""
    falling = (0.0, *(float(f"{((n + 0.5) / BINS) ** -2:.4g}") for n in range(BINS)))
    half = power_on(falling, size)
    scale = STD**2 / float(half.flatten()[1:].mean())
    return (STD**2, *(float(f"{scale * value:.4g}") for value in falling[1:]))


def published(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without what was read from images: fingerprint, brightness, position, modality, how many there are."""
    data = {name: value for name, value in manifest["data"].items() if name != "cases"}
    facts = {name: value for name, value in data["facts"].items() if name != "cases"}
    stored = {name: data["stored"].get(name) for name in ("range", "dtype")}
    kept = {**data, "fingerprint": "", "seen": {}, "facts": facts, "stored": stored}
    return {**manifest, "data": kept}


def begun(
    asked: Order, objective: Any, training: Cases, manifest: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan of a private training, said, and what `loop.train` is told of it.

    Returns:
        The manifest with the budget, which the training keeps up to date, and arguments of `loop.train`.

    Raises:
        UsageError, UserError: the objective cannot be trained privately, or the budget cannot be kept.
    """
    refuse_objective(asked.method, objective)
    unit, members = people(training.names, training.patients)
    (network,) = objective.players.values()
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    plan = planned(asked.train, unit, len(members), parameters)
    per = "" if unit == "patient" else "; the data name no patients, so it is about single images"
    say(
        f"note: private training of {len(members)} {unit}s: {plan.steps} steps with {plan.batch} of them each in the "
        f"mean, gradients of norm {plan.clip:g} at most and noise of {plan.noise_multiplier:.4g} times that keep to "
        f"epsilon {plan.epsilon:g} at delta {plan.delta:g}{per}"
    )
    say(
        f"note: taken as public and not protected: that there are {len(members)} {unit}s, size and channels of the "
        "images, and all that evaluation measures or shows; the loss is not shown, for it would be a number of the data"
    )
    ledger = Ledger(plan)
    kept = published(manifest) | {"private": ledger.told}
    record = partial(record_model, asked.out, kept)
    kind = partial(Private, ledger=ledger, members=members)
    return kept, {"kind": kind, "about": kept, "record": record}
