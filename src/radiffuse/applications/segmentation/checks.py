"""Which label maps can be learned."""

from typing import TYPE_CHECKING

from torch import Tensor

from ...errors import UserError

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["MOST_LABELS", "check_form", "check_labels", "labels_to_learn"]

MOST_LABELS = 64
"""More foreground labels than this are grey values or numbers with gaps, not classes."""


def check_labels(mask: Tensor, most: int) -> None:
    """Refuse labels that a model of the labels 0 to `most` does not know.

    Raises:
        UserError: names one.
    """
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > most:
        label = low if low < 0 else high
        raise UserError(
            f"a mask holds label {label}, and the model knows 0 (background) to {most}: leave the "
            "label out, or train on cases that have it"
        )


def labels_to_learn(facts: "Facts", key: str) -> int:
    """How many labels but the background the masks `key` of the training cases hold.

    Raises:
        UserError: there is no mask, it is empty in all training cases, or it is no label map.
    """
    if key not in facts.mask_classes:
        raise UserError("the data have no mask to learn from; --map mask=COLUMN")
    labels = facts.mask_classes[key] - 1
    if labels < 1:
        raise UserError("the masks of the training cases are all empty: no label to learn")
    if labels > MOST_LABELS:
        raise UserError(
            f"the mask has labels up to {labels}, and {MOST_LABELS} are the most: number the "
            "labels 0 (background), 1, 2 ... without gaps"
        )
    return labels


def check_form(predicts: str, learned_variance: bool, guess: int) -> None:
    """Refuse what goes with the other form of a diffusion of label maps.

    Raises:
        UserError: a variance is to be learned beside labels, or a guess beside noise.
    """
    if predicts == "labels" and learned_variance:
        raise UserError("--predicts labels has no variance to learn; add --no-learned-variance")
    if guess and predicts != "labels":
        raise UserError("--guess guesses labels; it goes with --predicts labels")
