"""Draw images from a generative recipe: one seed each, shared out over the processes.

Where there is a run folder, images are kept in RUN/evaluated/NAME as they are drawn, so that the
same command goes on after an interruption; NAME stands for all that decides them but their number.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import __version__
from ...data.dataset import Cases
from ...diffusion.noise import derive
from ...errors import UserError
from ...training import processes
from ...training.tensorfile import opened, save
from ..evaluation.asked import Asked
from ..evaluation.progress import progress_bar
from ..fields import plain


def drawn_labels(recipe: Any, train: Cases, count: int, seed: int) -> Tensor | None:
    """Labels `(count,)` at the frequencies of training, for a recipe that is told the class."""
    if not getattr(recipe, "classes", 0) or "label" not in train.keys:
        return None
    labels = train.batch(range(len(train)))["label"]
    return labels[[derive(seed, "label", k) % len(labels) for k in range(count)]]


def kept_in(asked: Asked, recipe: Any, train: Cases) -> Path | None:
    """The folder that keeps images of this model, seed, settings and data; those of others go."""
    if asked.cache is None or not asked.model:
        return None
    facts = [__version__, asked.model, asked.seed, plain(recipe), train.fingerprint]
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = asked.run / "evaluated" / name
    if processes.is_main() and folder.parent.is_dir():
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    return folder


def generate(
    recipe: Any,
    objective: Any,
    count: int,
    labels: Tensor | None,
    asked: Asked,
    kept: Path | None = None,
) -> Tensor:
    """`(count, C, *S)` images in [-1, 1] on the CPU, the same on every process.

    Args:
        recipe, objective: what draws.
        count: number of images.
        labels: their classes, or None.
        asked: says seed (image k depends on it, its label and k alone) and batch.
        kept: holds images drawn before and gets the others; None keeps nothing.

    Raises:
        UserError: `kept` cannot be written or read.
    """
    mine = processes.share(count, processes.rank(), processes.world())
    images = _read(kept, mine) if kept else {}
    missing = [k for k in mine if k not in images]
    with progress_bar("sampling", len(mine)) as done:
        for first in range(0, len(missing), asked.batch):
            rows = missing[first : first + asked.batch]
            drawn = recipe.predict(objective, _request(rows, labels, asked.seed))["image"]
            drawn = drawn.detach().float().cpu().contiguous()
            if kept:
                part = {"number": torch.tensor(rows), "image": drawn}
                save(kept / f"{rows[0]:08d}.safetensors", part, {})
            images.update(zip(rows, drawn, strict=True))
            done(len(images))
    return _gathered([images[k] for k in mine], mine, count)


def _read(folder: Path, wanted: range) -> dict[int, Tensor]:
    """Images of `folder` by number."""
    images: dict[int, Tensor] = {}
    for path in sorted(folder.glob("[0-9]*.safetensors")):
        try:
            with opened(path) as file:
                numbers, drawn = file.get_tensor("number").tolist(), file.get_tensor("image")
        except UserError as error:
            raise UserError(f"{error}; remove it, and it is made again") from None
        images |= {k: one for k, one in zip(numbers, drawn, strict=True) if k in wanted}
    return images


def chain(recipe: Any, objective: Any, labels: Tensor | None, seed: int) -> Iterator[Tensor]:
    """The states of the sampling chain of samples 0 to 5, `(6, C, *S)` each, the last the result.

    A state wider than the images (noise of standard deviation above 1) is scaled to deviation 1.
    """
    rows = range(6 if labels is None else min(6, len(labels)))
    for state in recipe.trajectory(objective, _request(rows, labels, seed)):
        x = state.detach().float().cpu()
        yield x / x.std().clamp_min(1)


def _request(rows: Sequence[int], labels: Tensor | None, seed: int) -> dict[str, Tensor]:
    request = {"seed": torch.tensor([derive(seed, k) for k in rows])}
    return request if labels is None else {**request, "label": labels[list(rows)]}


def _gathered(images: list[Tensor], mine: range, count: int) -> Tensor:
    """Every process's images in their places: a sum of arrays that are 0 elsewhere."""
    if processes.world() == 1:
        return torch.stack(images)
    own = [float(side) for side in images[0].shape] if images else []
    sides = [int(side) for side in processes.agree(_padded(own))]
    everything = torch.zeros(count, *(side for side in sides if side))
    if images:
        everything[mine.start : mine.stop] = torch.stack(images)
    processes.sum_(everything)
    return everything


def _padded(sides: list[float]) -> list[float]:
    """A shape as four numbers, so that a process without samples can learn it from the others."""
    return (sides + [0.0] * 4)[:4]
