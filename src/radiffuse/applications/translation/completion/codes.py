"""Codes of what a case has: which of its contrasts are given, and a case as one tensor of all of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ....data.gaps import FLAG
from ....errors import UserError

if TYPE_CHECKING:
    from ....data.dataset import Facts

__all__ = [
    *("check_contrasts", "codes_of", "configurations", "contrasts_of", "named", "whole"),
]


def contrasts_of(facts: "Facts", asked: Sequence[str]) -> tuple[str, ...]:
    """Names of the contrasts of a set: those `asked` for, or all of its images.

    Raises:
        UserError: fewer than two, one that is not there, or one in colour.
    """
    names = tuple(asked) or tuple(facts.channels)
    if len(names) < 2:
        raise UserError(
            f"two contrasts or more are needed, and there is {', '.join(names) or 'no image'}; name them with "
            "--map t1=COLUMN flair=COLUMN"
        )
    for name in names:
        if name not in facts.channels:
            there = ", ".join(facts.channels)
            raise UserError(f"--contrasts {name}: the data have no such image; there are {there}")
        if facts.channels[name] != 1:
            raise UserError(
                f"{name} has {facts.channels[name]} channels, and a contrast is grey; leave it out with --map"
            )
    return names


def configurations(count: int) -> Tensor:
    """All codes of `count` contrasts but "all missing" and "none missing": bool (2^M - 2, M), True where given."""
    numbers = torch.arange(1, 2**count - 1)
    return (numbers[:, None] >> torch.arange(count) & 1).bool()


def named(code: Tensor, contrasts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the contrasts that a code (M,) has, and of those it lacks."""
    pairs = list(zip(contrasts, code.tolist(), strict=True))
    return [name for name, there in pairs if there], [name for name, there in pairs if not there]


def codes_of(batch: Mapping[str, Tensor], contrasts: Sequence[str]) -> Tensor:
    """Which contrasts each case of a batch has, bool (B, M).

    Raises:
        UserError: a case has all of them, or none.
    """
    there = [key for key in contrasts if key in batch]
    told = ", ".join(contrasts)
    if not there:
        raise UserError(f"none of {told} is given, and at least one is needed")
    first = batch[there[0]]
    none, every = first.new_zeros(len(first)), first.new_ones(len(first))
    flags = [batch.get(key + FLAG, every) if key in there else none for key in contrasts]
    codes = torch.stack(flags, 1) > 0.5
    if bool((~codes).all(1).any()):
        raise UserError(f"none of {told} is given, and at least one is needed")
    if bool(codes.all(1).any()):
        raise UserError(f"none of {told} is missing, so that there is nothing to make")
    return codes


def whole(batch: Mapping[str, Tensor], contrasts: Sequence[str]) -> Tensor:
    """The contrasts of a batch as one tensor (B, M, *S); what no case has is 0."""
    like = next(batch[key] for key in contrasts if key in batch).float()
    return torch.cat(
        [batch[key].float() if key in batch else torch.zeros_like(like) for key in contrasts], 1
    )


def check_contrasts(batch: Mapping[str, Tensor], contrasts: Sequence[str]) -> None:
    """Refuse a given contrast of one grey value: an image that is not there is no black image.

    Raises:
        UserError: names it.
    """
    for key in (key for key in contrasts if key in batch):
        flat = batch[key].flatten(1)
        constant = (flat == flat[:, :1]).all(1)
        if bool((constant & (batch.get(key + FLAG, torch.ones(len(flat))).to(flat) > 0.5)).any()):
            raise UserError(
                f"{key} is constant (one grey value throughout); where there is no image leave its cell empty, "
                "or its column out"
            )
