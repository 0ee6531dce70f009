"""A run as the flags of `predict` ask for it: opened once, however many data it is applied to."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import UserError
from ..runs.run import Run, open_run
from ..training import processes
from . import parsing
from .healthy import Outputs, beside_healthy
from .tiles import in_tiles

__all__ = ["Ready", "first_time", "ready"]

_DONE: WeakKeyDictionary[Any, set[Hashable]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Ready:
    """A run that can predict.

    Attributes:
        run: with the steps, settings and precision that were asked for.
        judged: adds p-values to its outputs, where healthy cases were measured.
        notice: why it does not; "" where it does.
    """

    run: Run
    judged: Callable[[Outputs], Outputs]
    notice: str


def first_time(opened: Run, what: Hashable) -> bool:
    """Whether this was not yet asked of an opened run: what is measured once need not be measured for all data."""
    done = _DONE.setdefault(opened.objective, set())
    first = what not in done
    done.add(what)
    return first


def ready(flags: Any) -> Ready:
    """Open the run that the flags of `predict` name.

    Raises:
        UserError: it makes images from nothing, or a setting is none of its.
    """
    processes.start()
    opened = open_run(flags.run)
    if opened.generative:
        raise UserError(
            f"{flags.run}: {opened.config.method} makes images from nothing but seeds; "
            f"use `radiffuse sample {flags.run} --count N --out DIR`"
        )
    opened = opened.with_steps(flags.steps).with_settings(parsing.pairs(flags.set, "--set"))
    opened = in_tiles(opened.with_precision(flags.precision), flags.tile, flags.overlap)
    return Ready(*beside_healthy(opened))
