"""The first stage of a latent diffusion: train its auto-encoder, or take that of another run; look at its codes."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..applications import fields
from ..applications.evaluation.progress import progress_bar
from ..applications.latent.coding import Perceptual
from ..applications.latent.fields import CoderFields
from ..applications.latent.kept import kept_codes
from ..applications.latent.statistics import measured, seen
from ..data.dataset import Cases
from ..data.files import replacing, write_json
from ..diffusion.noise import derive
from ..errors import UserError
from ..metrics.features import trained_features, weights_hash
from ..metrics.pretrained import load_pretrained
from ..metrics.resnet import ResNet50
from ..nn.augment import Augment
from ..nn.autoencoder import AutoEncoder
from ..runs.config import Config
from ..runs.first import CODES, FIRST, load_coder
from ..runs.named import found_run
from ..runs.run import CONFIG, read_run_config, recipe_of
from ..training import checkpoint, processes
from ..training.batches import Readable
from ..training.checkpoint import MODEL, model_sha256
from ..training.memory import check_weights, free_bytes
from ..training.options import TrainOptions
from ..training.progress import say
from .stage import train_stage
from .train_flags import Order

__all__ = ["first_stage", "perceptual_of", "with_coder_of", "with_kept_codes"]

OWN = ("standardised", "latent_shift", "latent_scale")
"""Fields that belong to the run, whoever trained the auto-encoder."""
PERCEIVED = 1000
"""Training images that the network of the perceptual distance learns from."""


def with_coder_of(asked: Order) -> Order:
    """The order with the auto-encoder fields of the run that `--autoencoder` names.

    Raises:
        UserError: that is no run with an auto-encoder.
    """
    if asked.autoencoder is None:
        return asked
    asked = dataclasses.replace(asked, autoencoder=found_run(asked.autoencoder))
    assert asked.autoencoder is not None
    other = recipe_of(read_run_config(asked.autoencoder), f"{asked.autoencoder / CONFIG}: [recipe]")
    if not isinstance(other, CoderFields):
        raise UserError(f"--autoencoder {asked.autoencoder}: is a run without an auto-encoder")
    if not (asked.autoencoder / FIRST / MODEL).is_file():
        raise UserError(f"--autoencoder {asked.autoencoder}: {FIRST}/{MODEL} is missing in it")
    names = [f.name for f in dataclasses.fields(CoderFields) if f.name not in OWN]
    values = {name: getattr(other, name) for name in (*names, "channels", *other.CODER_TOO)}
    if asked.recipe.CODER_TOO != other.CODER_TOO:
        raise UserError(
            f"--autoencoder {asked.autoencoder}: codes another kind of images than {asked.method} has"
        )
    return dataclasses.replace(asked, recipe=dataclasses.replace(asked.recipe, **values))


def first_stage(
    asked: Order,
    recipe: Any,
    training: Cases,
    unseen: Cases,
    made_with: Config,
    check: Callable[[Order, Config], None],
) -> tuple[Any, dict[str, str]]:
    """Train or take the auto-encoder, measure its codes, and write both to the folder `autoencoder`.

    Args:
        asked: the command.
        recipe: fitted to the images.
        training: cases to train on.
        unseen: cases whose reconstruction is measured.
        made_with: the run's configuration; that of the first stage is made of it.
        check: refuses a folder that holds something else.

    Returns:
        The recipe with what follows from the codes, and what the manifest says of the first stage.
    """
    assert asked.first is not None
    folder = asked.out / FIRST
    coder: AutoEncoder
    _check_unchanged(asked, folder)
    torch.manual_seed(derive(asked.first.seed, "weights", "first"))
    if asked.autoencoder is None:
        own = dataclasses.replace(made_with, train=fields.plain(asked.first), first={}, later={})
        check(dataclasses.replace(asked, out=folder, train=asked.first, later={}), own)
        coder = _trained(asked, recipe, training, own)
        about = {}
    else:
        coder = recipe.first_objective().coder
        load_coder(coder, _copied(asked.autoencoder / FIRST / MODEL, folder))
        about = {"from": str(asked.autoencoder)}
    coder.eval().requires_grad_(False)
    found = measured(coder, training, unseen)
    if processes.is_main():
        write_json(folder / CODES, found)
        say(_line(folder, found))
    shift, scale = _standard(recipe, found)
    recipe = recipe.with_codes(shift, scale, *seen(coder, training, shift, scale))
    return recipe, {**about, "sha256": model_sha256(folder / MODEL)}


def _check_unchanged(asked: Order, folder: Path) -> None:
    """Refuse another auto-encoder, or one trained further, where the second stage has learned from its codes.

    Raises:
        UserError: says what may be lengthened.
    """
    if not checkpoint.started(asked.out) or not (folder / MODEL).is_file():
        return
    if asked.autoencoder is not None:
        theirs = model_sha256(asked.autoencoder / FIRST / MODEL)
        changed = theirs != model_sha256(folder / MODEL)
    else:
        last = checkpoint.newest(folder)
        facts = None if last is None else checkpoint.read_facts(last)
        assert asked.first is not None
        changed = facts is None or asked.first.share(facts.step, facts.seconds) < 1
    if changed:
        raise UserError(
            f"{asked.out}: the second stage has begun on the codes of {folder}; lengthen --train alone, or take "
            "another --out"
        )


def with_kept_codes(objective: Any, training: Cases, options: TrainOptions) -> Readable:
    """The training cases with their codes, encoded once; the cases where images are augmented or codes too many."""
    if Augment(options.mirror, options.turn, options.zoom, options.shift):
        return training
    with progress_bar("encoding", len(training)) as done:
        kept = kept_codes(objective, training, free_bytes(), lambda many, _: done(many))
    return training if kept is None else kept


def _trained(asked: Order, recipe: Any, training: Cases, made_with: Config) -> AutoEncoder:
    folder, options = asked.out / FIRST, asked.first
    assert options is not None
    check_weights(recipe.first_objective, options)
    objective = recipe.first_objective(_perceptual(asked, recipe, training, folder))
    train_stage("the auto-encoder", asked, objective, training, options, folder, made_with)
    coder: AutoEncoder = objective.coder
    return coder


def _perceptual(asked: Order, recipe: Any, training: Cases, folder: Path) -> Perceptual | None:
    """The perceptual distance: in the user's network, else in a small one trained on these images."""
    if asked.perceptual_weights is not None:
        return _of_pictures(asked.perceptual_weights, recipe)
    return perceptual_of(training, folder) if recipe.perceptual else None


def perceptual_of(training: Cases, folder: Path) -> Perceptual:
    """The perceptual distance in a small network trained on these images."""
    rows = [
        k * len(training) // min(len(training), PERCEIVED)
        for k in range(min(len(training), PERCEIVED))
    ]
    images = training.batch(rows)["image"]
    network = trained_features(images, fingerprint=training.fingerprint, cache=folder / "features")
    say(f"perceptual distance: a network of {len(images)} training images, {weights_hash(network)}")
    return Perceptual(network.body)


def _of_pictures(weights: Path, recipe: Any) -> Perceptual:
    """The distance in the stages of a ResNet-50 of the user's.

    Raises:
        UserError: it has no part in the loss, is another network, or not one of these images.
    """
    named = f"--perceptual-weights {weights}"
    if not recipe.perceptual:
        raise UserError(f"{named}: --perceptual is 0, so they would not be looked at")
    network = load_pretrained(weights)
    if not isinstance(network, ResNet50):
        raise UserError(
            f"{named}: a perceptual distance is taken in a ResNet-50, and this is an Inception-v3"
        )
    if recipe.channels not in (1, 3):
        raise UserError(
            f"{named}: is of grey or colour pictures, and these have {recipe.channels} channels"
        )
    say(
        f"perceptual distance: the ResNet-50 of {weights}, {weights_hash(network)}; of volumes it sees slices"
    )
    return Perceptual(network.stages(), pictures=True)


def _copied(model: Path, folder: Path) -> Path:
    """The auto-encoder of another run, copied beside."""
    if processes.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / MODEL) as target:
            shutil.copyfile(model, target)
    processes.barrier()
    return folder / MODEL


def _standard(recipe: Any, found: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Shift and scale of the codes, as `standardised` says."""
    if recipe.standardised == "no":
        return [0.0], [1.0]
    if recipe.standardised == "whole":
        return [0.0], [float(f"{1 / max(found['overall'][1], 1e-6):.4g}")]
    return found["mean"], [float(f"{1 / max(d, 1e-6):.4g}") for d in found["deviation"]]


def _line(folder: Path, found: dict[str, Any]) -> str:
    numbers = ", ".join(
        f"{name} {found[key]['mean']:.4g}"
        for name, key in (("PSNR", "psnr"), ("MS-SSIM", "ms_ssim"))
        if found[key].get("mean") is not None
    )
    code = " x ".join(map(str, found["code"]))
    used = f", {found['used']:.0%} of the codebook used" if found["used"] < 1 else ""
    deviation = " ".join(f"{value:.3g}" for value in found["deviation"])
    return (
        f"{folder}: held-out images come back with {numbers or 'no number'}; codes of {code} (1 number for "
        f"{found['ratio']:.3g}), deviation by channel {deviation}{used}"
    )
