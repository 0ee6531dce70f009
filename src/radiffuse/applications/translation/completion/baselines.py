"""Beside a network of all configurations: regression, and an unconditional prior with inpainting."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....data.dataset import Cases
from ....diffusion.denoiser import Denoiser
from ....diffusion.network import Given
from ....diffusion.noise import Noise
from ....diffusion.sample import prior
from ....inverse.conditioned import MomentMatching
from ....inverse.measurement import Measurement
from ....inverse.project import Constrained, kept
from ....operators.fourier import Mask
from ...evaluation.asked import Asked
from ...recipe import Batch
from ...supervised import Rival, direct_unet, trained_beside
from ..umm_csgm import UMMCSGM
from .codes import codes_of, configurations, named, whole
from .objective import Completing, drawn_codes

__all__ = ["Fixed", "Inpainting", "OneForAll", "PerConfiguration", "Renamed", "trained_baselines"]


class OneForAll:
    """One regression network of all configurations, told what is given and the code, by mean absolute error.

    Args:
        network: (B, 2 M, *S) -> (B, M, *S).
        contrasts: keys of the channels.
    """

    def __init__(self, network: nn.Module, contrasts: Sequence[str]) -> None:
        self.players: dict[str, nn.Module] = {"network": network}
        self.contrasts, self.codes = tuple(contrasts), configurations(len(contrasts))

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x = whole(batch, self.contrasts)
        known = drawn_codes(self.codes, x)
        missing = (~known).expand_as(x)
        yield "network", F.l1_loss(self._made(x, known)[missing], x[missing])

    def _made(self, images: Tensor, known: Tensor) -> Tensor:
        told = [torch.where(known, images, 0), known.expand_as(images).to(images)]
        return self.players["network"](torch.cat(told, 1)).float()

    def completed(self, images: Tensor, code: Tensor) -> Tensor:
        """What `code` (M,) lacks of images (B, M, *S)."""
        known = code.reshape(1, -1, *[1] * (images.ndim - 2)).to(images.device)
        return self._made(images, known)[:, ~code]


class PerConfiguration:
    """A regression network for every configuration, all of them trained by every step.

    Args:
        networks: by configuration, in the order of `configurations`; (B, given, *S) -> (B, missing, *S).
        contrasts: keys of the channels.
    """

    def __init__(self, networks: Sequence[nn.Module], contrasts: Sequence[str]) -> None:
        self.contrasts, self.codes = tuple(contrasts), configurations(len(contrasts))
        self.players = {
            _name(code): network for code, network in zip(self.codes, networks, strict=True)
        }

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x = whole(batch, self.contrasts)
        for code in self.codes:
            yield _name(code), F.l1_loss(self.completed(x, code), x[:, ~code])

    def completed(self, images: Tensor, code: Tensor) -> Tensor:
        """What `code` (M,) lacks of images (B, M, *S)."""
        return self.players[_name(code)](images[:, code]).float()


def _name(code: Tensor) -> str:
    """The player of a configuration: "given_101" has the first and the third contrast."""
    return "given_" + "".join(str(int(there)) for there in code.tolist())


@dataclasses.dataclass(frozen=True)
class Fixed:
    """What predicts by regression, asked as a recipe is."""

    contrasts: tuple[str, ...]

    def predict(self, objective: OneForAll | PerConfiguration, batch: Batch) -> Batch:
        """What the cases of a batch lack, which is the same for all of them; no randomness."""
        (code,) = codes_of(batch, self.contrasts).unique(dim=0)
        made = objective.completed(whole(batch, self.contrasts), code).clamp(-1, 1)
        return {key: made[:, [k]] for k, key in enumerate(named(code, self.contrasts)[1])}


@dataclasses.dataclass(frozen=True)
class Inpainting(UMMCSGM):
    """An unconditional prior of all contrasts, what is given put in while it is sampled.

    Its network is that of the method, trained with the code "all missing" alone.
    """

    posterior: bool = False
    """By the posterior (`MomentMatching`: gradients through the network, as many solver steps as contrasts, enough for
    contrasts that depend pixel by pixel) in place of replacement: given channels with noise at every level (Song et al.
    2021, section 5)."""

    def drawn(self, objective: Completing, images: Tensor, code: Tensor, noise: Noise) -> Tensor:
        shape = (1, -1, *[1] * (images.ndim - 2))
        known = code.reshape(shape).to(images.device)
        network = objective.network
        denoiser: Denoiser = Given(network, known=torch.zeros_like(known), images=images).eval()
        if self.posterior:
            measured = Measurement(torch.where(known, images, 0), Mask(known), 0.0)
            denoiser = MomentMatching(denoiser, measured, self.data_std, self.channels)
        times = self.make_grid(denoiser.schedule)
        x = prior(denoiser.schedule, images, noise, float(times[0]))
        sampler = self.make_sampler(denoiser, noise)
        if not self.posterior:
            put_in = kept(images, ~known)
            x = put_in(x, *denoiser.schedule(times[0], x), noise)
            sampler = Constrained(sampler, put_in)
        return sampler(x, times)[:, ~code].clamp(-1, 1)


@dataclasses.dataclass(frozen=True)
class Renamed:
    """A recipe of one source and one target, asked under the names of two contrasts."""

    recipe: Any
    source: str
    target: str

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """The target of a draw, as the contrast it is."""
        told = {"source": batch[self.source], "seed": batch["seed"]}
        return {self.target: self.recipe.predict(objective, told)["target"]}


def trained_baselines(
    recipe: UMMCSGM, train: Cases, asked: Asked
) -> dict[str, tuple[Any, Any, int]]:
    """By name: what predicts, its trained objective, and how many draws of it there are.

    "regression" is one network of all configurations, trained as long as the run; "regression_each" one a
    configuration, trained together as long as the run; "inpainting" and "posterior" are of one unconditional prior
    on the network of the run, trained as long and by the same options.
    """
    contrasts, size, axes = recipe.contrasts, recipe.size, len(recipe.size)
    count = len(contrasts)
    codes = configurations(count)
    options = asked.budget()
    same = asked.budget("batch", "learning_rate", "warmup", "cooldown", "ema")
    none = torch.zeros(1, count, dtype=torch.bool)

    def each() -> PerConfiguration:
        sizes = [(int(code.sum()), count - int(code.sum())) for code in codes]
        nets = [direct_unet(axes, into, out, size) for into, out in sizes]
        return PerConfiguration(nets, contrasts)

    rivals: Mapping[str, Rival] = {
        "regression": Rival(
            lambda: OneForAll(direct_unet(axes, 2 * count, count, size), contrasts), train, options
        ),
        "regression_each": Rival(each, train, options),
        "prior": Rival(lambda: recipe.objective(none), train, same),
    }
    found = trained_beside(rivals, asked.run)
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    draws = max(1, recipe.samples)
    prior_of = found.pop("prior")
    made = {name: (Fixed(contrasts), objective, 1) for name, objective in found.items()}
    return {
        **made,
        "inpainting": (Inpainting(**fields), prior_of, draws),
        "posterior": (Inpainting(**fields, posterior=True), prior_of, draws),
    }
