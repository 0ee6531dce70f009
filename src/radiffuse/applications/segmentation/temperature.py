r"""Temperature scaling (Guo et al. 2017): one number that makes probabilities as sure as they are right.

$p_T \propto p^{1/T}$, the softmax of logits over T; T minimises the cross-entropy of cases that were not trained
on. Of an ensemble the mean of its members' probabilities is scaled, not each of them (Rahaman & Thiery 2021).
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ...diffusion.label_maps import distribution

__all__ = ["fitted_temperature", "tempered"]

LEAST = 1e-7
"""Probabilities below are taken for this: the background's is what others leave of 1, to that in single precision."""
WIDEST = 20.0
"""T lies between 1 / this and this."""


def tempered(foreground: Tensor, temperature: float) -> Tensor:
    """Foreground probabilities (B, L, *S) at a temperature; T = 1 leaves them, T > 1 makes them less sure."""
    return (_logarithms(foreground) / temperature).softmax(1)[:, 1:].to(foreground)


def fitted_temperature(foreground: Tensor, mask: Tensor) -> float:
    """T of least cross-entropy, over all voxels alike.

    Args:
        foreground: probabilities (B, L, *S).
        mask: the truth (B, 1, *S), labels 0 to L.
    """
    logits = _logarithms(foreground)

    def loss(logarithm: float) -> float:
        scaled = (logits / math.exp(logarithm)).log_softmax(1)
        return -float(scaled.gather(1, mask.to(logits.device)).mean())

    limit = math.log(WIDEST)
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded")
    return math.exp(float(found.x))


def _logarithms(foreground: Tensor) -> Tensor:
    """Logits of all labels, background first, (B, L + 1, *S)."""
    return torch.log(distribution(foreground.double()).clamp_min(LEAST))
