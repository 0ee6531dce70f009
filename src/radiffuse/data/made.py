"""What made an image, as its file says it."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["NAME", "Made"]

NAME = "radiffuse"
MOST = 80
"""Bytes of the description field of a NIfTI header."""


@dataclass(frozen=True)
class Made:
    """What made an image.

    Attributes:
        what: was done ("denoised", "sample"), in words for a reader.
        kind: derived from an image of the patient, or synthetic: made from nothing but seeds.
        method: id of the method.
        preset: of its configuration.
        run: name of the run folder, no path.
        model_sha256: of the weights.
        version: of Radiffuse.
    """

    what: str
    kind: Literal["derived", "synthetic"]
    method: str = ""
    preset: str = ""
    run: str = ""
    model_sha256: str = ""
    version: str = ""

    @property
    def line(self) -> str:
        """In at most 80 bytes, ASCII: "SYNTHETIC sample: radiffuse 0.1.0 ddpm, model 0123456789ab"."""
        kind = "SYNTHETIC" if self.kind == "synthetic" else "DERIVED"
        model = f", model {self.model_sha256[:12]}" if self.model_sha256 else ""
        end = f": {NAME} {self.version} {self.method}{model}"
        told = f"{kind} {self.what}"[: max(len(kind), MOST - len(end))] + end
        return told.encode("ascii", "replace").decode()[:MOST]

    @property
    def text(self) -> str:
        """Whole, as a sentence."""
        how = "nothing but seeds" if self.kind == "synthetic" else "images of the patient"
        model = f", model sha256 {self.model_sha256}" if self.model_sha256 else ""
        preset = f" ({self.preset})" if self.preset else ""
        run = f", run {self.run}" if self.run else ""
        return (
            f"{self.what or 'image'}, made of {how} by a neural network: {NAME} {self.version} "
            f"{self.method}{preset}{run}{model}. Not acquired."
        )

    @property
    def json(self) -> str:
        """Every attribute as one line of JSON, ASCII."""
        return json.dumps({"software": NAME, **asdict(self)})
