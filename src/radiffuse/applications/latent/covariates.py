r"""Numbers that a generative model is told, and their joint law in training data.

Each is brought to [0, 1] by its range in training. The law is a Gaussian copula: quantiles of each number, and the
correlation R of their normal scores; a draw is $F_j^{-1}(\Phi(u_j))$, u ~ N(0, R). It holds no case's own numbers but
the extremes, and gives new ones without the data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...diffusion.noise import Seeded
from ...errors import UsageError, did_you_mean

__all__ = ["Covariates", "settings_of"]


@dataclass(frozen=True)
class Covariates:
    """The numbers a model is told.

    Attributes:
        names: of each.
        quantiles: of each in training, evenly spaced from the least to the largest.
        correlation: R, row after row.
    """

    names: tuple[str, ...]
    quantiles: tuple[tuple[float, ...], ...]
    correlation: tuple[tuple[float, ...], ...]

    def told(self, values: Tensor) -> Tensor:
        """Values (B, V) as the network is told them: 0 the least of training, 1 the largest."""
        if not self.names:
            return values
        low, high = (torch.tensor([q[k] for q in self.quantiles]).to(values) for k in (0, -1))
        return (values - low) / (high - low)

    def drawn(self, seeds: Tensor, given: dict[str, float]) -> Tensor:
        """Values (B, V), each case from its seed; those `given` are taken as they are.

        The rest is drawn from the law given nothing: a value asked for changes no other.
        """
        if not self.names:
            return torch.zeros(len(seeds), 0)
        noise = Seeded(int(seed) for seed in seeds)
        z = noise(torch.zeros(len(seeds), len(self.names), dtype=torch.float64))
        root = torch.linalg.cholesky(self._matrix())
        share = torch.special.ndtr(z @ root.T).numpy()
        columns = [
            np.full(len(seeds), given[name])
            if name in given
            else np.interp(share[:, k], np.linspace(0, 1, len(q)), q)
            for k, (name, q) in enumerate(zip(self.names, self.quantiles, strict=True))
        ]
        return torch.from_numpy(np.stack(columns, 1)).float()

    def _matrix(self) -> Tensor:
        matrix = torch.tensor(self.correlation, dtype=torch.float64)
        return matrix + 1e-6 * torch.eye(len(matrix), dtype=torch.float64)

    def outside(self, given: dict[str, float]) -> list[str]:
        """A line for each value that lies outside of what was trained."""
        ranges = {name: (q[0], q[-1]) for name, q in zip(self.names, self.quantiles, strict=True)}
        return [
            f"{name} = {value:g} lies outside of what was trained, {ranges[name][0]:g} to {ranges[name][1]:g}"
            for name, value in given.items()
            if not ranges[name][0] <= value <= ranges[name][1]
        ]


def settings_of(words: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Values by name from NAME=NUMBER words.

    Raises:
        UsageError: another name or no number.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in names:
            hint = did_you_mean(name, names, f"there are {', '.join(names) or 'none'}")
            raise UsageError(f"covariate {name!r} is none that this model is told; {hint}")
        try:
            found[name] = float(text)
        except ValueError:
            raise UsageError(f"covariate {word!r}: write NAME=NUMBER") from None
        if not math.isfinite(found[name]):
            raise UsageError(f"covariate {word!r}: must be finite")
    return found
