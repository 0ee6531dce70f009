r"""Diffusion of some channels of an image given the others, which stay clean in the same tensor.

With a code $m \in \{0, 1\}^M$, 1 where channel j is known, the state is

$$ x_t = m\,x_0 + (1 - m)\,(\alpha_t x_0 + \sigma_t z), $$

and one network answers $E[x_0 \mid x_t, m]$ for every m. Its chain knows the missing channels alone, so that
no sampler can touch, scale or draw noise for what is known.
"""

import torch
from torch import Tensor

from .denoiser import Denoiser
from .network import Network

__all__ = ["Completion", "Missing"]


class Completion(Network):
    """A network of images of which some channels are known, told which by a channel of 0 or 1 for each.

    Known channels enter as they are, those of noise times c_in; the code enters as the backbone's image
    condition, of as many channels as the image.
    """

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The network's own output for all channels.

        Args:
            x_t: (B, M, *S), clean where known.
            t: () or (B,).
            condition: "known", bool (B, M, 1, ...) or of the shape of x_t; "images" is of no use here.
        """
        known = condition["known"].expand_as(x_t)
        scale = self.scale(*self.schedule(t, x_t))
        # `Network` multiplies by c_in: what is known is divided by it first
        return super().raw(torch.where(known, x_t / scale, x_t), t, image=known.to(x_t))

    def given(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """E[x_0 given x_t and the code]; known channels are returned as they came."""
        return torch.where(condition["known"], x_t, super().given(x_t, t, **condition))


class Missing(Denoiser):
    """E[missing channels of x_0 given these with noise, and the known ones]: a denoiser of the former alone.

    Args:
        network: of all channels, `Completion` or another that is told "known" and "images".
        images: (B, M, *S), clean where known; all else in it is ignored.
        code: bool (M,), True where known, the same for all cases.
    """

    def __init__(self, network: Network, images: Tensor, code: Tensor) -> None:
        super().__init__()
        self.network, self.schedule, self.images = network, network.schedule, images
        known = code.reshape(1, -1, *[1] * (images.ndim - 2)).to(images.device)
        self.condition = network.bound(known=known, images=images)
        self.rows = (~code).nonzero()[:, 0].to(images.device)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (B, missing, *S), t () or (B,)."""
        whole = self.images.index_copy(1, self.rows, x_t)
        return self.network.given(whole, t, **self.condition)[:, self.rows]
