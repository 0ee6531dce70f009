r"""What a network predicts: any combination $c_x x_0 + c_z z$ of the clean image and the noise.

With $x_t = \alpha x_0 + \sigma z$ known, one such combination fixes both unknowns:

$$ \hat x_0 = \frac{\sigma\,out - c_z x_t}{c_x \sigma - c_z \alpha}, \qquad
   \hat z = \frac{c_x x_t - \alpha\,out}{c_x \sigma - c_z \alpha}. $$

So the parametrisations of the field are rows of a table, and each converts exactly to each other.

| row | $c_x$ | $c_z$ | from |
|---|---|---|---|
| NOISE | 0 | 1 | Ho et al. 2020 |
| CLEAN | 1 | 0 | |
| VELOCITY | $-\sigma$ | $\alpha$ | Salimans & Ho 2022 |
| FLOW | -1 | 1 | Liu et al. 2023 |
| SCORE | 0 | $-1/\sigma$ | Song & Ermon 2019 |
| SCALED_SCORE | 0 | -1 | $\sigma$ times the score (Song & Ermon 2020, technique 3) |
| EDM(s) | $\sigma/(s r)$ | $-\alpha s/r$, $r=\sqrt{\alpha^2 s^2+\sigma^2}$ | Karras et al. 2022, eq. 7-8, any alpha |
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "CLEAN",
    "FLOW",
    "NOISE",
    "SCALED_SCORE",
    "SCORE",
    "VELOCITY",
    "Predicts",
    "convert",
    "edm",
]


class Predicts(NamedTuple):
    """A parametrisation: `coefficients(alpha, sigma) -> (c_x, c_z)`."""

    name: str
    coefficients: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def target(self, x_0: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the network should output: c_x x_0 + c_z z."""
        c_x, c_z = self.coefficients(alpha, sigma)
        return c_x * x_0 + c_z * z

    def clean(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The clean image that `out` implies: (sigma out - c_z x_t) / (c_x sigma - c_z alpha).

        Without noise it is x_t / alpha, whatever `out` is.
        """
        clear = sigma == 0  # what is divided there is not looked at, and stays finite for gradients
        s = torch.where(clear, 1, sigma)
        c_x, c_z = self.coefficients(alpha, s)
        given = (s * out - c_z * x_t) / (c_x * s - c_z * alpha)
        return torch.where(clear, x_t / torch.where(clear, alpha, 1), given)

    def noise(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The noise that `out` implies: (c_x x_t - alpha out) / (c_x sigma - c_z alpha)."""
        c_x, c_z = self.coefficients(alpha, sigma)
        return (c_x * x_t - alpha * out) / (c_x * sigma - c_z * alpha)


def _zero(like: Tensor) -> Tensor:
    return torch.zeros_like(like)


def _one(like: Tensor) -> Tensor:
    return torch.ones_like(like)


NOISE = Predicts("noise", lambda alpha, sigma: (_zero(alpha), _one(alpha)))
CLEAN = Predicts("clean", lambda alpha, sigma: (_one(alpha), _zero(alpha)))
VELOCITY = Predicts("velocity", lambda alpha, sigma: (-sigma, alpha))
FLOW = Predicts("flow", lambda alpha, sigma: (-_one(alpha), _one(alpha)))
SCORE = Predicts("score", lambda alpha, sigma: (_zero(alpha), -1 / sigma))

SCALED_SCORE = Predicts("scaled-score", lambda alpha, sigma: (_zero(alpha), -_one(alpha)))


def edm(data_std: float = 0.5) -> Predicts:
    """Karras' preconditioned output for data of standard deviation `data_std`, any alpha.

    The target has unit variance at every noise level if the data have that standard deviation.
    """

    def coefficients(alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        r = torch.sqrt(alpha**2 * data_std**2 + sigma**2)
        return sigma / (data_std * r), -alpha * data_std / r

    return Predicts("edm", coefficients)


def convert(
    out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, have: Predicts, want: Predicts
) -> Tensor:
    """Express the output `out` of a network that predicts `have` as the prediction `want`."""
    c_x, c_z = have.coefficients(alpha, sigma)
    d_x, d_z = want.coefficients(alpha, sigma)
    determinant = c_x * sigma - c_z * alpha
    return ((d_x * sigma - d_z * alpha) * out + (c_x * d_z - c_z * d_x) * x_t) / determinant
