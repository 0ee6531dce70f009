"""The objective of DiffMIC: a denoiser of labels under three guides, beside the classifier that guides."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.kernels import diffuse
from ...diffusion.losses import Times
from ...diffusion.network import Network
from ...diffusion.noise import gaussian
from ...errors import UserError
from ...nn.augment import turned
from ...nn.dual import DualPrior
from ..recipe import Batch

__all__ = ["DualGuided", "mmd", "on_simplex"]


def mmd(a: Tensor, b: Tensor) -> Tensor:
    r"""Squared maximum mean discrepancy of two sets of vectors (N, C), (M, C), all pairs counted.

    $E\,k(a,a') + E\,k(b,b') - 2E\,k(a,b)$ with $k(u,v) = \exp(-|u-v|^2/C^2)$, as in the authors' code:
    the mean over the C entries, divided by C once more.
    """

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        squares = (u[:, None] - v[None]).square().mean(2)
        return torch.exp(-squares / u.shape[1]).mean()

    return kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)


class DualGuided:
    """Noise prediction under three guides, and the cross-entropy of the classifier that gives them.

    A step has two turns, as in the paper: "network" learns the noise of labels drifting to the
    fusion, and by `mmd` that of labels drifting to the global and to the local guide, all three with
    the same noise and time; then "prior" takes a step of cross-entropy on its fusion. The guides are
    detached. In the first `alone` steps only the prior learns.

    Args:
        network: denoiser of label vectors, "network" its backbone.
        prior: `DualPrior`.
        times: the law of t.
        classes: C.
        dual: weight of the two discrepancies.
        alone: steps of the prior alone.
        turn: largest angle of augmentation in degrees; `flip`: mirror as well.
        prior_rate: factor of the learning rate for the prior.
    """

    def __init__(
        self,
        network: Network,
        prior: DualPrior,
        times: Times,
        classes: int,
        dual: float = 0.5,
        alone: int = 0,
        turn: float = 0.0,
        flip: bool = False,
        prior_rate: float = 1.0,
    ) -> None:
        self.rates = {"prior": prior_rate}
        self.players: dict[str, nn.Module] = {"network": network.backbone, "prior": prior}
        self.network, self.times, self.classes = network, times, classes
        self.dual, self.alone, self.turn, self.flip = dual, alone, turn, flip
        self.begins = ("the denoiser", alone, "--alone", True)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        counter = self.seen()
        step, y_0 = int(counter), self.one_hot(batch)
        image = turned(batch["image"], self.turn, self.flip)
        look = self.players["prior"](image)
        if step >= self.alone:
            guides = [logits.detach().float().softmax(1) for logits in look[:3]]
            yield "network", self.noise_loss(image, y_0, guides)
        yield "prior", F.cross_entropy(look.fusion.float(), batch["label"])
        counter.fill_(step + 1)  # not += 1: every micro-batch of a step comes by here

    def noise_loss(self, image: Tensor, y_0: Tensor, guides: list[Tensor]) -> Tensor:
        """Squared error under the fusion, plus the discrepancies under the two branches.

        The error is that of the network's own output; the discrepancies are between the noise and
        the noise it predicts, whatever it outputs.
        """
        z, t = gaussian(y_0), self.times(len(y_0))
        network, several = self.playing(), len(guides)
        mean, t_all, z_all = torch.cat(guides), t.repeat(several), z.repeat(several, 1)
        m_0 = y_0.repeat(several, 1) - mean
        m_t, at = diffuse(network.schedule, m_0, t_all, z_all), network.schedule(t_all, m_0)
        out = network.raw(m_t, t_all, mean=mean, image=image).float()
        error = (out - network.predicts.target(m_0, z_all, *at)).chunk(several)[0]
        loss = error.square().mean()
        branches = network.predicts.noise(out, m_t, *at).chunk(several)[1:]
        return loss + self.dual * sum((mmd(z, each) for each in branches), torch.zeros_like(loss))

    def one_hot(self, batch: Batch) -> Tensor:
        """y_0 (B, C).

        Raises:
            UserError: there are no labels, or one is not a known class.
        """
        if "label" not in batch:
            raise UserError("classification learns from labels, and the data have no key 'label'")
        label = batch["label"]
        if bool((label < 0).any()) or bool((label >= self.classes).any()):
            raise UserError(f"labels run from 0 to {self.classes - 1}, not {label.tolist()}")
        return F.one_hot(label, self.classes).to(batch["image"].dtype)

    def playing(self) -> Network:
        """The denoiser around the player as the loop has it."""
        return self.network.around(self.players["network"])

    def seen(self) -> Tensor:
        """Steps so far, kept with the weights so that a run can be stopped and go on."""
        counter = self.players["prior"].seen
        assert isinstance(counter, Tensor)
        return counter


def on_simplex(y: Tensor) -> Tensor:
    r"""The nearest rows of probabilities to y (B, C): $\max(y - \tau, 0)$ with sum 1 (Held 1974)."""
    ordered = y.sort(1, descending=True).values
    count = torch.arange(1, y.shape[1] + 1, device=y.device)
    tau = (ordered.cumsum(1) - 1) / count
    last = (ordered > tau).sum(1, keepdim=True) - 1
    return (y - tau.gather(1, last)).clamp_min(0)
