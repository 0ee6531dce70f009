"""The second stage of a latent diffusion: a denoiser of the codes of an auto-encoder that is trained."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ...diffusion.latent import Latent
from ...diffusion.losses import Times, Weight
from ...diffusion.network import Network
from ...diffusion.noise import gaussian
from ...nn.autoencoder import AutoEncoder
from ...training.objective import Denoising
from ..recipe import Batch

__all__ = ["CODE", "DEVIATION", "CodeDenoising"]

CODE, DEVIATION = "code", "deviation"
"""Of a batch whose images were encoded before (`kept`): mean and deviation of the law of codes."""


class CodeDenoising(Denoising):
    """Denoising of codes drawn from the auto-encoder's law of each image.

    Args:
        network, times, weight: as `Denoising`, of codes.
        coder: the auto-encoder; frozen, and no player: its weights are the first stage's.
        shift, scale: of codes (see `Latent`).
        told: batch -> further conditions of the network.
    """

    def __init__(
        self,
        network: Network,
        times: Times,
        weight: Weight,
        coder: AutoEncoder,
        shift: Sequence[float],
        scale: Sequence[float],
        told: Callable[[Batch], Batch] = lambda batch: {},
    ) -> None:
        super().__init__(network, times, weight)
        self.first = coder.eval().requires_grad_(False)
        self.latent = Latent(network, coder, shift, scale)
        self.told = told

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield "network", self.matching(self.drawn(batch), self.told(batch))

    def drawn(self, batch: Batch) -> Tensor:
        """A draw of the code of each case, (B, C_z, *L) float32."""
        if CODE in batch:
            return batch[CODE] + batch[DEVIATION] * gaussian(batch[CODE])
        return self.codes(batch["image"])

    @torch.no_grad()
    def law(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the codes of images (B, C, *S), as the network sees them, float32."""
        device = next(self.network.backbone.parameters()).device
        self.first.to(device)
        mean, deviation = self.latent.law(x.to(device))
        return mean.float(), deviation.float()

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Codes drawn for images (B, C, *S), as the network sees them, (B, C_z, *L) float32."""
        mean, deviation = self.law(x)
        return mean + deviation * gaussian(mean)
