"""What a task is: the keys of a batch it reads and of a prediction it writes."""

from dataclasses import dataclass

from .. import papers

__all__ = ["Task", "tasks"]


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
        unpaired: images of which a case may have one and another case another.
        alike: keys that must be on one grey scale.
        pictures: keys that are pictures where a prediction is a volume.
        subset: field of the recipe that names images which training and evaluation need all, and of which a case to
            predict has some and lacks some; what it lacks is written. "": there is none.
        beside: whether `evaluate --beside RUN` measures other runs on the same cases.
        raw: predictions that are stored as the numbers they are, not in the input's grey range.
        intervals: predictions of which several draws give the half width of a 90 % interval.
        evaluation: "module:function" that measures a method beside its baselines (see `evaluate`).
        title: heading of its results.
        shown: metrics that the tables of recorded results show; the records have them all.
        page: "module:function" that makes a section of them: (record, name, shown) -> lines.

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
    unpaired: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    subset: str = ""
    beside: bool = False
    evaluation: str = ""
    title: str = ""
    shown: tuple[str, ...] = ()
    page: str = "radiffuse.applications.evaluation.page:comparison"


def tasks() -> dict[str, Task]:
    """Every application that has a method, by its name; generation first, then as in the survey.

    Where methods differ in their keys, the task of the first of them.
    """
    found: dict[str, Task] = {}
    for paper in sorted(papers.rows(), key=lambda paper: paper.number or 0):
        if paper.recipe:
            task = paper.load().task
            found.setdefault(task.name, task)
    return found
