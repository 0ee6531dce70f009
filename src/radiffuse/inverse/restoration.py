r"""DDRM (Kawar et al. 2022): diffusion in the coordinates of the operator's singular vectors.

With $A = U\Sigma V^H$, each coefficient of $V^H x$ is either not measured ($s_i = 0$) or measured as
$\bar y_i = (U^H y)_i / s_i$ with noise of standard deviation $s/s_i$.
"""

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from ..operators.spectral import Spectral, spectral
from .measurement import Measurement

__all__ = ["DDRM"]


class DDRM(Sampler):
    r"""Denoising diffusion restoration (Kawar et al. 2022, eq. 7-8), on any schedule with alpha > 0.

    The grid starts from prior noise. In units of $x/\alpha$, with $\sigma = \sigma_s/\alpha_s$ the level
    moved to and $\bar x_0$ the estimate's coefficient:

    - not measured: $\bar x_0 + \sqrt{1-\eta^2}\,\sigma\hat z + \eta\sigma z$;
    - measured less well than the level ($\sigma < s/s_i$):
      $\bar x_0 + \sqrt{1-\eta^2}\,\sigma\,(\bar y-\bar x_0) s_i/s + \eta\sigma z$;
    - measured better: $(1-\eta_b)\bar x_0 + \eta_b\bar y + \sqrt{\sigma^2-\eta_b^2 s^2/s_i^2}\,z$.

    Args:
        eta, eta_b: the paper's; 0.85 and 1 are its defaults.

    Raises:
        UserError: the operator offers no singular value decomposition.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        eta: float = 0.85,
        eta_b: float = 1.0,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.eta, self.eta_b = measurement, eta, eta_b

    def init(self, x: Tensor, t: Tensor) -> State:
        """The decomposition, what it makes of y, and the noise of that."""
        parts = spectral(self.measurement.A, x)
        seen = parts.values > 0
        safe = torch.where(seen, parts.values, 1.0)
        measured = parts.measured(self.measurement.y.expand_as(self.measurement.seen(x)))
        y = torch.where(seen, measured / safe, 0.0)
        std = torch.where(seen, self.measurement.std / safe, torch.inf)
        return parts, y, std, True

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        parts, y, std, first = state
        alpha, sigma = self.schedule(t, x_t)
        if first:
            x_t = self._started(x_t, t, parts, y, std)
        x_0 = self.denoiser(x_t, t)
        clean = parts.coefficients(x_0)
        direction = parts.coefficients((x_t - alpha * x_0) / sigma)
        alpha_s, sigma_s = self.schedule(s, x_t)
        u = sigma_s / alpha_s
        z = parts.coefficients(self.noise(x_t))
        keep, fresh = (1 - self.eta**2) ** 0.5, self.eta * u * z
        unseen = clean + keep * u * direction + fresh
        poorly = clean + keep * u * (y - clean) / std + fresh
        rest = (u**2 - self.eta_b**2 * torch.where(std <= u, std, 0.0) ** 2).clamp(min=0)
        well = torch.lerp(clean, y, self.eta_b) + torch.sqrt(rest) * z
        c = torch.where(torch.isinf(std), unseen, torch.where(u < std, poorly, well))
        return alpha_s * parts.image(c), (parts, y, std, False)

    def _started(self, x: Tensor, t: Tensor, parts: Spectral, y: Tensor, std: Tensor) -> Tensor:
        """The measured coefficients begin at y, with so much less noise (Kawar et al., eq. 7)."""
        alpha, sigma = self.schedule(t, x)
        u = sigma / alpha
        c = parts.coefficients(x) / alpha
        known = std <= u
        share = torch.sqrt((1 - torch.where(known, std / u, 0.0) ** 2).clamp(min=0))
        return alpha * parts.image(torch.where(known, y + share * c, c))
