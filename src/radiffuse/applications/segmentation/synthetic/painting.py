r"""Images painted on label maps, in the style of other images: the generator's objective and its gate.

For the generator G, told the map m and a style z ~ N(mu(y), s(y)^2) of another slice y of the same person:

$$ -E[C(G, m)] + w_f\,\overline{|f_C(x) - f_C(G)|} + w_p\,P(x, G) + w_k\,KL + w_g\,H(k, Q(G)) $$

C judges image and hard map together at several scales (hinge loss, Park et al. 2019, section 3.1), f_C is what it
sees on the way, P the distance of `latent.coding.Perceptual`, Q the gate's law of the modality, k the right one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....data.cases import Cases
from ....diffusion.noise import Seeded, derive
from ....nn.blocks import conv, groups
from ....nn.critic import ScaledCritic
from ....nn.spade import Painter, StyleEncoder, spectral
from ...latent.coding import Perceptual
from ...recipe import Batch
from .maps import Maps

__all__ = [
    "CRITIC",
    "GATE",
    "PAINTER",
    "STYLE",
    "Gate",
    "Painting",
    "Styled",
    "Weights",
    "of_style",
]

PAINTER, STYLE, CRITIC, GATE = "painter", "style", "critic", "gate"
of_style = "style_{}".format
"""The key of the image that shows the style of a key."""


@dataclass(frozen=True)
class Weights:
    """Factors of the generator's losses, as above."""

    features: float
    perceptual: float
    kl: float
    gate: float


class Gate(nn.Module):
    """Logits of the modality of an image: convolutions that halve the resolution, and the mean over places."""

    def __init__(self, axes: int, channels: int, kinds: int, width: int, levels: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level in range(levels):
            wide = width * min(2**level, 8)
            layers += [conv(axes, channels, wide, stride=2), nn.GroupNorm(groups(wide), wide)]
            layers += [nn.LeakyReLU(0.2)]
            channels = wide
        self.body, self.leave = nn.Sequential(*layers), nn.Linear(channels, kinds)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S); (B, kinds)."""
        return self.leave(self.body(x).flatten(2).mean(2))


class Styled:
    """Cases with, of every image, another slice of the same person: "style_KEY".

    A person with one case gives its mirror image.

    Args:
        cases: the images.
        keys: image keys, one a modality.
    """

    def __init__(self, cases: Cases, keys: Sequence[str]) -> None:
        self.cases, self.keys, self.spacing = cases, tuple(keys), cases.spacing
        self.fingerprint, self.ids = f"styled {cases.fingerprint}", cases.ids
        of: dict[str, list[int]] = {}
        for row, patient in enumerate(cases.patients):
            of.setdefault(patient, []).append(row)
        self.partner = [0] * len(cases)
        for rows in of.values():
            for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
                self.partner[row] = other

    def __len__(self) -> int:
        return len(self.cases)

    def batch(self, indices: Sequence[int], /) -> Batch:
        batch = self.cases.batch(indices)
        others = self.cases.batch([self.partner[row] for row in indices])
        alone = torch.tensor([self.partner[row] == row for row in indices])
        for key in self.keys:
            which = alone.reshape(-1, *[1] * (others[key].ndim - 1))
            batch[of_style(key)] = torch.where(which, others[key].flip(-1), others[key])
        return batch


class Painting:
    """Generator and style encoder against a critic, and the gate, which sees real images alone, in turns.

    A case shows one of its modalities at a time.

    Args:
        painter, style, critic, gate: the networks; no gate where there is one modality.
        keys: image keys, one a modality.
        maps: how label maps are made.
        weights: of the losses.
        critic_rate: learning rate of the critic over the generator's.

    Attributes:
        perceives: whether it wants the perceptual distance.
        perceive: that distance.
    """

    def __init__(
        self,
        painter: Painter,
        style: StyleEncoder,
        critic: ScaledCritic,
        gate: Gate | None,
        keys: Sequence[str],
        maps: Maps,
        weights: Weights,
        critic_rate: float,
    ) -> None:
        spectral(critic)
        self.players: dict[str, nn.Module] = {PAINTER: painter, STYLE: style, CRITIC: critic}
        self.players |= {} if gate is None else {GATE: gate}
        self.rates = {CRITIC: critic_rate}
        # averages of weights do not go with running means of what the last weights made
        self.unaveraged = (PAINTER, STYLE, CRITIC)
        self.keys, self.maps, self.weights = tuple(keys), maps, weights
        self.perceives = weights.perceptual > 0
        self.perceive: Perceptual | None = None

    def losses(self, batch: Batch) -> Iterator[tuple[Any, Tensor]]:
        """The turn of generator and encoder, the critic's, the gate's."""
        kind = torch.randint(len(self.keys), (len(batch["mask"]),))
        x, y = (_chosen(batch, keys, kind) for keys in (self.keys, map(of_style, self.keys)))
        m = self.maps.of(batch).to(x)
        hard, kind = self.maps.hard(m), kind.to(x.device)
        mean, deviation = self.players[STYLE](y)
        made = self.players[PAINTER](m, mean + deviation * torch.randn_like(mean)).float()
        yield (PAINTER, STYLE), self._painted(x, made, hard, mean, deviation, kind)
        self.players[STYLE].keep(mean.detach(), deviation.detach(), kind)  # type: ignore[operator]
        yield CRITIC, self._judged(x, made.detach(), hard)
        if GATE in self.players:
            yield GATE, F.cross_entropy(self.players[GATE](x).float(), kind)

    def _painted(
        self, x: Tensor, made: Tensor, hard: Tensor, mean: Tensor, deviation: Tensor, kind: Tensor
    ) -> Tensor:
        """What the generator and the encoder are to lower."""
        critic, w = self.players[CRITIC], self.weights
        with torch.no_grad():
            real = critic(torch.cat([x, hard], 1))
        fake = critic(torch.cat([made, hard], 1))
        loss = -_mean([scale[-1] for scale in fake])
        near = [
            (one - other).abs()
            for seen, wanted in zip(fake, real, strict=True)
            for one, other in zip(seen[:-1], wanted[:-1], strict=True)
        ]
        layers = len(near) / len(fake)  # their sum, and the mean over scales
        loss = loss + w.features * layers * _mean(near)
        each = mean.square() + deviation.square() - 2 * deviation.log() - 1
        loss = loss + w.kl * 0.5 * each.sum(1).mean()
        if self.perceive is not None:
            loss = loss + w.perceptual * self.perceive(made, x)
        if GATE in self.players:
            loss = loss + w.gate * F.cross_entropy(self.players[GATE](made).float(), kind)
        return loss

    def _judged(self, x: Tensor, made: Tensor, hard: Tensor) -> Tensor:
        """What the critic is to lower: max(0, 1 - C(x)) + max(0, 1 + C(G))."""
        critic = self.players[CRITIC]
        real, fake = (critic(torch.cat([image, hard], 1)) for image in (x, made))
        return _mean([F.relu(1 - s[-1]) for s in real]) + _mean([F.relu(1 + s[-1]) for s in fake])

    @torch.no_grad()
    def paint(
        self, maps: Tensor, kind: int, seeds: Sequence[int], attempts: int
    ) -> tuple[Tensor, Tensor]:
        """Images of a modality on maps, each in a style seen in training.

        One that the gate takes for another modality is painted again in another style.

        Args:
            maps: (B, K, *S).
            kind: number of the modality.
            seeds: one a map.
            attempts: at most.

        Returns:
            Images (B, C, *S), and which passed the gate (B,).
        """
        left, passed = torch.arange(len(maps)), torch.zeros(len(maps), dtype=torch.bool)
        images: Tensor | None = None
        for attempt in range(attempts):
            noise = Seeded(derive(int(seeds[row]), "style", kind, attempt) for row in left)
            made = self.painted(maps[left], self.styles(kind, len(left), noise))
            images = made.clone() if images is None else images
            images[left] = made
            passed[left] = self.passes(made, kind).cpu()
            left = (~passed).nonzero()[:, 0]
            if not len(left):
                break
        assert images is not None
        return images, passed

    def painted(self, maps: Tensor, style: Tensor) -> Tensor:
        """Images (B, C, *S) of maps (B, K, *S) in styles (B, style)."""
        image: Tensor = self.players[PAINTER](maps, style.to(maps)).float()
        return image

    def styles(self, kind: int, count: int, noise: Seeded) -> Tensor:
        """Styles (count, style) of a modality, drawn from the laws of images seen in training."""
        bank = self.players[STYLE]
        share = noise.uniform(torch.zeros(count, 1))[:, 0]
        mean, deviation = bank.kept(kind, share)  # type: ignore[operator]
        return mean + deviation * noise(mean)

    def passes(self, images: Tensor, kind: int) -> Tensor:
        """Which images the gate takes for this modality (B,); all where there is one."""
        if GATE not in self.players:
            return torch.ones(len(images), dtype=torch.bool)
        return self.players[GATE](images).argmax(1) == kind


def _chosen(batch: Mapping[str, Tensor], keys: Any, kind: Tensor) -> Tensor:
    """Of each case the image of one key."""
    every = torch.stack([batch[key].float() for key in keys], 1)
    return every[torch.arange(len(kind)), kind.to(every.device)]


def _mean(parts: Sequence[Tensor]) -> Tensor:
    """The mean of the means."""
    return torch.stack([part.float().mean() for part in parts]).mean()
