r"""Denoising of chains of several lengths: the squared error over the residues there are.

$$ \frac{1}{\sum_b N_b}\sum_b\sum_{i\le N_b}\tfrac13\,w(t_b)\,\|\hat z_{bi}-z_{bi}\|^2 $$
"""

from collections.abc import Iterator

from torch import Tensor

from ....diffusion.kernels import diffuse
from ....diffusion.noise import gaussian
from ....training.objective import Denoising
from ...recipe import Batch
from .chains import chains

__all__ = ["Chains"]


class Chains(Denoising):
    """Denoising of the C-alpha atoms of batch["coords"]; noise is not centred (Trippe et al. 2023, section 3)."""

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x_0, mask = chains(batch)
        t = self.times(len(x_0))
        z = gaussian(x_0) * mask[..., None]
        x_t = diffuse(self.network.schedule, x_0, t, z)
        network = self.network.around(self.players["network"])
        out = network.raw(x_t, t, mask=mask).float()
        # where there is no residue, output and target are 0
        yield "network", self.loss(out, x_0, z, x_t, t) * mask.numel() / mask.sum()
