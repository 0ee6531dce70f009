"""Evaluation of a purification: accuracy clean, attacked, purified, and under an attacker who knows the defence."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ....data.dataset import Cases, check_labels
from ....diffusion.noise import derive
from ....errors import UserError
from ....metrics.classification import classification
from ....metrics.estimate import Metric, refused
from ....report.pictures import write_grid
from ....training import processes
from ....training.objective import device_of
from ...evaluation.aside import apart
from ...evaluation.asked import Asked, spread
from ...evaluation.progress import progress_bar
from ...recipe import Batch
from ...sizes import check_shape
from .attacks import ATTACKS_MISSING, Defence, OfUnit, adaptive, auto_pgd, fgsm, has_auto_pgd, pgd
from .baselines import filters
from .choosing import attacked, best

__all__ = ["evaluate_purification"]

KNOWING = 64
"""Cases, evenly spaced, on which the attacker who knows the defence is tried."""
CHOSEN_ON, SHOWN = 256, 6
ABLATIONS: dict[str, dict[str, Any]] = {
    "no_noise": {"sigma": 0.0},
    "no_aggregation": {"aggregation": (0.0, 1.0, 0.0)},
    "single_scale": {"scales": (1.0,)},
}
"""The method without what makes it that method."""


def evaluate_purification(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Accuracy and balanced accuracy on clean and on attacked images, by patient.

    The attacks KIND of the undefended classifier are FGSM, PGD and Auto-PGD: "accuracy_KIND". "accuracy_adaptive" is
    of an attacker who knows the defence (BPDA and EOT), on up to 64 cases, each defence for itself. "baselines" are
    the classifier undefended, a median filter ("baseline"), JPEG, fewer bits, diffusion by `asked.prior`, what always
    says the commonest class, and the method's ablations. Every setting is the best of six on validation images under
    PGD.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "image" and "label".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there is no label to compare with, one the classifier does not know, classes of other names, images
            of another size, or a prior of others.
    """
    _check(recipe, train, held_out)
    held_out = asked.chosen(held_out)
    if not processes.is_main():
        return {}
    logits = OfUnit(objective.players["network"])
    defences, settings, random = _defences(recipe, objective, logits, train, asked)
    parts, seeds = _told(held_out, asked.seed)
    kinds = _attacked(recipe, logits, parts, seeds, asked)
    label, patients = parts["label"], held_out.patients
    found: dict[str, dict[str, Metric]] = {}
    with progress_bar("purifying", len(defences)) as done:
        for number, (name, defence) in enumerate(defences.items()):
            found[name] = {}
            for kind, images in kinds.items():
                p = _probability(defence, logits, images, seeds, asked.batch)
                found[name] |= _named(classification(p, label, patients), kind)
            done(number + 1)
    commonest = _commonest(train, recipe.classes).expand(len(label), -1)
    same = classification(commonest, label, patients)
    found["commonest_class"] = {
        key: each for kind in kinds for key, each in _named(same, kind).items()
    }
    rows = spread(len(held_out), KNOWING)
    known = {name: each for name, each in defences.items() if name not in ABLATIONS}
    for name, defence in known.items():
        draws = recipe.draws if name in random else 1
        p = _under_the_knowing(recipe, defence, logits, parts, seeds, rows, draws, asked.batch)
        whom = [patients[row] for row in rows]
        found[name] |= _named(classification(p, label[rows], whom), "adaptive")
    if "apgd" not in kinds:
        for each in found.values():
            each |= {
                key: refused(ATTACKS_MISSING, 0)
                for key in ("accuracy_apgd", "balanced_accuracy_apgd")
            }
    if asked.folder_for_pictures is not None:
        _draw(asked.folder_for_pictures / "purification.png", recipe, kinds, seeds)
    method = found.pop("method")
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "count": len(held_out),
            "seed": asked.seed,
            "classes": recipe.classes,
            "class_names": list(held_out.class_names),
            "eps": f"{recipe.eps:g}/255",
            "attack_steps": recipe.attack_steps,
            "adaptive": {"cases": len(rows), "draws": recipe.draws},
            "strength": recipe.strength,
            "chosen": settings,
            "baseline": "median",
        },
        method=method,
        baseline=found["median"],
        baselines=found,
    )


def _check(recipe: Any, train: Cases, held_out: Cases) -> None:
    if "label" not in held_out.keys:
        raise UserError(f"{held_out.source}: no label to compare with; --map label=COLUMN")
    check_labels(held_out, recipe.classes)
    theirs, ours = tuple(held_out.class_names), tuple(train.class_names)
    if theirs and ours and theirs != ours:
        raise UserError(
            f"{held_out.source}: its classes are {', '.join(theirs)}, and the classifier was trained on "
            f"{', '.join(ours)}; an attack needs the classifier's own"
        )
    check_shape(held_out.batch([0])["image"], recipe.channels, recipe.size)


def _told(cases: Cases, seed: int) -> tuple[Batch, list[int]]:
    """Images in [-1, 1] and labels of the cases, and the seed of each, that of `predict`."""
    parts = cases.batch(range(len(cases)))
    return parts, [derive(seed, name, 0) for name in cases.ids]


def _defences(
    recipe: Any, objective: Any, logits: nn.Module, train: Cases, asked: Asked
) -> tuple[dict[str, Defence], dict[str, Any], set[str]]:
    """Everything that is compared, the settings that were chosen, and the names of those that draw."""
    others = filters((recipe.channels, *recipe.size), asked.prior)
    validation = asked.validation if asked.validation is not None else apart(train)[1]
    validation = validation.take(spread(len(validation), CHOSEN_ON))
    parts, seeds = _told(validation, derive(asked.seed, "validation"))
    device = device_of(objective)
    told = {"image": parts["image"], "label": parts["label"], "seed": torch.tensor(seeds)}
    batches = (
        {key: value[k : k + asked.batch].to(device) for key, value in told.items()}
        for k in range(0, len(seeds), asked.batch)
    )
    seen = attacked(logits, batches, recipe.eps / 255, recipe.attack_steps)
    settings = {
        name: best(each.settings, each.of, logits, seen, recipe.classes)
        for name, each in others.items()
    }
    defences: dict[str, Defence] = {"method": recipe.purified, "undefended": lambda x, _: x}
    defences |= {name: each.of(settings[name]) for name, each in others.items()}
    defences |= {name: replace(recipe, **change).purified for name, change in ABLATIONS.items()}
    random = {"method", *(name for name, each in others.items() if each.random)}
    return defences, settings, random


def _attacked(
    recipe: Any, logits: nn.Module, parts: Batch, seeds: list[int], asked: Asked
) -> dict[str, Tensor]:
    """Images in [0, 1] by what was done to them: "" nothing, and each attack of the undefended classifier."""
    x, label, eps = (parts["image"] + 1) / 2, parts["label"], recipe.eps / 255
    steps = recipe.attack_steps
    made: dict[str, list[Tensor]] = {}
    device = next(logits.parameters()).device
    with progress_bar("attacking", len(x)) as done:
        for k in range(0, len(x), asked.batch):
            rows = slice(k, k + asked.batch)
            one, its = x[rows].to(device), label[rows].to(device)
            found = {
                "": one,
                "fgsm": fgsm(logits, one, its, eps),
                "pgd": pgd(logits, one, its, eps, steps, seeds[rows]),
            }
            if has_auto_pgd():
                start = derive(asked.seed, "apgd", k)
                found["apgd"] = auto_pgd(logits, one, its, eps, steps, recipe.classes, start)
            for kind, images in found.items():
                made.setdefault(kind, []).append(images.cpu())
            done(k + len(one))
    return {kind: torch.cat(images) for kind, images in made.items()}


@torch.no_grad()
def _probability(
    defence: Defence, logits: nn.Module, images: Tensor, seeds: list[int], batch: int
) -> Tensor:
    """(n, classes) of the purified images."""
    device = next(logits.parameters()).device
    parts = [
        logits(defence(images[k : k + batch].to(device), seeds[k : k + batch])).softmax(1).cpu()
        for k in range(0, len(images), batch)
    ]
    return torch.cat(parts)


def _under_the_knowing(
    recipe: Any,
    defence: Defence,
    logits: nn.Module,
    parts: Batch,
    seeds: list[int],
    rows: list[int],
    draws: int,
    batch: int,
) -> Tensor:
    """(n, classes) of some cases, attacked through this defence and purified by it."""
    device = next(logits.parameters()).device
    made = []
    with progress_bar("attacking through the defence", len(rows)) as done:
        for k in range(0, len(rows), batch):
            chosen = rows[k : k + batch]
            x, label = (
                ((parts["image"][chosen] + 1) / 2).to(device),
                parts["label"][chosen].to(device),
            )
            its = [seeds[row] for row in chosen]
            steps, eps = recipe.attack_steps, recipe.eps / 255
            made.append(adaptive(defence, logits, x, label, eps, steps, its, draws).cpu())
            done(k + len(chosen))
    its = [seeds[row] for row in rows]
    return _probability(defence, logits, torch.cat(made), its, batch)


def _named(metrics: Mapping[str, Metric], kind: str) -> dict[str, Metric]:
    """All metrics of clean images; accuracy and balanced accuracy of an attack, with its name behind them."""
    if not kind:
        return dict(metrics)
    return {f"{key}_{kind}": metrics[key] for key in ("accuracy", "balanced_accuracy")}


def _commonest(train: Cases, classes: int) -> Tensor:
    """(1, classes), 1 for the commonest class of the training."""
    label = train.columns["label"].stack(train.rows).flatten()
    counts = torch.bincount(label, minlength=classes)
    return torch.nn.functional.one_hot(counts.argmax(), classes).double()[None]


def _draw(path: Path, recipe: Any, kinds: Mapping[str, Tensor], seeds: list[int]) -> None:
    """A row a case: clean, attacked by PGD, purified; what the attack added and what is left, eps at full scale."""
    rows = spread(len(seeds), SHOWN)
    clean, hit = kinds[""][rows], kinds["pgd"][rows]
    made = recipe.purified(hit, [seeds[row] for row in rows])
    scale = 255 / max(recipe.eps, 1e-6)
    columns = [
        *(2 * each - 1 for each in (clean, hit, made)),
        *((each - clean) * scale for each in (hit, made)),
    ]
    tiles = [column[k].numpy() for k in range(len(rows)) for column in columns]
    write_grid(path, tiles, len(columns))
