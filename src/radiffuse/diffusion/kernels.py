r"""The transition kernels of a Gaussian diffusion: pure functions of (schedule, x_t, x_0, t, s).

With $\alpha_{ts} = \alpha_t/\alpha_s$ and $\beta = \sigma_t^2 - \alpha_{ts}^2\sigma_s^2$ (the variance
that the chain adds from s to t), Bayes' rule gives for s < t

$$ q(x_s \mid x_t, x_0) = N\!\big(\alpha_s x_0 + \alpha_{ts}\tfrac{\sigma_s^2}{\sigma_t^2}(x_t-\alpha_t x_0),
   \ \tilde\beta = \beta\,\sigma_s^2/\sigma_t^2\big) $$

(Ho et al. 2020, eq. 6-7, for any schedule; Kingma et al. 2021, appendix A).
"""

import torch
from torch import Tensor

from .noise import Noise, gaussian
from .schedule import Schedule

__all__ = ["ancestral", "diffuse", "posterior", "reverse"]


def diffuse(schedule: Schedule, x_0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """Draw from q(x_t given x_0): alpha_t x_0 + sigma_t z. x_0, z (B, *); t () or (B,)."""
    alpha, sigma = schedule(t, x_0)
    return alpha * x_0 + sigma * z


def posterior(
    schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of q(x_s given x_t, x_0), its variance, and beta, the variance of q(x_t given x_s)."""
    t64, s64 = torch.as_tensor(t).double(), torch.as_tensor(s).double()
    alpha_t, sigma_t, alpha_s, sigma_s = (
        value.to(x_t.device)
        for value in (*schedule(t64, x_t.real.double()), *schedule(s64, x_t.real.double()))
    )
    ratio = alpha_t / alpha_s
    shrink = sigma_s**2 / sigma_t**2
    beta = (sigma_t**2 - ratio**2 * sigma_s**2).clamp(min=0)
    real = x_t.real.dtype
    mean = (alpha_s * (1 - ratio**2 * shrink)).to(real) * x_0 + (ratio * shrink).to(real) * x_t
    return mean, (beta * shrink).to(real), beta.to(real)


def ancestral(
    schedule: Schedule,
    x_t: Tensor,
    x_0: Tensor,
    t: Tensor,
    s: Tensor,
    w: float | Tensor = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of the reverse step from t to s.

    Args:
        w: place between the two bounds of the variance, $\log v = w\log\beta + (1-w)\log\tilde\beta$:
            0 the posterior's ("fixed small"), 1 the chain's ("fixed large"), a tensor (B, *) if
            learned (Nichol & Dhariwal 2021, eq. 15).

    Returns:
        mean (B, *), variance (broadcastable). At a noise-free s the variance is 0: the last step
        of a chain returns its mean.
    """
    mean, small, large = posterior(schedule, x_t, x_0, t, s)
    if isinstance(w, float | int):
        variance = small if w == 0 else large if w == 1 else small ** (1 - w) * large**w
    else:
        variance = torch.exp(w * large.log() + (1 - w) * small.log())
    return mean, torch.where(small > 0, variance, torch.zeros_like(variance))


def reverse(
    schedule: Schedule,
    x_t: Tensor,
    x_0: Tensor,
    t: Tensor,
    s: Tensor,
    eta: float = 0.0,
    noise: Noise = gaussian,
) -> Tensor:
    r"""One step of the DDIM family from t to s (Song et al. 2021, eq. 12, any schedule).

    $x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2-\tilde\sigma^2}\,\hat z + \tilde\sigma z$ with
    $\hat z = (x_t-\alpha_t\hat x_0)/\sigma_t$ and $\tilde\sigma^2 = \eta^2\tilde\beta$. eta = 0 is
    deterministic (and runs both ways: s > t encodes), eta = 1 has the law of `ancestral`, w = 0.
    """
    alpha_t, sigma_t = schedule(t, x_t)
    alpha_s, sigma_s = schedule(s, x_t)
    if eta == 0:
        ratio = sigma_s / sigma_t
        return ratio * x_t + (alpha_s - alpha_t * ratio) * x_0
    _, variance, _ = posterior(schedule, x_t, x_0, t, s)
    variance = eta**2 * variance
    ratio = torch.sqrt((sigma_s**2 - variance).clamp(min=0)) / sigma_t
    mean = ratio * x_t + (alpha_s - alpha_t * ratio) * x_0
    return mean + torch.sqrt(variance) * noise(x_t)
