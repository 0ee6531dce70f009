r"""A denoiser answers the only question a sampler may ask of a model: $E[x_0 \mid x_t]$.

`network` makes one of any network and parametrisation. What takes denoisers and returns denoisers: `guidance`
(`Guided` extrapolates between two, `Steered` adds the gradient of a log-probability, `Clipped` keeps to a range),
`units` (another schedule, other units), `tiling` (images of any size), `complex_images`.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from .schedule import Schedule

__all__ = ["Denoiser", "noise_of", "score_of"]


class Denoiser(nn.Module, ABC):
    """E[x_0 given x_t] under a schedule."""

    schedule: Schedule

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (B, *), t () or (B,); returns the posterior mean of x_0 (B, *)."""

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and w in [0, 1] that places a learned variance (see `kernels.ancestral`).

        Raises:
            TypeError: this denoiser has learned no variance.
        """
        raise TypeError(f"{type(self).__name__} has no learned variance; choose w = 0 or w = 1")


def score_of(denoiser: Denoiser, x_t: Tensor, t: Tensor) -> Tensor:
    r"""$\nabla \log p_t(x_t) = (\alpha \hat x_0 - x_t)/\sigma^2$ (Tweedie's formula)."""
    alpha, sigma = denoiser.schedule(t, x_t)
    return (alpha * denoiser(x_t, t) - x_t) / sigma**2


def noise_of(denoiser: Denoiser, x_t: Tensor, t: Tensor) -> Tensor:
    r"""$E[z \mid x_t] = (x_t - \alpha\hat x_0)/\sigma$."""
    alpha, sigma = denoiser.schedule(t, x_t)
    return (x_t - alpha * denoiser(x_t, t)) / sigma
