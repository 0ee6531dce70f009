"""Evaluation of a purification: accuracy clean, attacked, purified, and under an attacker who knows the defence."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....data.dataset import Cases, check_labels
from ....diffusion.noise import derive
from ....errors import UserError
from ....metrics.estimate import Metric, refused
from ....report.pictures import write_grid
from ....training import processes
from ....training.objective import device_of
from ...evaluation.aside import apart
from ...evaluation.asked import Asked, spread
from ...evaluation.progress import progress_bar
from ...recipe import Batch
from ...sizes import check_shape
from .attacks import ATTACKS_MISSING, Defence, OfUnit
from .baselines import filters
from .choosing import attacked, best
from .trial import KNOWING, Trial, trial_of

__all__ = ["evaluate_purification"]

SHOWN = 6
ABLATIONS: dict[str, dict[str, Any]] = {
    "no_noise": {"sigma": 0.0},
    "no_aggregation": {"aggregation": (0.0, 1.0, 0.0)},
    "single_scale": {"scales": (1.0,)},
}
"""The method without what makes it that method."""


@dataclass(frozen=True)
class Rival:
    """A defence, its setting (None where it has none), and how many draws an attacker takes of it; 0: none tries."""

    defence: Defence
    setting: Any = None
    draws: int = 1


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
    rivals = _rivals(recipe, logits, train, asked, device_of(objective))
    trial = trial_of(recipe, logits, held_out, asked)
    found: dict[str, dict[str, Metric]] = {}
    with progress_bar("purifying", len(rivals)) as done:
        for number, (name, rival) in enumerate(rivals.items()):
            found[name] = trial.unknown(rival.defence)
            if rival.draws:
                found[name] |= trial.known(rival.defence, rival.draws)
            done(number + 1)
    found["commonest_class"] = _constant(trial, _commonest(train, recipe.classes))
    if "apgd" not in trial.kinds:
        missing = refused(ATTACKS_MISSING, 0)
        for each in found.values():
            each |= {"accuracy_apgd": missing, "balanced_accuracy_apgd": missing}
    if asked.folder_for_pictures is not None:
        _draw(asked.folder_for_pictures / "purification.png", trial)
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
            "adaptive": {"cases": min(len(held_out), KNOWING), "draws": recipe.draws},
            "strength": recipe.strength,
            "chosen": {n: r.setting for n, r in rivals.items() if r.setting is not None},
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


def _rivals(
    recipe: Any, logits: nn.Module, train: Cases, asked: Asked, device: torch.device
) -> dict[str, Rival]:
    """Everything that is compared, at the settings that validation images chose."""
    others = filters((recipe.channels, *recipe.size), asked.prior)
    validation = asked.validation if asked.validation is not None else apart(train)[1]
    validation = validation.take(spread(len(validation), recipe.CALIBRATED_BY))
    batches = _in_batches(validation, asked, device)
    seen = attacked(logits, batches, recipe.eps / 255, recipe.attack_steps)
    found = {
        "method": Rival(recipe.purified, draws=recipe.draws),
        "undefended": Rival(lambda x, _: x),
    }
    for name, each in others.items():
        setting = best(each.settings, each.of, logits, seen, recipe.classes)
        draws = recipe.draws if each.random else 1
        found[name] = Rival(each.of(setting), setting, draws)
    ablated = {name: replace(recipe, **change) for name, change in ABLATIONS.items()}
    return found | {name: Rival(each.purified, draws=0) for name, each in ablated.items()}


def _in_batches(cases: Cases, asked: Asked, device: torch.device) -> Iterator[Batch]:
    """What the recipe was calibrated by was drawn from other seeds."""
    for first in range(0, len(cases), asked.batch):
        rows = range(first, min(first + asked.batch, len(cases)))
        told = {key: value.to(device) for key, value in cases.batch(rows).items()}
        seeds = [derive(asked.seed, "validation", cases.ids[row]) for row in rows]
        yield {**told, "seed": torch.tensor(seeds)}


def _commonest(train: Cases, classes: int) -> int:
    label = train.columns["label"].stack(train.rows).flatten()
    return int(torch.bincount(label, minlength=classes).argmax())


def _constant(trial: Trial, answer: int) -> dict[str, Metric]:
    """The metrics of one answer to everything, which no attack changes."""
    rows = range(len(trial.label))
    label = torch.full((len(rows),), answer)
    same = F.one_hot(label, trial.recipe.classes).double()
    return {key: each for kind in trial.kinds for key, each in trial.of(same, rows, kind).items()}


def _draw(path: Path, trial: Trial) -> None:
    """A row a case: clean, attacked by PGD, purified; what the attack added and what is left, eps at full scale."""
    rows = spread(len(trial.seeds), SHOWN)
    clean, hit = (trial.kinds[kind][rows] for kind in ("", "pgd"))
    made = trial.recipe.purified(hit, [trial.seeds[row] for row in rows])
    scale = 255 / max(trial.recipe.eps, 1e-6)
    columns: list[Tensor] = [
        *(2 * each - 1 for each in (clean, hit, made)),
        *((each - clean) * scale for each in (hit, made)),
    ]
    tiles = [column[k].numpy() for k in range(len(rows)) for column in columns]
    write_grid(path, tiles, len(columns))
