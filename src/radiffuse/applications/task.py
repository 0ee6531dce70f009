"""What a task is: the keys of a batch it reads and of a prediction it writes."""

from dataclasses import dataclass

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """An application of the survey.

    Attributes:
        name: as in the survey ("generation", "translation", ...).
        reads: keys a training batch must hold.
        optional: keys it uses where they are there.
        writes: keys of a prediction.
        given: of these keys prediction needs one; empty: it reads what training reads.
        paired: keys that must show the same anatomy, position by position.
        alike: keys that must be on one grey scale.
        raw: predictions that are stored as the numbers they are, not in the input's grey range.
        intervals: predictions of which several draws give the half width of a 90 % interval.

    A prediction "_KEY" is KEY with its sign or phase: it is not written, the mean of several draws of KEY
    is the magnitude of its mean, and its variance is written as "KEY-energy".
    """

    name: str
    reads: tuple[str, ...]
    optional: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()
    paired: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
