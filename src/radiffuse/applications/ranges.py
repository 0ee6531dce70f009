"""Which values a field may have: rules as data, and the one line that refuses another. Needs no torch."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import UsageError

__all__ = [
    *("MOST", "SHARE", "Checked", "OutOfRange", "Rule"),
    *(
        "at_least",
        "below",
        "between",
        "inside",
        "less_than",
        "more_than",
        "none_or",
        "one_of",
        "one_or_more",
    ),
    *("refuse", "refuse_huge", "require", "up_to"),
]


class OutOfRange(UsageError):
    """A field has a value it may not have.

    Args:
        name: of the field.
        said: what is wrong with it, to follow the name.
    """

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"--{name.replace('_', '-')} {said}")
        self.name, self.said = name, said


@dataclass(frozen=True)
class Rule:
    """What a number must be, or each number of a list.

    Attributes:
        said: in words, to follow "must be".
        holds: whether a finite number is so.
        empty: whether a list may be empty.
    """

    said: str
    holds: Callable[[float], bool]
    empty: bool = True


def at_least(low: float) -> Rule:
    """low <= value."""
    return Rule(f"at least {low:g}", lambda value: value >= low)


def more_than(low: float) -> Rule:
    """low < value."""
    return Rule(f"more than {low:g}", lambda value: value > low)


def less_than(high: float) -> Rule:
    """value < high."""
    return Rule(f"less than {high:g}", lambda value: value < high)


def between(low: float, high: float) -> Rule:
    """low <= value <= high."""
    return Rule(f"between {low:g} and {high:g}", lambda value: low <= value <= high)


def inside(low: float, high: float) -> Rule:
    """low < value < high."""
    return Rule(f"more than {low:g} and less than {high:g}", lambda value: low < value < high)


def up_to(high: float) -> Rule:
    """0 < value <= high."""
    return Rule(f"more than 0 and at most {high:g}", lambda value: 0 < value <= high)


def below(high: float) -> Rule:
    """0 <= value < high."""
    return Rule(f"at least 0 and less than {high:g}", lambda value: 0 <= value < high)


def none_or(rule: Rule) -> Rule:
    """0, which leaves the value open, or as `rule` says."""
    return Rule(f"0 or {rule.said}", lambda value: value == 0 or rule.holds(value))


def one_of(*values: int) -> Rule:
    """One of a few."""
    words = ", ".join(map(str, values[:-1]))
    return Rule(f"{words} or {values[-1]}", lambda value: value in values)


def one_or_more(rule: Rule) -> Rule:
    """A list that is not empty."""
    return dataclasses.replace(rule, empty=False)


SHARE = between(0, 1)
MOST = 1_000_000
"""A larger whole number in a recipe is a slip of the hand: no network is as wide, no chain as long."""


def require(condition: bool, name: str, said: str) -> None:
    """Refuse the field `name` where `condition` does not hold.

    Raises:
        OutOfRange: "--name said".
    """
    if not condition:
        raise OutOfRange(name, said)


def refuse(instance: Any, rules: Mapping[str, Rule]) -> None:
    """Refuse the first field of `instance` that breaks its rule.

    Raises:
        OutOfRange: names the field and says the rule.
    """
    for name, rule in rules.items():
        value = getattr(instance, name)
        values = value if isinstance(value, tuple) else (value,)
        require(rule.empty or len(values) > 0, name, "needs one value or more")
        for each in values:
            # no number of Python beyond 1e300 is a float, or one that is
            fits = abs(each) < 1e300 and rule.holds(each)
            require(fits, name, f"must be {rule.said}, not {_told(each)}")


def _told(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e300 else str(value)[:20]


def refuse_huge(instance: Any) -> None:
    """Refuse the first field of a dataclass that is a whole number beyond `MOST`, or holds one.

    Raises:
        OutOfRange: names the field.
    """
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, int):
                said = f"must be at most {MOST}, not {_told(each)}"
                require(abs(each) <= MOST, field.name, said)


class Checked:
    """A dataclass whose values are checked when it is made, by the `RULES` of all its classes.

    A nearer class's rule replaces that of the same field.

    Raises:
        OutOfRange: a value breaks a rule.
    """

    RULES: ClassVar[Mapping[str, Rule]] = {}

    def __post_init__(self) -> None:
        rules: dict[str, Rule] = {}
        for kind in reversed(type(self).__mro__):
            rules |= vars(kind).get("RULES", {})
        refuse(self, rules)
        refuse_huge(self)
