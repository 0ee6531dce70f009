"""What a segmenter of made pairs stands beside: the same network on real pairs, on both, on wrong labels."""

from typing import Any

from ....data.cases import Cases
from ...evaluation.asked import Asked
from ...supervised import Rival
from .pairs import Joined, Pairs

__all__ = ["rivals_of"]


def rivals_of(recipe: Any, train: Cases, pairs: Pairs, asked: Asked) -> dict[str, Rival]:
    """The segmenter trained as long as that of made pairs.

    Args:
        recipe: makes its network.
        train: real pairs.
        pairs: made ones.
        asked: says how long.

    Returns:
        "real_only"; "real_and_made"; "shuffled", made images with each other's labels.
    """
    options = asked.budget("batch")
    both = Joined(train, pairs, (*recipe.given, "mask"))
    cases: dict[str, Any] = {
        "real_only": train,
        "real_and_made": both,
        "shuffled": pairs.shuffled(),
    }
    return {name: Rival(recipe.segmenter, its, options) for name, its in cases.items()}
