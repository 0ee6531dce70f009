"""What the library gives from Python, as a notebook shows it: predictions, metrics, the way of a chain."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from torch import Tensor

from ..data.image import Image
from ..data.shown import pixels, png
from ..report.table import metrics_table

__all__ = ["Metrics", "Prediction", "Trajectory"]

_TABLE = """
.radiffuse .interval { display: block; width: 100px; height: 8px; }
.radiffuse .interval line { stroke: #4a86c8; stroke-width: 1.6; } .radiffuse .interval circle { fill: #4a86c8; }
.radiffuse small { display: block; font-weight: normal; opacity: 0.7; }
.radiffuse th, .radiffuse td { text-align: left; vertical-align: top; }
"""


@dataclass(frozen=True, repr=False)
class Prediction:
    """What a run says of one case.

    Attributes:
        case: its name.
        outputs: images in the units and on the grid of the input, and plain numbers, by key.
        about: what else `predictions.json` says of it: patient, seed, units.
    """

    case: str
    outputs: Mapping[str, Image | float | list[float]]
    about: Mapping[str, Any]

    def __getitem__(self, key: str) -> Image | float | list[float]:
        return self.outputs[key]

    def __repr__(self) -> str:
        return f"Prediction({self.case}: {', '.join(self.outputs)})"

    def _repr_html_(self) -> str:
        """In a notebook: its images side by side, and its numbers."""
        return "".join(_figure(key, value) for key, value in self.outputs.items())


class Metrics(dict[str, Any]):
    """The record of metrics.json; in a notebook the table of the report."""

    def __repr__(self) -> str:
        method = {key: each.get("mean") for key, each in self.get("method", {}).items()}
        found = [f"{key} {mean:.3g}" for key, mean in method.items() if mean is not None]
        return f"Metrics({self.get('name')}: {', '.join(found[:5])})"

    def _repr_html_(self) -> str:
        return f'<style>{_TABLE}</style><div class="radiffuse">{metrics_table(self)}</div>'


@dataclass(frozen=True, repr=False)
class Trajectory:
    """The states of a sampling chain, from noise to image.

    Attributes:
        states: (B, C, *S) each; those wider than the images are scaled to deviation 1.
    """

    states: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, index: int) -> Tensor:
        return self.states[index]

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.states[0].shape))
        return f"Trajectory({len(self)} states of {shape})"

    def _repr_png_(self) -> bytes:
        """In a notebook: a row a case, eight equally spaced states."""
        count = min(8, len(self))
        places = [round(k * (len(self) - 1) / max(count - 1, 1)) for k in range(count)]
        rows = [
            np.concatenate([pixels(self.states[place][case].numpy()) for place in places], 1)
            for case in range(len(self.states[0]))
        ]
        grey = np.moveaxis(np.concatenate(rows, 0), -1, 0) / 127.5 - 1
        return png(grey, least=128 * count)


def _figure(key: str, value: Image | float | list[float]) -> str:
    """One output in a notebook."""
    name = escape(key)
    if not isinstance(value, Image):
        return f"<p>{name}: {escape(str(value))}</p>"
    coded = base64.b64encode(value._repr_png_()).decode("ascii")
    return (
        f'<figure style="display: inline-block"><img src="data:image/png;base64,{coded}">'
        f"<figcaption>{name}</figcaption></figure>"
    )
