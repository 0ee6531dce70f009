"""A dataclass as plain values, those that TOML can hold, and back with every type checked. Needs no torch."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ..errors import UserError, did_you_mean
from .ranges import OutOfRange

__all__ = ["T", "build", "checked", "describe", "plain", "recorded", "replaced"]

T = TypeVar("T")


def plain(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass instance as TOML-able values; fields that are None are left out."""
    pairs = ((field.name, getattr(instance, field.name)) for field in dataclasses.fields(instance))
    return {name: _plain(value) for name, value in pairs if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def build(kind: type[T], values: Mapping[str, Any], where: str, default: T | None = None) -> T:
    """Build a dataclass from plain values, types checked.

    Args:
        kind: the dataclass.
        values: field name -> value as it comes from TOML; a name of before, in `kind.RENAMED`, is its
            field's of now.
        where: what the values are, to begin an error with ("config.toml: [recipe]").
        default: an instance that gives the fields `values` leaves out; None for the class defaults.

    Raises:
        UserError: an unknown field (the nearest is named), a wrong type, a value out of range, or a
            missing field.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    renamed = getattr(kind, "RENAMED", {})
    values = {renamed.get(name, name): value for name, value in values.items()}
    for name in values:
        if name not in fields:
            hint = did_you_mean(name, fields, f"there are {', '.join(fields)}")
            raise UserError(f"{where} has no field '{name}'; {hint}")
    kept = {} if default is None else {name: getattr(default, name) for name in fields}
    given = {name: checked(name, value, hints[name], where) for name, value in values.items()}
    missing = [name for name, field in fields.items() if _required(field)]
    missing = [name for name in missing if name not in given and name not in kept]
    if missing:
        raise UserError(f"{where}: the field '{missing[0]}' is missing")
    try:
        return kind(**{**kept, **given})
    except OutOfRange as error:
        raise UserError(f"{where}: {error.name} {error.said}") from None


def recorded(kind: type[T], values: Mapping[str, Any], where: str, default: T | None = None) -> T:
    """As `build`, of values that an earlier version may have written: what it had no field for is as it was then.

    `kind.BEFORE` says so, by field; a field that is not there is as `default` has it.
    """
    return build(kind, {**getattr(kind, "BEFORE", {}), **values}, where, default)


def _required(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def checked(name: str, value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says: lists become tuples, integers become floats, nothing else.

    Raises:
        UserError: the value is of another type.
    """
    converted = _convert(value, hint)
    if converted is _WRONG:
        raise UserError(f"{where}: {name} must be {describe(hint)}, not {value!r}")
    return converted


_WRONG = object()


def _convert(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 else _WRONG
    if hint is Path and isinstance(value, str):
        return Path(value)
    if origin is Literal:
        return value if value in arguments else _WRONG
    if origin in (Union, types.UnionType):
        options = (_convert(value, option) for option in arguments)
        return next((option for option in options if option is not _WRONG), _WRONG)
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if origin is dict:
        return _convert_dict(value, arguments[1])
    return value if type(value) is hint else _WRONG


def _convert_dict(value: Any, hint: Any) -> Any:
    if not isinstance(value, dict):
        return _WRONG
    items = {key: _convert(item, hint) for key, item in value.items()}
    return _WRONG if any(item is _WRONG for item in items.values()) else items


def _convert_tuple(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _WRONG
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        return _WRONG
    items = tuple(_convert(item, hint) for item, hint in zip(value, arguments, strict=True))
    return _WRONG if any(item is _WRONG for item in items) else items


_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


def describe(hint: Any) -> str:
    """A type in words: "an integer", "a list of numbers"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return " or ".join(describe(option) for option in options)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list, each item {describe(arguments[0])}"
    if origin is dict:
        return f"a table, each value {describe(arguments[1])}"
    if origin is tuple:
        return f"a list of {len(arguments)} items: {', '.join(map(describe, arguments))}"
    return _WORDS.get(hint, "text" if hint is Path else getattr(hint, "__name__", str(hint)))


def replaced(instance: T, values: Mapping[str, Any], where: str) -> T:
    """`instance` with some fields changed, names and types checked (see `build`)."""
    return build(type(instance), values, where, default=instance)
