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

__all__ = ["CodeDenoising"]


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
        yield "network", self.matching(self.codes(batch["image"]), self.told(batch))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Codes drawn for images (B, C, *S), as the network sees them, (B, C_z, *L) float32."""
        self.first.to(x.device)
        return self.latent.encode(x, gaussian).float()
