"""What a network of all configurations learns: to denoise what is missing, with what is given clean beside it."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ....diffusion.kernels import diffuse
from ....diffusion.losses import Times, Weight, stratified
from ....diffusion.network import Network
from ....diffusion.noise import gaussian
from ....training.objective import Denoising
from ...recipe import Batch
from .codes import whole

__all__ = ["Completing", "drawn_codes"]


def drawn_codes(codes: Tensor, x: Tensor) -> Tensor:
    """A code for each case of x (B, M, *S), uniform over `codes` (K, M) and stratified: bool (B, M, 1, ...)."""
    rows = stratified(len(x), len(codes)).long()
    return codes[rows].reshape(len(x), -1, *[1] * (x.ndim - 2)).to(x.device)


class Completing(Denoising):
    r"""Masked denoising score matching over random configurations (Meng et al. 2022).

    $E\,w(t)\,\|(1-m)\,(\hat z - z)\|^2$ with m drawn from `codes`, as the mean over what is missing: nothing is
    asked of the output where a channel is given.

    Args:
        network: that is told what is known, as `completion.Completion`.
        times, weight: as `Denoising`.
        contrasts: keys of the channels.
        codes: bool (K, M), the configurations that are trained.
    """

    def __init__(
        self,
        network: Network,
        times: Times,
        weight: Weight,
        contrasts: Sequence[str],
        codes: Tensor,
    ) -> None:
        super().__init__(network, times, weight)
        self.contrasts, self.codes = tuple(contrasts), codes

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x_0 = whole(batch, self.contrasts)
        yield "network", self.matching(x_0, {"known": drawn_codes(self.codes, x_0)})

    def matching(self, x_0: Tensor, condition: Batch) -> Tensor:
        """The loss of the missing channels of x_0 (B, M, *S) at random times, the others clean."""
        known = condition["known"]
        t, z = self.times(len(x_0)), gaussian(x_0)
        network = self._playing()
        x_t = torch.where(known, x_0, diffuse(network.schedule, x_0, t, z))
        out = network.raw(x_t, t, known=known).float()
        missing = (~known).expand_as(x_0)
        return self.errors(out, x_0, z, t)[missing].mean()
