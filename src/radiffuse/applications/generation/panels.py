"""The pictures of an evaluation: PNG files beside metrics.json."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...metrics.diversity import Copies
from ...report.pictures import pixels, write_grid, write_pairs, write_tiles
from ..evaluation.judge import Judge

SHOWN = 64
COLUMNS = 8
FRAMES = 16
PAIRS = 8


def write_all(
    folder: Path,
    real: Judge,
    generated: Tensor,
    baseline: Tensor,
    copies: Copies,
    states: Iterable[Tensor],
    seed: int,
) -> list[int]:
    """Every picture of an evaluation; returns how many states and cases the trajectory shows."""
    write_sets(folder, real.held_out, generated, baseline, seed)
    write_copies(folder, generated, real.train, copies)
    return write_chain(folder, states)


def write_sets(
    folder: Path, real: Tensor, generated: Tensor, baseline: Tensor, seed: int = 0
) -> None:
    """real.png, generated.png, baseline.png: the same number of images, none of them picked.

    Generated ones are the first seeds; real ones are drawn at random from the held-out images.
    """
    shown = min(SHOWN, len(real), len(generated), len(baseline))
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    for name, images in (
        ("real", real[order[:shown]]),
        ("generated", generated[:shown]),
        ("baseline", baseline[:shown]),
    ):
        write_grid(folder / f"{name}.png", _arrays(images), COLUMNS)


def write_chain(folder: Path, states: Iterable[Tensor]) -> list[int]:
    """trajectory.png: a row a case, from noise to image in equally spaced states; how many of both."""
    # a chain of a thousand states is kept as it will be seen
    kept = [[pixels(image) for image in _arrays(state)] for state in states]
    places = torch.linspace(0, len(kept) - 1, min(FRAMES, len(kept))).round().long().tolist()
    tiles = [kept[place][case] for case in range(len(kept[0])) for place in places]
    write_tiles(folder / "trajectory.png", tiles, len(places))
    return [len(places), len(kept[0])]


def write_copies(folder: Path, generated: Tensor, train: Tensor, copies: Copies) -> None:
    """copies.png: the pairs of generated (left) and nearest training image (right), nearest first.

    Flagged pairs are marked; where none is flagged the nearest pairs are shown all the same.
    """
    rows = copies.closest(min(PAIRS, len(generated)))
    distances, flagged = copies.found.distance[rows].tolist(), copies.flagged[rows].tolist()
    notes = [
        f"{distance:.3f} {'COPY?' if flag else 'ok'}"
        for distance, flag in zip(distances, flagged, strict=True)
    ]
    nearest = train[copies.found.index[rows]]
    pairs = _arrays(generated[rows]), _arrays(nearest)
    write_pairs(folder / "copies.png", *pairs, notes, columns=4)


def _arrays(images: Tensor | Sequence[Tensor]) -> list:
    return [image.numpy() for image in images]
