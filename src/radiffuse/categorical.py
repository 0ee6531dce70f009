r"""Diffusion of label maps by classification: the network outputs logits of labels, not numbers.

Where x_0 is one of a few codes at every voxel, $E[x_0 \mid x_t] = \sum_l p(l \mid x_t)\, code_l$, and the
probabilities are learned by cross-entropy, as a segmentation network learns them (score interpolation,
Dieleman et al. 2022, section 3.1). The estimate lies between the codes whatever the network says, and
at low noise a confident network returns the codes themselves.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .denoise import Clock, Denoiser, Network, Scale, log_noise, unscaled
from .label_maps import distribution, probabilities
from .parametrization import CLEAN
from .schedule import Schedule

__all__ = ["Categorical"]


class Categorical(Network):
    """A network of logits read as a denoiser of label maps.

    Args:
        backbone: (B, L, *S) -> logits of the labels 0 (background) to L, (B, L + 1, *S).
        schedule, scale, clock: as `Network`.
        absent, factor: x_0 is factor times what `label_maps.encode` makes with `absent`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        absent: float,
        factor: float,
        scale: Scale = unscaled,
        clock: Clock = log_noise,
    ) -> None:
        super().__init__(backbone, schedule, CLEAN, scale, clock)
        self.absent, self.factor = absent, factor

    def given(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        p = self.raw(x_t, t, **condition).float().softmax(1)[:, 1:]
        return (self.factor * (self.absent + (1 - self.absent) * p)).to(x_t.dtype)

    def with_variance(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> tuple[Tensor, Tensor]:
        return Denoiser.with_variance(self, x_t, t)

    def cross_entropy(self, logits: Tensor, x_0: Tensor) -> Tensor:
        """Of logits (B, L + 1, *S) against the labels whose codes x_0 (B, L, *S) holds, nats a voxel."""
        truth = distribution(probabilities(x_0.float() / self.factor, self.absent))
        return F.cross_entropy(logits, truth)
