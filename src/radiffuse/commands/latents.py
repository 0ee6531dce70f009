"""What a trained latent diffusion looks like from inside: numbers and pictures for its report."""

import json
from pathlib import Path
from typing import Any

from ..applications.latent.diagnosis import RISING, decoded, diagnosed
from ..data.cases import Cases
from ..data.files import write_json
from ..data.records import LATENTS
from ..report.pictures import write_grid
from ..runs.first import CODES, FIRST
from ..runs.run import open_run
from ..training.progress import say

__all__ = ["look_at_latents"]


def look_at_latents(folder: Path, train: Cases, held_out: Cases) -> None:
    """Write latents.json, latents-noise.png and latents-path.png of a run, and say what stands out."""
    objective: Any = open_run(folder).objective
    about = json.loads((folder / FIRST / CODES).read_text(encoding="utf-8"))
    found = diagnosed(objective, train, held_out, about)
    rising, way = decoded(objective, held_out)
    write_grid(folder / "latents-noise.png", [image.numpy() for image in rising], len(RISING))
    write_grid(folder / "latents-path.png", [image.numpy() for image in way], len(way))
    write_json(folder / LATENTS, found)
    for line in found["verdict"]:
        say(f"latents: {line}")
