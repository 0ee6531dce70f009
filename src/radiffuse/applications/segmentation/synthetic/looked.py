"""Whether made maps do as they are told, and whether content and style of made images are apart."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....data.cases import Cases
from ....diffusion.noise import derive
from ....metrics.estimate import (
    REPLICAS,
    Metric,
    average,
    measured,
    proportion,
    quantiles,
    refused,
    resamples,
)
from ....metrics.translation import correlation
from ....training.objective import device_of
from .painting import STYLE, Painting
from .stages import Stages

__all__ = ["COUNT", "disentangled", "edges", "means_of_tissues", "obeyed", "pearson"]

COUNT = 64
"""Maps, and images, that are looked at."""
NEAREST = 15
"""Training cases nearest to a number, whose mean body is what to expect there."""
FEW = 20
"""Fewer voxels of a tissue have no mean."""


def obeyed(recipe: Any, stages: Stages, train: Cases, seed: int, batch: int) -> dict[str, Metric]:
    """What a flag and a number change in made maps; the same seeds with a flag on and off.

    Returns:
        For each flag NAME: "NAME_on" and "NAME_off", mean voxels of the label; "NAME_there_on" and "..._off", the
        share of maps that have any; "NAME_ratio", the first over the second. For each number NAME: "NAME_body", the
        correlation of the body's area with that of training cases of the same number.
    """
    seeds = torch.tensor([derive(seed, "map", k) for k in range(COUNT)])
    values = recipe.values(seeds)

    def drawn(given: Tensor) -> Tensor:
        parts = [
            recipe.drawn_maps(stages, {"seed": s, "covariates": v})
            for s, v in zip(seeds.split(batch), given.split(batch), strict=True)
        ]
        return torch.cat(parts).cpu()

    found: dict[str, Metric] = {}
    off = values.clone()
    off[:, : recipe.labels] = 0
    without = drawn(off)
    for label in range(recipe.labels):
        on = off.clone()
        on[:, label] = 1
        with_it = drawn(on)
        areas = [
            (recipe.maps.mask(maps) == label + 1).flatten(1).sum(1).double()
            for maps in (with_it, without)
        ]
        name = recipe.names[label]
        for word, area in zip(("on", "off"), areas, strict=True):
            found[f"{name}_{word}"] = average(area)
            found[f"{name}_there_{word}"] = proportion(area > 0)
        found[f"{name}_ratio"] = _ratio(*areas)
    for place, name in enumerate(recipe.names[recipe.labels :], recipe.labels):
        expected = _expected(recipe, train, name)(values[:, place])
        found[f"{name}_body"] = pearson(_body(without), expected)
    return found


def disentangled(recipe: Any, painting: Painting, held_out: Cases, batch: int) -> dict[str, Metric]:
    """Images painted on the maps of held-out cases in the styles of others.

    Returns:
        For each modality KEY: "KEY_style", the correlation of mean intensities of tissues with those of the image that
        gave the style; "KEY_intensity", how far they are from them, a share of them; "KEY_edges", the correlation of
        gradients of two images of one map, and "KEY_edges_other" of two maps; "KEY_between_maps", how far
        intensities of tissues are apart in two images of one style, a share of them; "KEY_gate" and
        "KEY_gate_real", the share of made and of real images that the gate takes for what they are.
    """
    rows = [
        k * len(held_out) // min(len(held_out), COUNT) for k in range(min(len(held_out), COUNT))
    ]
    cases = held_out.batch(rows)
    maps, turn = recipe.maps.of(cases), max(1, len(rows) // 2)
    hard = recipe.maps.hard(maps)
    found: dict[str, Metric] = {}
    for kind, key in enumerate(painting.keys):
        real = cases[key]
        device = device_of(painting)
        style = _in_parts(lambda x: painting.players[STYLE](x)[0], batch, device, real)
        one, two = style.roll(turn, 0), style.roll(turn + 1, 0)
        paint = painting.painted
        first, second = (_in_parts(paint, batch, device, maps, z) for z in (one, two))
        other = _in_parts(paint, batch, device, maps.roll(turn, 0), one)
        made, wanted = means_of_tissues(first, hard), means_of_tissues(real, hard).roll(turn, 0)
        again = means_of_tissues(other, hard.roll(turn, 0))
        gates = (painting.passes(x.to(device), kind).cpu() for x in (first, real))
        found |= {
            f"{key}_style": _about_their_means(made, wanted),
            f"{key}_intensity": _apart(made, wanted),
            f"{key}_edges": average(correlation(edges(first), edges(second))),
            f"{key}_edges_other": average(correlation(edges(first), edges(other))),
            f"{key}_between_maps": _apart(made, again),
            **dict(zip((f"{key}_gate", f"{key}_gate_real"), map(proportion, gates), strict=True)),
        }
    return found


def means_of_tissues(images: Tensor, hard: Tensor) -> Tensor:
    """Mean intensity in [0, 1] of each thing but outside, (B, K - 1); NaN where there is little of it."""
    grey = (images.mean(1, keepdim=True).double() + 1) / 2
    what = hard[:, 1:].double()
    count = what.flatten(2).sum(2)
    means = (what * grey).flatten(2).sum(2) / count.clamp_min(1)
    return torch.where(count >= FEW, means, math.nan)


def edges(images: Tensor) -> Tensor:
    """Size of the gradient (B, C, *S), by differences of neighbours."""
    total = torch.zeros_like(images, dtype=torch.float64)
    for axis in range(2, images.ndim):
        last = images.narrow(axis, -1, 1)
        total += torch.diff(images.double(), dim=axis, append=last.double()).square()
    return total.sqrt()


def pearson(x: Tensor, y: Tensor) -> Metric:
    """Correlation of numbers (n,), with Fisher's interval."""
    both = torch.isfinite(x) & torch.isfinite(y)
    n = int(both.sum())
    if n < 5:
        return refused("a correlation needs at least 5 values", n)
    r = float(correlation(x[both][None], y[both][None])[0])
    if not math.isfinite(r) or abs(r) >= 1:
        return refused("the values are constant", n)
    z, half = math.atanh(r), 1.959963984540054 / math.sqrt(n - 3)
    return measured(r, math.tanh(z - half), math.tanh(z + half), n)


def _ratio(on: Tensor, off: Tensor) -> Metric:
    """Ratio of two means over the same seeds; the bootstrap draws seeds."""
    if not bool((off > 0).any()):
        return refused("with the flag off no map holds the label", len(on))
    rows = resamples(len(on), REPLICAS)
    replicas = on[rows].mean(1) / off[rows].mean(1)
    return measured(float(on.mean() / off.mean()), *quantiles(replicas), len(on))


def _body(maps: Tensor) -> Tensor:
    """Voxels that are not outside, (B,)."""
    return (1 - maps[:, 0]).flatten(1).sum(1).double()


def _expected(recipe: Any, train: Cases, name: str) -> Callable[[Tensor], Tensor]:
    """Number -> mean body of the training cases nearest to it."""
    bodies, numbers = [], []
    for first in range(0, len(train), 64):
        batch = train.batch(range(first, min(first + 64, len(train))))
        bodies.append(_body(recipe.maps.of(batch)))
        numbers.append(batch[name].double())
    body, number = torch.cat(bodies), torch.cat(numbers)

    def at(asked: Tensor) -> Tensor:
        gap = (asked.double()[:, None] - number).abs()
        return body[gap.topk(min(NEAREST, len(number)), largest=False).indices].mean(1)

    return at


def _about_their_means(made: Tensor, wanted: Tensor) -> Metric:
    """Correlation over cases and tissues, each tissue about its own mean."""
    both = made + wanted
    gaps = [torch.where(both.isnan(), math.nan, x) for x in (made, wanted)]
    gaps = [x - x.nanmean(0, keepdim=True) for x in gaps]
    return pearson(gaps[0].flatten(), gaps[1].flatten())


def _apart(one: Tensor, other: Tensor) -> Metric:
    """Mean over tissues of |difference| over the other, by case."""
    return average(_finite(((one - other).abs() / other.clamp_min(0.05)).nanmean(1)))


def _finite(values: Tensor) -> Tensor:
    return values[torch.isfinite(values)]


@torch.no_grad()
def _in_parts(
    make: Callable[..., Tensor], batch: int, device: torch.device, *parts: Tensor
) -> Tensor:
    """A function of cases, `batch` at once on `device`, joined on the CPU."""
    split = zip(*(part.split(batch) for part in parts), strict=True)
    return torch.cat([make(*(x.to(device) for x in each)).float().cpu() for each in split])
