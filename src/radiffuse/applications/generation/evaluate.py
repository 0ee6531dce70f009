"""Evaluation of generated images: against held-out ones, a Gaussian baseline and real images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases, check_labels
from ...diffusion.likelihood import bits_per_dimension
from ...diffusion.noise import derive
from ...errors import UserError
from ...metrics.distribution import distances_between_sets, frechet_metrics
from ...metrics.diversity import Copies, copy_metrics, find_copies, pair_similarity, scales
from ...metrics.estimate import Metric, average, average_per_patient, proportion, refused
from ...metrics.features import extract
from ...metrics.joined import MEMBERS
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.judge import Judge, judge
from ..evaluation.progress import progress_bar
from ..latent.diagnosis import drawn_codes
from . import panels
from .baselines import Mixture, dequantised, fit_generation
from .by_class import by_class
from .sampling import chain, drawn_labels, generate, kept_in
from .told import follows
from .volumes import Volumes, are_volumes, look_at

COUNT = 1000
LIKELIHOOD_CASES = 16
LEVELS = 256


def evaluate_generation(
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
    *,
    samples: Tensor | None = None,
    beside: Mapping[str, Tensor] = {},
    bits: int = LIKELIHOOD_CASES,
) -> dict[str, Any]:
    """Generated images against held-out ones, beside the Gaussian baseline and real images.

    "method": generated, "baseline": as many from `baselines.fit_generation`, "reference": as many
    training images, the best that can be reached; each against the held-out images
    (`fid_to_train`: against training images other than those of the reference). Under
    "reference", `nearest_*` and `copies_*` are those of the held-out images themselves.
    Images told their class are measured by class too (`by_class`).
    Volumes are compared by a 3-D feature network, and besides as `volumes` does; feature weights of
    the user's are for their slices.

    Args:
        recipe, objective: a trained generative method.
        train, held_out: its data.
        asked: what `evaluate` was asked for.
        samples: images `(n, C, *S)` in [-1, 1] drawn before; None draws them here.
        beside: what other methods drew, of the same classes, by their names: further "baselines".
        bits: held-out images whose bits per dimension are computed; 0 for none.

    Returns:
        The record; empty on all but the main of several processes.

    Raises:
        UserError: the data hold no images or too few, a held-out label is one that the model does
            not know, or a sample is not finite.
    """
    if bits and getattr(recipe, "classes", 0):
        check_labels(held_out, recipe.classes)
    count = asked.count or min(COUNT, len(train))
    labels = drawn_labels(recipe, train, count, asked.seed)
    if samples is None:
        samples = generate(recipe, objective, count, labels, asked, kept_in(asked, recipe, train))
    if not processes.is_main():
        return {}
    in_space = are_volumes(train)
    weights, members = (None, 1) if in_space else (asked.weights, MEMBERS)
    real = judge(train, held_out, cache=asked.cache, weights=weights, members=members)
    seen = look_at(real, train.fingerprint, asked.cache, asked.weights) if in_space else None
    samples = _checked(samples, real.train)
    model = fit_generation(real.train, real.labels, train.patients)
    simple = model.sample(
        [derive(asked.seed, k) for k in range(len(samples))],
        None if labels is None else labels.tolist(),
    )
    rows, rest = _halves(len(real.train), len(samples), asked.seed)
    told = _Told(held_out, labels)
    method, copies = _metrics(real, samples, rest, seen, told)
    baseline, _ = _metrics(real, simple, rest, seen, told)
    others = {name: _metrics(real, its, rest, seen, told)[0] for name, its in beside.items()}
    frames: list[int] = []
    if asked.folder_for_pictures is not None:
        states = chain(recipe, objective, labels, asked.seed)
        frames = panels.write_all(
            asked.folder_for_pictures, real, samples, simple, copies, states, asked.seed
        )
    follow, truth = follows(recipe, real, train, held_out, samples, asked.seed)
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "count": len(samples),
            "seed": asked.seed,
            "steps": getattr(recipe, "steps", None),
            "baseline_components": list(model.components),
            "copy_threshold": copies.threshold,
            "ms_ssim_scales": scales(samples.shape[2:]),
            "frames": frames,
        },
        method={**method, **follow, **_bits(recipe, objective, real, held_out, bits)},
        baseline={**baseline, **_bits_of_baseline(model, real, held_out, bits)},
        baselines={
            **_of_codes(recipe, objective, real, train, rest, seen, len(samples), asked.seed),
            **others,
        },
        reference={**_reference(real, rows, rest, copies, seen, told), **truth},
        features={**real.named, **({} if seen is None else {"slices": seen.named})},
    )


@dataclass(frozen=True)
class _Told:
    """The classes that images were told, if any, and held-out cases to measure them against by class."""

    held_out: Cases
    labels: Tensor | None

    def __call__(
        self,
        real: Judge,
        features: Tensor,
        labels: Tensor | None = None,
        people: Sequence[str] = (),
    ) -> dict[str, Metric]:
        """`by_class` of the features of images of `labels`, or else of the labels told."""
        if self.labels is None or "label" not in self.held_out.keys:
            return {}
        truth = self.held_out.columns["label"].stack(self.held_out.rows)
        labels = self.labels if labels is None else labels
        names = self.held_out.class_names
        of = real.people, people
        return by_class(real.held_out_features, truth, features, labels, names, *of)


def _checked(samples: Tensor, train: Tensor) -> Tensor:
    if samples.shape[1:] != train.shape[1:]:
        ours, theirs = tuple(samples.shape[1:]), tuple(train.shape[1:])
        raise UserError(f"samples of shape {ours} cannot be compared with images of {theirs}")
    finite = torch.isfinite(samples.flatten(1)).all(dim=1)
    if not finite.all():
        bad = int((~finite).nonzero()[0])
        raise UserError(f"sample {bad} holds values that are not finite; the model has diverged")
    return samples.float().clamp(-1, 1)


def _halves(n: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """At most `count` training images that play the generated ones, and all the others."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    count = min(count, n // 2)
    return order[:count], order[count:]


def _metrics(
    real: Judge, images: Tensor, rest: Tensor, seen: Volumes | None, told: _Told | None = None
) -> tuple[dict[str, Metric], Copies]:
    """Every metric of a set of images, and its nearest training images in pixels."""
    features = extract(real.network, images)
    ids = tuple(f"sample-{k:05d}" for k in range(len(images)))
    copies = find_copies(images, real.held_out, real.train)
    in_features = find_copies(features, real.held_out_features, real.train_features)
    metrics = {
        **_distances(real, features, rest),
        **({} if told is None else told(real, features)),
        "ms_ssim": pair_similarity(images),
        **copy_metrics(copies, ids, "pixels"),
        **copy_metrics(in_features, ids, "features"),
        **({} if seen is None else {**seen.distances(images), **seen.nearest(images, ids)}),
    }
    return metrics, copies


def _of_codes(
    recipe: Any,
    objective: Any,
    real: Judge,
    train: Cases,
    rest: Tensor,
    seen: Volumes | None,
    count: int,
    seed: int,
) -> dict[str, dict[str, Metric]]:
    """What the auto-encoder alone does: the Gaussian of its codes, decoded; of recipes that have one."""
    if not hasattr(recipe, "first_objective"):
        return {}
    device = device_of(objective)
    codes = drawn_codes(objective, train, len(train))
    drawn = fit_generation(codes, None, train.patients).sample(
        [derive(seed, k) for k in range(count)]
    )
    images = torch.cat([recipe.decoded(objective, z.to(device)).cpu() for z in drawn.split(8)])
    return {"Gaussian of codes": _metrics(real, images, rest, seen)[0]}


def _reference(
    real: Judge, rows: Tensor, rest: Tensor, copies: Copies, seen: Volumes | None, told: _Told
) -> dict[str, Metric]:
    """Training images in place of generated ones; nearest and copies of the held-out images."""
    control = find_copies(real.held_out_features, real.held_out_features, real.train_features)
    people = [real.train_people[row] for row in rows.tolist()] if real.train_people else []
    return {
        **_distances(real, real.train_features[rows], rest, people),
        **(
            {}
            if real.labels is None
            else told(real, real.train_features[rows], real.labels[rows], people)
        ),
        "ms_ssim": pair_similarity(real.train[rows], people=people),
        "nearest_pixels": average(copies.control.distance, people=real.people),
        "copies_pixels": proportion(copies.control.distance < copies.threshold, real.people),
        "nearest_features": average(control.found.distance, people=real.people),
        "copies_features": proportion(control.flagged, real.people),
        **({} if seen is None else {**seen.distances(real.train[rows], people), **seen.control()}),
    }


def _distances(
    real: Judge, features: Tensor, rest: Tensor, people: Sequence[str] = ()
) -> dict[str, Metric]:
    """Against held-out images, and FID against training images that the reference leaves.

    Where training and held-out images are not of one law (scans of other people, other years),
    the first cannot come down to zero; the second says how well the law of training was learned.
    """
    theirs = [real.train_people[row] for row in rest.tolist()] if real.train_people else []
    in_training = frechet_metrics(real.train_features[rest], features, people=(theirs, people))
    return {
        **distances_between_sets(real.held_out_features, features, people=(real.people, people)),
        "fid_to_train": in_training["fid"],
    }


def _bits(
    recipe: Any, objective: Any, real: Judge, held_out: Cases, count: int
) -> dict[str, Metric]:
    """Bits per dimension on a few held-out images: by a density of the recipe's own (exact, or a bound), else by
    the probability-flow ODE."""
    own = hasattr(recipe, "log_density")
    by_flow = hasattr(recipe, "denoiser") and not hasattr(recipe, "first_objective")
    if not count or not (own or by_flow):
        return {}
    rows = spread(len(held_out), count)
    if not getattr(recipe, "HAS_DENSITY", True):
        said = "a distilled run draws in whole steps of its own, whose density is not computed"
        return {"bits_per_dimension": refused(said, len(rows))}
    if not _on_grid(real.held_out[rows]):
        return {"bits_per_dimension": _no_grid(len(rows))}
    if own:
        x = dequantised(real.held_out[rows], rows, LEVELS)
        nats = -recipe.log_density(objective, x, rows) / x[0].numel()
        own_bits = (nats + math.log(LEVELS / 2)) / math.log(2)
        patients = _patients(held_out, rows)
        return {"bits_per_dimension": average_per_patient(own_bits.tolist(), patients)}
    labels = None
    if getattr(recipe, "classes", 0) and "label" in held_out.keys:
        labels = held_out.batch(rows)["label"]
    device = device_of(objective)
    values: list[float] = []
    with progress_bar("likelihood", len(rows)) as done:
        for place, row in enumerate(rows):
            given = () if labels is None else (labels[place : place + 1].to(device),)
            denoiser = recipe.denoiser(objective, *given).eval()
            x = real.held_out[row : row + 1].to(device)
            values += bits_per_dimension(denoiser, x, LEVELS, seeds=[row]).tolist()
            done(place + 1)
    return {"bits_per_dimension": average_per_patient(values, _patients(held_out, rows))}


def _bits_of_baseline(
    model: Mixture, real: Judge, held_out: Cases, count: int
) -> dict[str, Metric]:
    if not count:
        return {}
    rows = spread(len(held_out), count)
    if not _on_grid(real.held_out[rows]):
        return {"bits_per_dimension": _no_grid(len(rows))}
    values = model.bits_per_dimension(real.held_out[rows], seeds=rows, levels=LEVELS).tolist()
    return {"bits_per_dimension": average_per_patient(values, _patients(held_out, rows))}


def _on_grid(x: Tensor) -> bool:
    """Whether images lie on the 256 grey values of [-1, 1], as bits per dimension require."""
    level = (x + 1) * (LEVELS - 1) / 2
    return bool((level - level.round()).abs().max() < 1e-2)


def _no_grid(n: int) -> Metric:
    return refused("bits per dimension need images stored in 256 grey values", n)


def _patients(cases: Cases, rows: Sequence[int]) -> list[str]:
    patients = cases.patients
    return [patients[row] for row in rows]
