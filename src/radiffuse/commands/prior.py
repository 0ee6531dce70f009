"""`radiffuse train METHOD --prior RUN`: a method that needs only a prior takes that of another run."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from ..applications import fields
from ..data.files import check_folder, replacing
from ..errors import UserError
from ..runs import config
from ..runs.config import Config
from ..runs.named import found_run
from ..runs.run import CONFIG, MANIFEST, Run, open_run, record_model
from ..training import checkpoint, processes
from ..training.checkpoint import MODEL
from .train_flags import Order

FROM_PRIOR = ("channels", "size", "data_std")
"""Fields that follow from the images a prior was trained on."""


def adopt(asked: Order, folder: Path, command: str) -> None:
    """Write a run folder whose network is that of `folder`; nothing is trained.

    Raises:
        UserError: the method cannot use another run's network, or `--out` holds a run.
    """
    prior = open_run(found_run(folder))
    recipe = _fitted(asked, prior)
    check_folder(asked.out)
    if checkpoint.started(asked.out):
        checkpoint.refuse_started(asked.out)
    refuse_foreign(asked.out)
    if not processes.is_main():
        return
    source = dataclasses.replace(prior.config.data, **_named(asked))
    made_with = Config(
        method=asked.method,
        preset=asked.preset,
        recipe=fields.plain(recipe),
        train={},
        data=source,
        fitted=FROM_PRIOR,
        command=command,
        prior=prior.config.prior
        or {"method": prior.config.method, "recipe": dict(prior.config.recipe)},
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    about = {"run": str(folder), "method": prior.config.method, "sha256": prior.model_sha256}
    manifest = {**prior.manifest, "method": asked.method, "command": command, "prior": about}
    config.write_config(asked.out / CONFIG, made_with)
    record_model(asked.out, manifest, [prior.model_sha256])
    with replacing(asked.out / MODEL) as target:  # last: a folder without it can be filled again
        shutil.copyfile(prior.path / MODEL, target)
    print(f"{asked.out}: {asked.method} with the prior of {folder}")


def prior_beside(folder: Path, opened: Run) -> tuple[Any, Any]:
    """Recipe and objective of the generative run that purification is compared with.

    Raises:
        UserError: this run is no purification, the other makes no images, or stored values became others in it.
    """
    method = opened.config.method
    if opened.recipe.task.name != "purification":
        raise UserError(f"--prior: {method} is compared with no prior; only purification is")
    prior = open_run(found_run(folder))
    if (
        prior.config.distilled
        or not hasattr(prior.recipe, "denoiser")
        or not hasattr(prior.objective, "network")
    ):
        raise UserError(
            f"--prior {folder}: {prior.config.method} is no prior of images; train ddpm"
        )
    theirs, ours = (each.config.data.range.get("image") for each in (prior, opened))
    if theirs != ours:
        raise UserError(
            f"--prior {folder}: was trained on stored values {_ends(theirs)}, and {opened.path} on {_ends(ours)}; "
            "train it on the same data"
        )
    return prior.recipe, prior.objective


def _ends(limits: Any) -> str:
    return "of an unknown range" if limits is None else f"{limits[0]:g} to {limits[1]:g}"


def refuse_foreign(out: Path) -> None:
    """Refuse to begin a run where records lie that no training made.

    Raises:
        UserError: names one.
    """
    if (out / CONFIG).exists():
        try:
            config.read_config(out / CONFIG)
        except UserError as error:
            raise UserError(f"{error}; take another --out") from None
    elif (out / MANIFEST).exists():
        raise UserError(f"{out / MANIFEST}: is there already, and of no run; take another --out")


def _fitted(asked: Order, prior: Run) -> Any:
    """The recipe with what follows from the prior's images."""
    if not getattr(asked.recipe, "TAKES_PRIOR", False):
        raise UserError(f"--prior: {asked.method} cannot take another run's network; train it")
    if prior.config.distilled:
        raise UserError(
            f"--prior {prior.path}: is distilled, and draws in whole steps of its own; reconstructions ask for the "
            "image at single levels of noise: take its teacher"
        )
    if not getattr(prior.recipe, "IS_PRIOR", False):
        raise UserError(f"--prior {prior.path}: {prior.config.method} is no prior of images")
    values = {name: getattr(prior.recipe, name) for name in FROM_PRIOR}
    return dataclasses.replace(asked.recipe, **values)


def _named(asked: Order) -> dict[str, Any]:
    """Data named on the command line in place of the prior's."""
    values: dict[str, Any] = {"path": asked.data.path} if asked.data.path else {}
    if asked.data.map:
        values["map"] = asked.data.map
    if asked.data.slices != "none":
        values["slices"] = asked.data.slices
    return values
