r"""Counterparts by a network that reads: encode with no guide, decode led by the gradient of what is read.

Units. Images are on [-1, 1] here, x' = 2x - 1 for x on [0, 1]. A chain of [0, 1] images,
$x_t = \alpha x_0 + \sigma z$, is $2x_t - \alpha = \alpha x_0' + 2\sigma z$ in ours: the same signal under
twice the noise. Ours with $\alpha'^2 + \sigma'^2 = 1$ is $x_t' = c(2x_t - \alpha)$ at the time t' where

$$ \sigma'/\alpha' = 2\sigma/\alpha, \qquad c = (\alpha^2 + 4\sigma^2)^{-1/2}, \quad \alpha' = c\alpha,
   \quad \sigma' = 2c\sigma. $$

The noise that a network finds is the same at both, so that steps from time to time go into one another. The factor
does as well: of the shifted estimate $\hat x_0 + s\,\tfrac{\sigma^2}{\alpha}\nabla_{x_t}\log p$ the gradient is
$\nabla_{x_t} = 2c\,\nabla_{x_t'}$, the estimate in our units doubles, and

$$ 2 \cdot s\,\tfrac{\sigma^2}{\alpha} \cdot 2c\,\nabla_{x_t'} = s\,\tfrac{4c\sigma^2}{\alpha}\nabla_{x_t'}
   = s\,\tfrac{\sigma'^2}{\alpha'}\nabla_{x_t'}. $$

A paper's factor s for images on [0, 1] is ours, at other times: its L of 500 of 1000 linear betas is our 618, its 0.5
is our depth 0.618. (At the same t the gradient would halve and the step double, 4 s in all, but the classifier
there sees half as much noise: another run.) Scaling of a network's input changes nothing, by the chain rule.
"""

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import LogProbability, Steered
from ...diffusion.losses import discrete_times
from ...diffusion.network import Network
from ...errors import UserError
from ...nn import Classifier
from ...training.objective import Denoising, Reader, Together, device_of
from ..ranges import Rule, at_least, between, one_or_more, require, up_to
from ..recipe import Batch
from ..sizes import sides
from .base import Anomaly
from .counterfactual import ladder, walk
from .task import labels_of

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SMALL_READERS", "TINY_READERS", "Led", "class_loss", "counterpart", "side_by_side"]

Loss = Callable[[Tensor, Batch], Tensor]


@dataclass(frozen=True)
class Led(Anomaly, ABC):
    """Counterparts led by networks that read noisy images; a recipe says which.

    Raises:
        OutOfRange: a level attends that is not there.
    """

    BEFORE: ClassVar[dict[str, Any]] = {
        "reader_multiples": (1, 2, 4),
        "reader_blocks": 0,
        "reader_attention": (),
    }
    """Fields that earlier versions did not write, and what they were."""
    RULES: ClassVar[dict[str, Rule]] = {
        "classes": at_least(0),
        "reader_multiples": one_or_more(between(1, 1000)),
        "reader_blocks": between(0, 1000),
        "reader_attention": at_least(0),
        "read": up_to(1),
    }

    classes: int = 0
    """Classes of the classifier; 0 = from the data (two where only masks are given)."""
    reader_multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level of the networks that read, over that of their first."""
    reader_blocks: int = 4
    """Residual blocks a level of them, beside those that halve the resolution."""
    reader_attention: tuple[int, ...] = (3, 4, 5)
    """Levels of them that attend, 0 = finest."""
    read: float = 1.0
    """Share of the chain that they are trained on; `depth` lies within."""

    def __post_init__(self) -> None:
        super().__post_init__()
        last = len(self.reader_multiples) - 1
        for level in self.reader_attention:
            said = f"{level}: the levels of --reader-multiples run from 0 to {last}"
            require(level <= last, "reader_attention", said)

    def fitted(self, facts: "Facts") -> Self:
        """As `Anomaly`.

        Raises:
            UserError: `depth` lies beyond `read`, or the images are too small for the levels of the readers.
        """
        self.check_read()
        filled = super().fitted(facts)
        coarsest = self.patch * 2 ** (len(self.reader_multiples) - 1)
        if min(filled.size) < coarsest:
            raise UserError(
                f"images of {sides(filled.size)} vanish in the {len(self.reader_multiples)} levels of the "
                f"networks that read, which halve them to a {coarsest}th; give fewer --reader-multiples"
            )
        return filled

    def check_read(self) -> None:
        """Refuse a depth at which the networks that guide were not trained.

        Raises:
            UserError: `depth` lies beyond `read`.
        """
        if self.depth > self.read:
            raise UserError(
                f"depth {self.depth:g} lies beyond read {self.read:g}, where the networks that guide "
                "are not trained: lower depth, or train with a higher --read"
            )

    def encoder(self, out: int, width: int) -> Classifier:
        """A new network that reads `out` numbers in a noisy image."""
        shape = (self.reader_multiples, self.patch, self.reader_blocks, self.reader_attention)
        return Classifier(len(self.size), self.channels, out, width, *shape)


SMALL_READERS: dict[str, Any] = {
    "reader_multiples": (1, 2, 4, 4),
    "reader_blocks": 0,
    "reader_attention": (3,),
    "read": 0.3,
}
"""Shallower, and told of less noise, than is best in the end: what a short training can do. After 200
steps on brains with lesions of 11 mm such a classifier has an AUROC of 0.82 to 0.85 (three seeds), with
one block a level and read 0.4 it has 0.48, 0.55 and 0.76."""
TINY_READERS: dict[str, Any] = {
    "reader_multiples": (1, 2, 4),
    "reader_blocks": 0,
    "reader_attention": (),
}


def class_loss(healthy: int) -> Loss:
    """Cross-entropy of the class, by label or by mask (see `labels_of`)."""
    return lambda read, batch: F.cross_entropy(read, labels_of(batch, healthy))


def side_by_side(
    recipe: Led, network: Network, readers: Mapping[str, tuple[nn.Module, Loss]]
) -> Together:
    """The objective of an unconditional diffusion and of networks that read its images.

    Args:
        recipe: says the chain, and the share of it that is read.
        network: the denoiser.
        readers: network and loss by the name of the player.
    """
    times = discrete_times(recipe.schedule())
    reading = discrete_times(recipe.schedule(), recipe.read)
    return Together(
        Denoising(network, times, recipe.weight()),
        *(Reader(name, module, network, reading, loss) for name, (module, loss) in readers.items()),
    )


def counterpart(
    recipe: Led,
    objective: Together,
    image: Tensor,
    target: Callable[[], LogProbability],
    guidance: float,
) -> Tensor:
    """The image encoded to `depth` and decoded along the gradient of log p(target given x_t).

    Args:
        recipe: says depth and steps.
        objective: as `side_by_side` makes it, trained.
        image: (B, C, *S).
        target: makes what leads; not asked where `guidance` is 0.
        guidance: factor of the gradient.

    Raises:
        UserError: see `Led.check_read`.
    """
    recipe.check_read()
    network = objective.denoising.network.to(device_of(objective)).eval()
    times = ladder(recipe.schedule(), recipe.depth, recipe.steps)
    led: Denoiser = Steered(network, target(), guidance) if guidance else network
    return walk(led, walk(network, image, times), times.flip(0))
