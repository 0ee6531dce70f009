r"""Where a classifier sees the disease: what stands beside methods that are told labels.

The network is told clean images and the same labels. Its log-odds s(x) of being sick,
$\log\frac{1-p_{healthy}}{p_{healthy}}$, are the score. Two maps say which voxels they come from:

Integrated gradients (Sundararajan et al. 2017), $(x-\bar x)\int_0^1 \nabla s(\bar x + a(x-\bar x))\,da$
from the mean healthy image $\bar x$, which sum up to $s(x) - s(\bar x)$; summed over channels and blurred.
Grad-CAM (Selvaraju et al. 2017): features of the last level, weighed by the mean gradient of s over space.
Of both, the part that speaks for disease.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from scipy import ndimage
from torch import Tensor, nn

from ...nn import Classifier
from ...nn.blocks import resized
from ..recipe import Batch
from .led import Loss

__all__ = ["Attributed", "blurred", "grad_cam", "integrated_gradients", "plain_classifier"]

POINTS = 32
"""Points between the two images at which the gradient is taken."""
BLUR = 1 / 32
"""Deviation of the blur over the longest side."""
WIDTH, MULTIPLES = 32, (1, 2, 4, 4)


def plain_classifier(channels: int, size: Sequence[int], out: int) -> Classifier:
    """A network that reads `out` numbers in images, as deep as the size allows; its clock stands at 0."""
    patch = 2 if all(side % 2 == 0 for side in size) else 1
    levels = [k for k in range(1, len(MULTIPLES) + 1) if min(size) >= patch * 2 ** (k + 1)]
    depth = max(levels, default=1)
    return Classifier(len(size), channels, out, WIDTH, MULTIPLES[:depth], patch, 1)


class Attributed:
    """A network that reads clean images, for `supervised.trained`, and where it looks.

    Args:
        network: reads the log-probabilities of classes, or one number.
        loss: of what is read, given the batch.
        healthy: the class that is healthy; None where the number itself says how sick an image is.
    """

    def __init__(self, network: Classifier, loss: Loss, healthy: int | None) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.loss, self.healthy = loss, healthy

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        image = batch["image"]
        read = self.players["network"](image, image.new_zeros(len(image)))
        yield "network", self.loss(read.float(), batch)

    def sickness(self, read: Tensor) -> Tensor:
        """s (B,) of what the network reads: log-odds of not being healthy, or the number."""
        if self.healthy is None:
            return read[:, 0]
        others = [k for k in range(read.shape[1]) if k != self.healthy]
        return read[:, others].logsumexp(1) - read[:, self.healthy]

    def score(self, batch: Batch) -> Tensor:
        """s (B,) of images."""
        return self._score(batch["image"])

    def _score(self, image: Tensor) -> Tensor:
        return self.sickness(self.players["network"](image, image.new_zeros(len(image))).float())

    def gradients(self, reference: Tensor, batch: Batch) -> Tensor:
        """Blurred integrated gradients for disease, (B, 1, *S), from `reference` (1, C, *S)."""
        found = integrated_gradients(self._score, batch["image"], reference)
        return blurred(found.sum(1, keepdim=True)).clamp_min(0)

    def cam(self, batch: Batch) -> Tensor:
        """Grad-CAM for disease, (B, 1, *S)."""
        network, image = self.players["network"], batch["image"]
        assert isinstance(network, Classifier)
        clock = image.new_zeros(len(image))
        return grad_cam(
            lambda x: network.features(x, clock).float(),
            lambda h: self.sickness(network.leave(network.pool(h)).float()),
            image,
        )


def integrated_gradients(
    score: Callable[[Tensor], Tensor], image: Tensor, reference: Tensor, points: int = POINTS
) -> Tensor:
    """What each value adds to score(image) - score(reference), of the shape of `image`.

    Args:
        score: images (B, *) -> (B,).
        image, reference: (B, *) and what broadcasts to it.
        points: of the integral, by the midpoint rule.
    """
    total = torch.zeros_like(image)
    for k in range(points):
        between = torch.lerp(reference.expand_as(image), image, (k + 0.5) / points)
        total += _gradient(score, between)
    return (image - reference) * total / points


def grad_cam(
    features: Callable[[Tensor], Tensor], score: Callable[[Tensor], Tensor], image: Tensor
) -> Tensor:
    """Grad-CAM (B, 1, *S) at the resolution of `image`, linear between places.

    Args:
        features: images -> (B, K, *s).
        score: features -> (B,).
        image: (B, C, *S).
    """
    with torch.no_grad():
        h = features(image)
    weights = _gradient(score, h).flatten(2).mean(2).reshape(*h.shape[:2], *[1] * (h.ndim - 2))
    cam = (weights * h).sum(1, keepdim=True).clamp_min(0)
    return resized(cam, image.shape[2:])


def _gradient(score: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    with torch.enable_grad():
        x = at.detach().requires_grad_()
        return torch.autograd.grad(score(x).sum(), x)[0]


def blurred(found: Tensor, share: float = BLUR) -> Tensor:
    """Maps (B, 1, *S) blurred by a Gaussian of deviation `share` of the longest side."""
    sigma = (0, 0, *[share * max(found.shape[2:])] * (found.ndim - 2))
    return torch.from_numpy(ndimage.gaussian_filter(found.cpu().numpy(), sigma)).to(found)
