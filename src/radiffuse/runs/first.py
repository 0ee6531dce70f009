"""The auto-encoder of a latent diffusion: a run of its own in the folder `autoencoder` of the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..applications.latent.coding import CODER
from ..errors import UserError
from ..training.checkpoint import MODEL, load_model, model_sha256

__all__ = ["CODES", "FIRST", "load_coder", "load_first"]

FIRST = "autoencoder"
CODES = "codes.json"


@dataclass
class _Only:
    players: dict[str, nn.Module]


def load_first(objective: Any, run: Path, manifest: Mapping[str, Any]) -> None:
    """Read the weights of the first stage of a run into its objective.

    Raises:
        UserError: the file is gone, damaged, or not the one that the run was trained on.
    """
    path = run / FIRST / MODEL
    named = (manifest.get("first") or {}).get("sha256", "")
    if not path.is_file():
        which = f" (SHA-256 {named[:12]})" if named else ""
        raise UserError(
            f"{path}: the auto-encoder{which} that this run decodes by is gone; put it back, or train again"
        )
    if named and model_sha256(path) != named:
        raise UserError(
            f"{path}: is another auto-encoder than this run was trained on (SHA-256 "
            f"{model_sha256(path)[:12]}, not {named[:12]}); its codes would mean nothing here"
        )
    load_coder(objective.first, path)


def load_coder(coder: nn.Module, path: Path) -> None:
    """Read an auto-encoder from the model of a first stage.

    Raises:
        UserError: the file is damaged, or of another network.
    """
    load_model(_Only({CODER: coder}), path, whole=False)
