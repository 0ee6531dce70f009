"""Counterparts by a network that reads: encode with no guide, decode led by the gradient of what is read."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import LogProbability, Steered
from ...diffusion.losses import discrete_times
from ...diffusion.network import Network
from ...errors import UserError
from ...training.objective import Denoising, Reader, Together, device_of
from ..recipe import Batch
from .base import Anomaly
from .counterfactual import ladder, walk
from .task import labels_of

__all__ = ["check_read", "class_loss", "counterpart", "side_by_side"]

Loss = Callable[[Tensor, Batch], Tensor]


def side_by_side(
    recipe: Anomaly, network: Network, readers: Mapping[str, tuple[nn.Module, Loss]], read: float
) -> Together:
    """The objective of an unconditional diffusion and of networks that read its images.

    Args:
        recipe: says the chain.
        network: the denoiser.
        readers: network and loss by the name of the player.
        read: share of the chain that they are trained on.
    """
    times = discrete_times(recipe.schedule())
    reading = discrete_times(recipe.schedule(), read)
    return Together(
        Denoising(network, times, recipe.weight()),
        *(Reader(name, module, network, reading, loss) for name, (module, loss) in readers.items()),
    )


def class_loss(healthy: int) -> Loss:
    """Cross-entropy of the class, by label or by mask (see `labels_of`)."""
    return lambda read, batch: F.cross_entropy(read, labels_of(batch, healthy))


def counterpart(
    recipe: Anomaly,
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
    """
    network = objective.denoising.network.to(device_of(objective)).eval()
    times = ladder(recipe.schedule(), recipe.depth, recipe.steps)
    led: Denoiser = Steered(network, target(), guidance) if guidance else network
    return walk(led, walk(network, image, times), times.flip(0))


def check_read(depth: float, read: float) -> None:
    """Refuse a depth at which the networks that guide were not trained.

    Raises:
        UserError: `depth` lies beyond `read`.
    """
    if depth > read:
        raise UserError(
            f"depth {depth:g} lies beyond read {read:g}, where the networks that guide "
            "are not trained: lower depth, or train with a higher --read"
        )
