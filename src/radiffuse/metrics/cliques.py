"""Images drawn many times over: groups of samples that are all near one another (Carlini et al. 2023, Sec. 4.2).

An attacker without the training images draws many samples and keeps what comes again and again.
"""

import torch
from torch import Tensor

__all__ = ["LEAST", "cliques", "medoid"]

LEAST = 3
"""Samples of a clique."""


def cliques(images: Tensor, threshold: float, least: int = LEAST, block: int = 512) -> list[Tensor]:
    """Disjoint groups of `least` or more images, each nearer than `threshold` to every other of its group.

    Greedy: the image with the most near ones left begins, and takes each of these, nearest first, that is near to all
    taken before. The largest clique of a graph is a hard problem; of copies of one image it is the obvious one.

    Args:
        images: `(n, *)`, images or features.
        threshold: root mean square difference.

    Returns:
        Rows of each group, the largest group first.
    """
    x = images.flatten(1).float()
    gaps = torch.cat([torch.cdist(part, x) for part in x.split(block)]) / x.shape[1] ** 0.5
    close = (gaps < threshold).fill_diagonal_(False)
    found: list[Tensor] = []
    while True:
        degree = close.sum(1)
        first = int(degree.argmax())
        if int(degree[first]) < least - 1:
            return sorted(found, key=len, reverse=True)
        candidates = close[first].nonzero()[:, 0]
        group = [first]
        for row in candidates[gaps[first, candidates].argsort()].tolist():
            if bool(close[row, group].all()):
                group.append(row)
        rows = torch.tensor(group)
        if len(group) >= least:
            found.append(rows)
            close[rows], close[:, rows] = False, False
        else:
            close[first], close[:, first] = False, False


def medoid(images: Tensor) -> int:
    """The row of the image nearest to all others."""
    return int(torch.cdist(images.flatten(1), images.flatten(1)).sum(1).argmin())
