r"""The first stage of a latent diffusion: an auto-encoder against a critic of patches.

$$ \lVert x - D(E(x))\rVert_1 + w_p\,P(x, D(E(x))) + w_a\,(C(D(E(x))) - 1)^2 + w_k\,R $$

for the auto-encoder and, for the critic C, $\tfrac12 (C(x) - 1)^2 + \tfrac12 C(D(E(x)))^2$ (least squares, Mao et al.
2017), each a mean over its elements. R is the penalty of the codes: the divergence of Gaussian ones from the standard
normal, or the commitment to a codebook (Esser et al. 2021; Rombach et al. 2022).
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...metrics.resnet import as_pictures
from ...nn.autoencoder import AutoEncoder, Codebook
from ..recipe import Batch

__all__ = ["CODER", "CRITIC", "Coding", "Error", "Perceptual"]

CODER, CRITIC = "autoencoder", "critic"
Error = Callable[[Tensor, Tensor], Tensor]


class Perceptual:
    """Distance of two images in the features of a network (LPIPS without its weights, Zhang et al. 2018).

    After each stage features are normalised over channels; the squared differences are averaged over places,
    added over channels, and averaged over stages. A network of pictures sees slices of volumes, drawn anew at every
    call, the same of both.

    Args:
        stages: of the network; frozen.
        pictures: whether the network is of pictures.
    """

    def __init__(self, stages: nn.Sequential, pictures: bool = False) -> None:
        self.stages, self.pictures = stages.eval().requires_grad_(False), pictures

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """x, y (B, C, *S) in [-1, 1]; ()."""
        self.stages.to(x.device)
        pairs = as_pictures(x, y) if self.pictures else [(x, y)]
        return torch.stack([self._distance(a, b) for a, b in pairs]).mean()

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        total = x.new_zeros(())
        for stage in self.stages:
            x, y = stage(x), stage(y)
            total = total + (_unit(x) - _unit(y)).square().sum(1).mean()
        return total / len(self.stages)


def _unit(h: Tensor) -> Tensor:
    h = h.float()
    return h * torch.rsqrt(h.square().sum(1, keepdim=True) + 1e-6)


class Coding:
    """Auto-encoder and critic, in turns.

    Args:
        coder: the auto-encoder.
        critic: of patches; None leaves its part out.
        features: the perceptual distance; None leaves it out.
        error: (reconstruction, image) -> scalar, in place of the mean absolute error.
        kl: factor of the codes' penalty.
        perceptual, adversarial: factors.
        after: steps before the critic is heard and learns.
        critic_rate: its learning rate over the auto-encoder's.
    """

    def __init__(
        self,
        coder: AutoEncoder,
        critic: nn.Module | None,
        features: Perceptual | None,
        error: Error = F.l1_loss,
        *,
        kl: float,
        perceptual: float,
        adversarial: float,
        after: int,
        critic_rate: float,
    ) -> None:
        self.players: dict[str, nn.Module] = {CODER: coder}
        if critic is not None:
            self.players[CRITIC] = critic
        self.rates = {CRITIC: critic_rate} if critic is not None else {}
        # a codebook goes with the weights that filled it, not with their average
        last = (CODER, CRITIC) if isinstance(coder.law, Codebook) else (CRITIC,)
        self.unaveraged = tuple(name for name in last if name in self.players)
        self.coder, self.error = coder, error
        self.perceive = features if perceptual else None
        self.kl, self.perceptual, self.adversarial, self.after = kl, perceptual, adversarial, after
        late = after if critic is not None else 0
        self.begins = ("the critic of patches", late, "--adversarial-after", False)

    def seen(self) -> Tensor:
        """Steps so far."""
        return self.coder.seen

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """The auto-encoder's turn, then the critic's."""
        x = batch["image"]
        made, penalty = self.players[CODER](x)
        made = made.float()
        loss = self.error(made, x) + self.kl * penalty
        if self.perceive is not None:
            loss = loss + self.perceptual * self.perceive(made, x)
        step = int(self.coder.seen)
        heard = CRITIC in self.players and step >= self.after
        if heard:
            judged = self.players[CRITIC](made).float()
            loss = loss + self.adversarial * F.mse_loss(judged, torch.ones_like(judged))
        yield CODER, loss
        self.coder.seen.fill_(step + 1)  # not += 1: every micro-batch of a step comes by here
        if CRITIC in self.players:
            critic, fake = self.players[CRITIC], made.detach()
            real, fake = critic(x).float(), critic(fake).float()
            loss = (F.mse_loss(real, torch.ones_like(real)) + fake.square().mean()) / 2
            yield CRITIC, loss if heard else 0 * loss
