r"""Attacks on membership: the denoising error of an image is lower where it was trained on.

$$ \ell(x, t) = \frac1{J}\sum_j \mathrm{mean}\,(\hat x_0(\alpha_t x + \sigma_t z_j, t) - x)^2 $$

at several noise levels, with the same noise for all images (the loss attack of Carlini et al. 2023 and Matsumoto et al.
2023; SecMI compares steps of the same chain). The score is -log of it. Models that were trained the same way on random
halves of the people (`shadows`) say what it is usually, for each image.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....diffusion.kernels import diffuse
from ....diffusion.network import Given
from ....diffusion.noise import derive
from ....metrics.membership import likelihood_ratio, offline_ratio, told_apart
from ....training.checkpoint import MODEL, load_model
from ....training.loop import train
from ....training.objective import device_of
from ....training.options import TrainOptions
from ...evaluation.progress import progress_bar
from ...latent.denoising import CodeDenoising
from .people import People, as_one, joined, read_people

__all__ = ["LEVELS", "Shadow", "loss_scores", "membership", "shadows"]

SIGNAL = (0.98, 0.9, 0.7, 0.45, 0.2)
"""Noise levels, by alpha^2 / (alpha^2 + sigma^2), the share of the signal."""
LEVELS = len(SIGNAL)
DRAWS = 3
NOTHING: Mapping[str, Tensor] = {}
BATCH = 32


@torch.no_grad()
def loss_scores(
    recipe: Any,
    objective: Any,
    images: Tensor,
    labels: Tensor | None,
    seed: int = 0,
    numbers: Mapping[str, Tensor] = NOTHING,
) -> Tensor:
    """-log denoising error of images `(n, C, *S)` at each noise level, `(n, LEVELS)`.

    Of a latent diffusion that of codes, the mean of the auto-encoder's law, told the covariates of each image.

    Args:
        numbers: of each image `(n,)`, by name.
    """
    device, scores = device_of(objective), []
    with progress_bar("denoising errors", len(images)) as said:
        for first in range(0, len(images), BATCH):
            x = images[first : first + BATCH].to(device)
            label = None if labels is None else labels[first : first + BATCH].to(device)
            if isinstance(objective, CodeDenoising):
                rows = slice(first, first + BATCH)
                mine = {name: values[rows] for name, values in numbers.items()}
                told = objective.told({**mine, "image": x})
                denoiser = Given(objective.network, **{k: v.to(device) for k, v in told.items()})
                x = objective.law(x)[0]
            else:
                denoiser = recipe.denoiser(objective, *(() if label is None else (label,)))
            denoiser = denoiser.eval()
            scores.append(torch.stack([_at(denoiser, x, t, seed) for t in times(denoiser)], 1))
            said(first + len(x))
    return torch.cat(scores).double().cpu()


def times(denoiser: Any) -> list[Tensor]:
    """The times of the noise levels, by bisection of the share of the signal, which falls with time."""
    like, found = torch.zeros(1), []
    for share in SIGNAL:
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            alpha, sigma = (float(each) for each in denoiser.schedule(torch.tensor(middle), like))
            low, high = (
                (middle, high) if alpha**2 > share * (alpha**2 + sigma**2) else (low, middle)
            )
        found.append(torch.tensor(high))
    return found


def _at(denoiser: Any, x: Tensor, t: Tensor, seed: int) -> Tensor:
    errors = 0
    for draw in range(DRAWS):
        generator = torch.Generator().manual_seed(derive(seed, "membership", draw))
        z = torch.randn(x.shape[1:], generator=generator).to(x).expand_as(x)
        t = t.to(x.device)
        guess = denoiser(diffuse(denoiser.schedule, x, t, z), t)
        errors = errors + (guess - x).square().flatten(1).mean(1)
    return -(torch.as_tensor(errors) / DRAWS).clamp_min(1e-20).log()


@dataclass(frozen=True)
class Shadow:
    """A model that was trained on half of the people.

    Attributes:
        objective: its players.
        inside: the people it was trained on.
    """

    objective: Any
    inside: frozenset[str]


@dataclass(frozen=True)
class Joined:
    """Cases of two sets, read as one, of the keys that both have."""

    parts: tuple[Cases, Cases]
    rows: tuple[tuple[int, int], ...]

    @property
    def fingerprint(self) -> str:
        """sha256 over both sets and the rows."""
        told = f"{self.parts[0].fingerprint} {self.parts[1].fingerprint} {self.rows}"
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def spacing(self) -> tuple[float, ...]:
        """Of voxels, as those of the run."""
        return self.parts[0].spacing

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Their tensors by key."""
        found = [self.parts[part].batch([row]) for part, row in (self.rows[k] for k in indices)]
        keys = set.intersection(*(set(each) for each in found))
        return {key: torch.cat([each[key] for each in found]) for key in sorted(keys)}


def shadows(
    recipe: Any,
    parts: tuple[Cases, Cases],
    options: TrainOptions,
    count: int,
    folder: Path,
    seed: int = 0,
) -> list[Shadow]:
    """Train `count` models as the run was, each on a random half of all people; one that is there is gone on with.

    Every person is in half of them: pairs of models have complementary halves. People who share an image are one.

    Args:
        parts: training cases, and held-out ones.
        options: of the run's training.
        count: even, two or more.
        folder: keeps one run a model.
    """
    rows = [(k, row) for k in (0, 1) for row in range(len(parts[k]))]
    called = [parts[k].patients[row] for k, row in rows]
    names = as_one(joined(*map(read_people, parts)))[0].patients
    people = sorted(set(names))
    found = []
    for number in range(count):
        generator = torch.Generator().manual_seed(derive(seed, "shadow", number // 2))
        order = torch.randperm(len(people), generator=generator).tolist()
        half = order[: len(people) // 2] if number % 2 == 0 else order[len(people) // 2 :]
        taken = {people[k] for k in half}
        mine = tuple(row for row, name in zip(rows, names, strict=True) if name in taken)
        inside = frozenset(c for c, name in zip(called, names, strict=True) if name in taken)
        torch.manual_seed(derive(seed, "shadow weights", number))
        objective = recipe.objective()
        out = folder / f"{number:02d}"
        # returns at once where it is trained to the end; another's models are refused by what they learned from
        train(objective, Joined(parts, mine), options, out, resume=True)
        load_model(objective, out / MODEL)
        for player in objective.players.values():
            player.eval().requires_grad_(False)
        found.append(Shadow(objective, inside))
    return found


def membership(
    recipe: Any,
    objective: Any,
    members: People,
    others: People,
    models: Sequence[Shadow] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """How well each attack tells members from others: "loss", and with shadow models "online" and "offline".

    "loss" is the mean over levels of scores that are standardised over both; `levels` has each alone.
    """
    both = joined(members, others)
    labels = both.labels if getattr(recipe, "classes", 0) else None
    patients = members.patients, others.patients

    def judged(scores: Tensor) -> dict[str, Any]:
        return told_apart(scores[: len(members)], scores[len(members) :], patients, seed)

    scores = loss_scores(recipe, objective, both.images, labels, seed, both.numbers)
    standard = (scores - scores.mean(0)) / scores.std(0).clamp_min(1e-12)
    record = {
        "loss": judged(standard.mean(1)),
        "levels": [{"signal": share, **judged(scores[:, k])} for k, share in enumerate(SIGNAL)],
    }
    if not models:
        return record
    inside = torch.tensor([[name in each.inside for name in both.patients] for each in models])
    under = torch.stack(
        [
            loss_scores(recipe, each.objective, both.images, labels, seed, both.numbers)
            for each in models
        ]
    )
    for name, ratio in (("online", likelihood_ratio), ("offline", offline_ratio)):
        ratios = [ratio(scores[:, k], under[:, :, k], inside) for k in range(LEVELS)]
        record[name] = judged(torch.stack(ratios).mean(0))
    return {**record, "shadows": len(models)}
