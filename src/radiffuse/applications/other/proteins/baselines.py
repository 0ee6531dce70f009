"""What stands beside generated backbones: chains of training angles that know nothing of folds."""

from collections.abc import Sequence

import numpy as np
import torch

from ....data.embedded.backbones import BOND, traced
from ....diffusion.noise import derive
from .measures import bends, twists

__all__ = ["random_chains"]


def random_chains(
    training: Sequence[np.ndarray], lengths: Sequence[int], seed: int
) -> list[np.ndarray]:
    """Chains whose bends and twists are runs of four residues of training chains, one after another.

    Bonds and angles are right by construction, secondary structure in part; nothing keeps them from running through
    themselves, or makes them compact.
    """
    angles = [np.stack([bends(chain)[1:], twists(chain)], 1) for chain in training]
    found = []
    for number, length in enumerate(lengths):
        draw = np.random.default_rng(derive(seed, "random chain", number))
        runs: list[np.ndarray] = []
        while sum(map(len, runs)) < length:
            its = angles[draw.integers(len(angles))]
            start = draw.integers(max(len(its) - _RUN, 1))
            runs.append(its[start : start + _RUN])
        drawn = torch.deg2rad(torch.from_numpy(np.concatenate(runs)[: length - 2]))
        found.append(traced(drawn[:, 0], drawn[1:, 1], BOND).numpy())
    return found


_RUN = 4
