"""Which column plays which role: names that `--map` and methods ask for."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..errors import UserError
from .columns import ArrayColumn, Column, names_image, names_mask
from .formats.arrays import labels_per_voxel
from .joined import JOINT, JoinedColumn, joined
from .rows import RowsColumn
from .table import Table, labels_from, labels_from_text, listener
from .unpaired import of_class

__all__ = ["mapped", "those_there", "with_lone_image"]


def with_lone_image(table: Table, wanted: Mapping[str, str], suited: Sequence[str]) -> Table:
    """The table with its only image called as the first image among `suited`, where it has none of these keys and no
    column that is `wanted`; told, but where nothing was wanted and it becomes "image"."""
    images = [key for key, column in table.columns.items() if column.kind == "image"]
    keys = [*filter(names_image, suited)]
    there = any(_has(table, name) for name in wanted.values()) or {*suited} & {*table.columns}
    if not keys or there or table.default or len(images) != 1:
        return table
    if wanted or keys[0] != "image":
        table.notices.append(f"{table.source}: {images[0]}, the only image, is taken for {keys[0]}")
    columns = {keys[0] if key == images[0] else key: c for key, c in table.columns.items()}
    return replace(table, columns=columns)


def those_there(
    table: Table,
    wanted: Mapping[str, str],
    gaps: Sequence[str],
    suited: Sequence[str] = (),
    roles: Sequence[str] = (),
) -> dict[str, str]:
    """Those of the columns `wanted` that a table has, by key; a notice names the others.

    Args:
        table: read.
        wanted: key -> column.
        gaps: keys of images that some cases may lack.
        suited: keys of which one is enough, where nothing of `wanted` is there.
        roles: keys that are taken beside these then.

    Raises:
        UserError: it has none.
    """
    classes = table.label_names or ()
    found = {
        k: name
        for k, name in wanted.items()
        if _has(table, name) or (k in gaps and name in classes)
    }
    if wanted and not found and {*suited} & {*table.columns}:
        return {key: key for key in (*suited, *roles) if key in table.columns}
    if wanted and not found:
        there = [*table.columns, *table.texts]
        image = next((k for k, column in table.columns.items() if column.kind == "image"), "")
        key = next(filter(names_image, (*suited, *wanted)), next(iter(wanted)))
        raise UserError(
            f"{table.source}: has none of the columns {', '.join(dict.fromkeys(wanted.values()))}; it has "
            f"{', '.join(there)}; --map {key}={image or there[0]} names one"
        )
    lacking = [name for key, name in wanted.items() if key not in found]
    if lacking:
        table.notices.append(f"{table.source}: has no column {', '.join(lacking)}")
    return found


def _has(table: Table, name: str) -> bool:
    """Whether a table has a column, or all those that are to be joined; a mask may be called a label, and words that
    are all empty are none."""
    words = {key for key, values in table.texts.items() if any(value.strip() for value in values)}
    there = {*table.columns, *words}
    if "mask" in there:
        there.add("label")
    return name in there or there.issuperset(name.split(JOINT))


def mapped(
    table: Table, mapping: Mapping[str, str], gaps: Sequence[str] = (), roles: Sequence[str] = ()
) -> Table:
    """Give columns the names of their roles; a lone image column is "image", unless it is called as one of `roles`, or
    "picture"."""
    if not mapping:
        images = [key for key, column in table.columns.items() if column.kind == "image"]
        if len(images) != 1 or images[0] in ("image", "picture", *roles):
            return table
        renamed = {"image" if k == images[0] else k: c for k, c in table.columns.items()}
        return replace(table, columns=renamed)
    table = joined(table, mapping)
    columns: dict[str, Column] = {}
    label_names, mask_names = table.label_names, {}
    for key, name in mapping.items():
        if name == "label" and name not in table.columns and "mask" in table.columns:
            name = "mask"  # MONAI and Decathlon call a mask a label
        if name in table.columns:
            columns[key] = _as_role(table.columns[name], key, table)
            mask_names[key] = table.mask_names.get(
                name.partition("+")[0], {}
            )  # of joined ones the first's
        elif key in gaps and name in table.texts and not any(table.texts[name]):
            raise UserError(
                f"{table.source}: column {name!r} names no image; leave --map {key}={name} out"
            )
        elif name in table.texts:
            where = f"{table.source}: {name}"
            columns[key], names = labels_from_text(table.texts[name], where, table.ids)
            label_names = names if key == "label" else label_names
        elif key in gaps and name in (table.label_names or ()):
            columns[key] = of_class(table, name)
        else:
            raise UserError(_no_column(table, key, name))
    if "label" in table.columns and "label" not in columns:
        columns["label"] = table.columns["label"]
    return replace(table, columns=columns, label_names=label_names, mask_names=mask_names)


def _as_role(column: Column, key: str, table: Table) -> Column:
    if names_mask(key) and column.kind == "image":
        return _as_mask(column, listener(table.notices))
    if key == "label" and column.kind == "scalar":
        return labels_from(column.stack(range(len(table.ids))), table.source, table.ids)
    return column


def _no_column(table: Table, key: str, name: str) -> str:
    there = [*table.columns, *table.texts]
    if name in (table.label_names or ()):
        raise UserError(
            f"{table.source}: {name!r} is a class, its cases are others than those of other classes; only a method "
            f"of unpaired images takes it for {key!r}"
        )
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{table.source}: has no column {name!r} for {key!r}; {hint}It has {', '.join(there)}"


def _as_mask(column: Column, notice: Callable[[str], None]) -> Column:
    """Images as masks, looked at as such whose names say what they are; files are when they are read.

    Raises:
        UserError: several channels, NaN, infinite or negative numbers, fractions.
    """
    if isinstance(column, JoinedColumn):
        return replace(column, parts=tuple(_as_mask(part, notice) for part in column.parts))
    if isinstance(column, ArrayColumn):
        data = labels_per_voxel(column.data, column.name, notice)
        return replace(column, data=data, kind="mask", range=None)
    if isinstance(column, RowsColumn):
        read, name = column.convert, column.name
        made = replace(column.as_kind("mask"), range=None, digests={})
        return replace(made, convert=lambda part: labels_per_voxel(read(part), name, notice))
    return column.as_kind("mask")
