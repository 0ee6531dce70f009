"""What a comparison of families measures beside the evaluation: speed, network calls, classes that are found."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion.noise import derive
from ...metrics.estimate import Metric, average, proportion, refused

__all__ = ["classes_found", "network_calls", "parameters", "seconds_an_image"]

RARE, FOUND = 0.5, 0.2


def parameters(objective: Any) -> dict[str, int]:
    """Trained numbers of each player."""
    return {
        name: sum(p.numel() for p in player.parameters())
        for name, player in objective.players.items()
    }


def network_calls(recipe: Any, objective: Any, seed: int = 0) -> int:
    """Calls of a network one after the other for one image: the most calls of any one layer that has weights.

    A flow's inverse calls its layers once a token, a chain once a step, a generator of one pass once.
    """
    counts: dict[nn.Module, int] = {}

    def count(module: nn.Module, _: Any) -> None:
        counts[module] = counts.get(module, 0) + 1

    layers = [
        layer
        for player in objective.players.values()
        for layer in player.modules()
        if any(True for _ in layer.parameters(recurse=False))
    ]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        recipe.predict(objective, {"seed": torch.tensor([derive(seed, "calls")])})
    finally:
        for hook in hooks:
            hook.remove()
    return max(counts.values(), default=0)


def seconds_an_image(recipe: Any, objective: Any, batch: int, times: int = 5) -> Metric:
    """Seconds an image where `batch` are drawn at once: the mean of `times` draws behind one that is not counted."""
    found: list[float] = []
    for number in range(times + 1):
        seeds = torch.tensor([derive(number, "speed", k) for k in range(batch)])
        start = time.perf_counter()
        recipe.predict(objective, {"seed": seeds})
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / batch)
    return average(torch.tensor(found[1:]))


def classes_found(
    train: Tensor,
    labels: Tensor,
    held_out: Tensor,
    truth: Tensor,
    drawn: Tensor,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """Which classes of the training images are among drawn ones, as a classifier of features sees them.

    A softmax regression of the training features. A class is found where its share of the drawn images is a fifth
    of its share of the training images or more; a rare class is one of less than half of an even share.

    Args:
        train, held_out, drawn: features `(n, d)`.
        labels, truth: of the training and the held-out images.
        names: of the classes.

    Returns:
        "classes_found" and "rare_classes_found" (shares of classes), "classifier_accuracy" on the held-out images,
        and "shares": of each class among training and drawn images.
    """
    classes = int(max(labels.max(), truth.max())) + 1
    mean, spread = train.mean(0), train.std(0).clamp_min(1e-6)
    layer = nn.Linear(train.shape[1], classes)
    x = (train - mean) / spread
    steps = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        steps.zero_grad()
        error = nn.functional.cross_entropy(layer(x), labels)
        error = error + 1e-4 * layer.weight.square().sum()
        error.backward()
        return error

    with torch.enable_grad():
        steps.step(loss)
    with torch.no_grad():
        right = layer((held_out - mean) / spread).argmax(1) == truth
        seen = layer((drawn - mean) / spread).argmax(1)
    there = torch.bincount(labels, minlength=classes).double() / len(labels)
    made = torch.bincount(seen, minlength=classes).double() / len(seen)
    present = there > 0
    found = (made >= FOUND * there) & present
    rare = present & (there < RARE / int(present.sum()))
    each = {
        str(names[k]) if k < len(names) else str(k): [float(there[k]), float(made[k])]
        for k in range(classes)
        if present[k]
    }
    return {
        "classes_found": proportion(found[present]),
        "rare_classes_found": proportion(found[rare])
        if rare.any()
        else refused("no class is rare: each has half of an even share or more", 0),
        "classifier_accuracy": proportion(right),
        "shares": each,
    }
