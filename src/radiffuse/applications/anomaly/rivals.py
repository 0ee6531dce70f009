"""Which trained baselines stand beside a method of anomaly detection, and what each of them is told.

All of them learn from health as the fitted baselines do, for as long as the method. Beside a method that
is led by labels stands a classifier with attribution, beside one that is led by a segmentation a U-Net of
the same masks, beside one that is led by a regression a regression: each is told what the guide is told.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...data.dataset import Cases
from ...errors import UserError
from ...training.options import TrainOptions
from ..evaluation.asked import Asked
from ..latent.coded import Coded
from ..segmentation.segmenter import Segmenter
from ..supervised import Rival, direct_unet
from .anoddpm import AnoDDPM
from .attribution import Attributed, plain_classifier
from .autoencoders import Autoencoder, DenoisingAutoencoder, Reconstruction
from .base import Anomaly
from .led import class_loss
from .swiss_army import value_loss
from .task import is_healthy

__all__ = ["Sound", "guide_of", "plain_ddpm", "rivals_of", "sound_cases"]

LEAST = 8
"""Training cases that baselines need."""
WEIGHT_DECAY = 0.02
"""Of networks that read labels, which a few hundred cases teach by heart."""


@dataclass(frozen=True)
class Sound:
    """Cases to learn health from; `outside`: all of them are sick, and health lies outside their masks."""

    cases: Cases
    outside: bool = False


def sound_cases(train: Cases, healthy: int) -> Sound:
    """The healthy cases of `train`; where they are too few, all cases, and what lies outside their masks.

    Raises:
        UserError: there are fewer than `LEAST`.
    """
    found = train.kept(lambda batch: is_healthy(batch, healthy))
    if len(found) >= LEAST:
        return Sound(found)
    if "mask" in train.keys and len(train) >= LEAST:
        return Sound(train, outside=True)
    raise UserError(
        f"{train.source}: {len(found)} healthy training cases (label {healthy}, or an empty "
        f"mask); the baselines need {LEAST}"
    )


def rivals_of(recipe: Any, train: Cases, sound: Sound, asked: Asked) -> dict[str, Rival]:
    """Baselines that are trained as long as the method `recipe`, by name.

    Args:
        recipe: trained on `train`.
        train: all training cases.
        sound: of `sound_cases`.
        asked: says how long.
    """
    options = asked.budget("batch")
    channels, size = recipe.channels, recipe.size

    def of_health(make: Callable[[], Any]) -> Rival:
        return Rival(make, sound.cases, options)

    def autoencoder(variational: bool) -> Rival:
        return of_health(
            lambda: Autoencoder(Reconstruction(channels, size, variational), sound.outside)
        )

    rivals = {
        "autoencoder": autoencoder(variational=False),
        "vae": autoencoder(variational=True),
        "denoising_autoencoder": of_health(
            lambda: DenoisingAutoencoder(channels, size, sound.outside)
        ),
        **_told_as_much(recipe, train, options),
    }
    plain = plain_ddpm(recipe)
    if plain is not None:
        healthy = train.kept(plain.suitable)
        if len(healthy) > 1:
            same = asked.budget("batch", "learning_rate", "warmup", "cooldown", "ema")
            rivals["plain_ddpm"] = Rival(plain.objective, healthy, same)
    return rivals


def guide_of(recipe: Any) -> str:
    """What leads a method beside images: "class", "regression", "segmentation", or "" for nothing."""
    return getattr(recipe, "guide", "class" if getattr(recipe, "classes", 0) else "")


def _told_as_much(recipe: Any, train: Cases, options: TrainOptions) -> dict[str, Rival]:
    """The baseline that is told what the method's guide is told."""
    channels, size, guide = recipe.channels, recipe.size, guide_of(recipe)
    steady = dataclasses.replace(options, weight_decay=WEIGHT_DECAY)

    def classifier() -> Attributed:
        network = plain_classifier(channels, size, recipe.classes)
        return Attributed(network, class_loss(recipe.healthy), recipe.healthy)

    def regression() -> Attributed:
        loss = value_loss(getattr(recipe, "numbers", True))
        return Attributed(plain_classifier(channels, size, 1), loss, healthy=None)

    def unet() -> Segmenter:
        network = direct_unet(len(size), channels, recipe.mask_classes, size, squash=False)
        return Segmenter(network, ("image",), recipe.mask_classes - 1)

    if guide == "segmentation":
        return {"supervised_unet": Rival(unet, train, options)}
    if guide == "regression":
        return {"regression": Rival(regression, train, steady)}
    return {"classifier": Rival(classifier, train, steady)} if guide == "class" else {}


def plain_ddpm(recipe: Any) -> AnoDDPM | None:
    """AnoDDPM with Gaussian noise on the network of `recipe`; None where that is the recipe itself.

    Beside a diffusion of codes, on the network of AnoDDPM's preset `small`.
    """
    if isinstance(recipe, AnoDDPM):
        plain = dataclasses.replace(recipe, noise="gaussian")
        return None if plain == recipe else plain
    if isinstance(recipe, Coded):
        return _of_images(recipe)
    own = {"depth", "threshold", "level"}
    same = {field.name for field in dataclasses.fields(Anomaly)} - own
    shared = {name: getattr(recipe, name) for name in same}
    return AnoDDPM(noise="gaussian", trained=0.4, **shared)


def _of_images(recipe: Any) -> AnoDDPM:
    """A plain DDPM of images for a recipe whose network is of codes; as deep as the images can be halved."""
    small = AnoDDPM.small()
    patch = small.patch if all(side % small.patch == 0 for side in recipe.size) else 1
    depth = len(small.multiples)
    while depth > 1 and any(side % (patch * 2 ** (depth - 1)) for side in recipe.size):
        depth -= 1
    return dataclasses.replace(
        small,
        noise="gaussian",
        patch=patch,
        multiples=small.multiples[:depth],
        attention=tuple(range(max(0, depth - 2), depth)),
        data_std=0.5,
        **{name: getattr(recipe, name) for name in ("healthy", "channels", "size")},
    )
