"""Evaluation of classification: per patient, beside the guiding classifier and a plain ResNet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.dataset import Cases, check_labels
from ...errors import UserError
from ...metrics.classification import classification, rejection_curve
from ...metrics.estimate import Metric
from ...nn.resnet import ResNet
from ...report.pictures import write_grid
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import in_batches, predicted
from ..supervised import Rival, trained_beside
from .baselines import PlainClassifier, ResNetClassifier

SHOWN = 6
_TABLE = (0.2, 0.5)
"""Shares referred whose accuracy stands in the table of metrics."""


@dataclass(frozen=True)
class Answers:
    """What one classifier says of the held-out cases.

    Attributes:
        probability: (n, classes).
        doubt: (n,), by which cases are referred, the highest first.
        by: what the doubt is, in words.
    """

    probability: Tensor
    doubt: Tensor
    by: str


def evaluate_classification(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Accuracy, balanced accuracy, F1, AUROC, calibration and rejection curves, by patient.

    "baseline" is a plain ResNet with the method's own sizes and augmentation, trained as long as the
    run in RUN/baseline-resnet; "prior" among "baselines" is the classifier that guides the diffusion,
    alone. "rejection" holds the accuracy of what remains when the doubtful share is referred: by the
    spread of the draws for the method, by 1 - largest probability for the others (and for the method
    too, as "method_by_confidence").

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "image" and "label".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there are no labels to compare with, or one the model does not know.
    """
    if "label" not in held_out.keys:
        raise UserError(f"{held_out.source}: no label to compare with; --map label=COLUMN")
    check_labels(held_out, recipe.classes)
    held_out = asked.chosen(held_out)
    plain = _resnet(recipe, train, asked) if asked.cache else None
    if not processes.is_main():
        return {}
    answers = _ask(recipe, objective, plain, held_out, asked)
    label = held_out.batch(range(len(held_out)))["label"]
    patients = held_out.patients
    curves = {
        name: rejection_curve(each.probability.argmax(1) == label, each.doubt, patients)
        for name, each in answers.items()
    }
    metrics = {
        name: {
            **classification(each.probability, label, patients),
            **_referred(curves[name]),
        }
        for name, each in answers.items()
        if name != "method_by_confidence"
    }
    baselines = {name: each for name, each in metrics.items() if name != "method"}
    if asked.folder_for_pictures is not None:
        _draw(asked.folder_for_pictures / "classification.png", objective, held_out)
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "count": len(held_out),
            "seed": asked.seed,
            "steps": getattr(recipe, "steps", None),
            "draws": getattr(recipe, "draws", None),
            "classes": recipe.classes,
            "class_names": list(held_out.class_names),
            "bins": 15,
        },
        method=metrics["method"],
        baseline=baselines.get("resnet", baselines["prior"]),
        baselines=baselines,
        rejection={
            name: {"by": answers[name].by, "curve": curve} for name, curve in curves.items()
        },
        cases=_cases(held_out, label, answers),
    )


def _ask(
    recipe: Any, objective: Any, plain: PlainClassifier | None, cases: Cases, asked: Asked
) -> dict[str, Answers]:
    """The answers of the method, of its prior and of the plain network."""
    made = predicted(recipe, objective, cases, asked, ("image",), "classifying")
    by_likelihood = {
        "method_by_confidence": made["probability"],
        "prior": made["prior_probability"],
    }
    if plain is not None:
        images = {"image": cases.batch(range(len(cases)))["image"]}
        device = device_of(objective)
        by_likelihood["resnet"] = in_batches(
            lambda batch: plain.predict(batch["image"]), images, asked.batch, device
        )
    answers = {"method": Answers(made["probability"], made["spread"], "spread of the draws")}
    for name, p in by_likelihood.items():
        answers[name] = Answers(p, 1 - p.amax(1), "1 - largest probability")
    return answers


def _resnet(recipe: Any, train: Cases, asked: Asked) -> PlainClassifier:
    """A plain network of the sizes of the method's classifier, trained as long as the run."""
    shape = (recipe.width, recipe.prior_blocks, recipe.bottleneck, recipe.stem)

    def make() -> PlainClassifier:
        body = ResNet(len(recipe.size), recipe.channels, *shape)
        return PlainClassifier(ResNetClassifier(body, recipe.classes), recipe.turn, recipe.flip)

    rival = Rival(make, train, asked.budget("batch", "weight_decay"))
    return trained_beside({"resnet": rival}, asked.run)["resnet"]


def _referred(curve: list[Metric]) -> dict[str, Metric]:
    """The accuracy at a few shares of cases referred, as metrics."""
    return {
        f"accuracy_{round(100 * point['referred'])}_referred": {
            key: value for key, value in point.items() if key != "referred"
        }
        for point in curve
        if point["referred"] in _TABLE
    }


def _cases(cases: Cases, label: Tensor, answers: dict[str, Answers]) -> dict[str, Any]:
    own, prior = answers["method"], answers["prior"]
    return {
        cases.ids[row]: {
            "label": int(label[row]),
            "probability": own.probability[row].tolist(),
            "prior_probability": prior.probability[row].tolist(),
            "spread": float(own.doubt[row]),
        }
        for row in range(len(cases))
    }


def _draw(path: Path, objective: Any, cases: Cases) -> None:
    """A row a case: image, summed saliency (each in its own window), and the patches cut."""
    rows = spread(len(cases), SHOWN)
    prior = objective.players["prior"]
    device = device_of(objective)
    image = cases.batch(rows)["image"]
    with torch.no_grad():
        look = prior(image.to(device))
    size = image.shape[2:]
    maps = look.saliency.float().cpu()
    low, high = (f(maps.flatten(2)) for f in (lambda x: x.amin(2), lambda x: x.amax(2)))
    shape = (*low.shape, *[1] * len(size))
    total = ((maps - low.reshape(shape)) / (high - low).clamp_min(1e-6).reshape(shape)).mean(1)
    shown = F.interpolate(total[:, None], size=size, mode="nearest") * 2 - 1
    marked = torch.full_like(image, -1.0)
    for row, corners in enumerate(look.corners.cpu().tolist()):
        for corner in corners:
            box = [slice(None), *(slice(c, c + prior.crop) for c in corner)]
            marked[row][tuple(box)] = image[row][tuple(box)]
    panels = [x for k in range(len(rows)) for x in (image[k], shown[k], marked[k])]
    write_grid(path, [panel.float().numpy() for panel in panels], 3)
