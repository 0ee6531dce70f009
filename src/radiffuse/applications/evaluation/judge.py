"""The real images, and the feature network in whose eyes sets of images are compared."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...errors import UserError
from ...metrics.features import extract, trained_features, weights_hash
from ...metrics.joined import joined_features
from ...metrics.pretrained import load_pretrained
from .progress import progress_bar


@dataclass(frozen=True)
class Judge:
    """Real images, and features of images.

    Attributes:
        train: training images `(n, C, *S)` in [-1, 1].
        labels: their labels `(n,)`, or None.
        held_out: images `(m, C, *S)` that training has not seen.
        network: images -> features `(B, d)`.
        train_features: `(n, d)`.
        held_out_features: `(m, d)`.
        hash: names the network.
        train_people, people: whose each training image and each held-out one is.
    """

    train: Tensor
    labels: Tensor | None
    held_out: Tensor
    network: torch.nn.Module
    train_features: Tensor
    held_out_features: Tensor
    hash: str
    train_people: tuple[str, ...] = ()
    people: tuple[str, ...] = ()

    @property
    def named(self) -> dict[str, str]:
        """The feature network, for the record."""
        return {"name": type(self.network).__name__, "hash": self.hash}


def judge(
    train: Cases,
    held_out: Cases,
    *,
    seed: int = 0,
    cache: Path | None = None,
    weights: Path | None = None,
    members: int = 1,
) -> Judge:
    """Read the real images; train the feature network (or find it in `cache`), or read `weights`.

    Args:
        train: training cases, all of which are held in memory.
        held_out: cases that training has not seen.
        seed: of the feature network.
        cache: folder that keeps the feature network.
        weights: of a ResNet-50 or an Inception-v3 of the user's (`metrics.pretrained`) in place of our own
            network.
        members: networks of our own whose features are joined.

    Raises:
        UserError: there are no images, they differ in size, or `weights` cannot be used.
    """
    images, labels = read_images(train)
    unseen, _ = read_images(held_out)
    if images.shape[1:] != unseen.shape[1:]:
        raise UserError("training and held-out images differ in size; resize both with --size")
    network: torch.nn.Module
    if weights is not None:
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            raise UserError(
                f"{weights}: features of photographs are for grey or colour pictures only"
            )
        network = load_pretrained(weights)
    else:
        learn = trained_features if members == 1 else partial(joined_features, members=members)
        with progress_bar("training the feature network", 1) as done:
            network = learn(
                images,
                labels,
                fingerprint=train.fingerprint,
                seed=seed,
                cache=cache,
                progress=lambda step, steps: done(step / steps),
            )
    features, of_unseen = extract(network, images), extract(network, unseen)
    return Judge(
        images,
        labels,
        unseen,
        network,
        features,
        of_unseen,
        weights_hash(network),
        tuple(train.patients),
        tuple(held_out.patients),
    )


def read_images(cases: Cases) -> tuple[Tensor, Tensor | None]:
    """All images of the key "image" (or the first image key), and their labels or None."""
    if not cases.image_keys:
        raise UserError("the data hold no image; name the column with --map image=COLUMN")
    cases.check_shapes()
    key = "image" if "image" in cases.image_keys else cases.image_keys[0]
    everything = cases.batch(range(len(cases)))
    return everything[key], everything.get("label")
