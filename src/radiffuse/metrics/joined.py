"""Features of several networks as one: what the chance of a training adds to a distance is averaged out.

Each network learned the same two things from other first weights, orders and corruptions (`features`). What tells
images apart, each network's divided by its deviation, is joined and reduced to its 15 leading principal components
over the training images; the grades of each fault are averaged. So there are 24 features whatever the number of
networks, and the floor of a Frechet distance stays as low. Measured on chest radiographs (`benchmarks/features.py`):
the distance of a Gaussian from real images is 10.2 times the floor with three, 9.4, 10.0 and 11.3 times with one.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from .features import SHOWN, FeatureNetwork, Progress, trained_features

__all__ = ["MEMBERS", "JoinedFeatures", "joined_features"]

MEMBERS = 3
"""Networks of which the features of an evaluation are joined."""
_SAMPLE, _BATCH = 5000, 100


class JoinedFeatures(nn.Module):
    """Features `(B, 24)` of several networks, standardised over the training images.

    Args:
        members: trained networks of the same images.
        images: training images `(n, C, *S)` in [-1, 1].
    """

    axes: Tensor
    scales: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, members: list[FeatureNetwork], images: Tensor) -> None:
        super().__init__()
        self.networks = members
        self.members = nn.ModuleList(members)  # so that their weights are this module's
        with torch.no_grad():
            parts = [self._parts(part) for part in images.split(_BATCH)]
            shown = torch.cat([part[0] for part in parts])
            of_each = shown.unflatten(1, (len(members), -1))
            self.register_buffer("scales", of_each.std(dim=(0, 2)).clamp_min(1e-12))
            joined = (of_each / self.scales[:, None]).flatten(1)
            _, axes = torch.linalg.eigh(torch.cov(joined.double().mT))
            self.register_buffer("axes", axes[:, -SHOWN:].to(joined))
            found = torch.cat([joined @ self.axes, torch.cat([part[1] for part in parts])], dim=1)
            self.register_buffer("centre", found.mean(dim=0))
            spread = found.std(dim=0)
            self.register_buffer("spread", spread.clamp_min(1e-4 * float(spread.max())))

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is shown, `(B, members 64)`, and the mean logits of each fault, `(B, 9)`."""
        pairs = [(network, network.hidden(x)) for network in self.networks]
        grades = torch.stack([network.grades(hidden) for network, hidden in pairs])
        return torch.cat(
            [network.identity(hidden) for network, hidden in pairs], dim=1
        ), grades.mean(0)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` in [-1, 1] -> `(B, 24)`."""
        shown, grades = self._parts(x)
        joined = (shown.unflatten(1, (len(self.members), -1)) / self.scales[:, None]).flatten(1)
        found = torch.cat([joined @ self.axes, grades], dim=1)
        return (found - self.centre) / self.spread


def joined_features(
    images: Tensor,
    labels: Tensor | None = None,
    *,
    fingerprint: str,
    seed: int = 0,
    members: int = MEMBERS,
    cache: Path | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> JoinedFeatures:
    """The networks of `members` seeds from `seed` on, each read from `cache` or trained, and joined.

    Args:
        images, labels, fingerprint, cache, steps: as of `trained_features`.
        seed: the first.
        members: networks.
        progress: called with (step, steps) of all of them.

    Raises:
        UserError: as `trained_features`.
    """

    def told(number: int) -> Progress | None:
        if progress is None:
            return None
        return lambda step, steps: progress(number * steps + step, members * steps)

    networks = [
        trained_features(
            images,
            labels,
            fingerprint=fingerprint,
            seed=seed + number,
            cache=cache,
            steps=steps,
            progress=told(number),
        )
        for number in range(members)
    ]
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:_SAMPLE]
    return JoinedFeatures(networks, images[chosen]).eval()
