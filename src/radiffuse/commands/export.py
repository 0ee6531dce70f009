"""`radiffuse export RUN --out DIR`: one call of the network, E[x_0 | x_t], for programs without Radiffuse.

DIR gets denoiser.onnx, denoiser.pt2 (`torch.export`) and denoiser.json: what goes in and comes out, and alpha and sigma
of the schedule at 1001 times. What was written is run again by ONNX Runtime: the same call, and a chain of eight calls,
have to give the same numbers.
"""

import contextlib
import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor, nn

from ..data.files import check_folder, replacing, write_json
from ..data.records import FORMAT
from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import Seeded
from ..diffusion.sample import DDIM, prior
from ..errors import UserError
from ..runs.named import found_run
from ..runs.run import Run, open_run
from . import parsing
from .lock import writing

NAME = "denoiser"
FAR = 1e-4
"""By which numbers may differ, of the largest."""
_TIMES, _POINTS = (0.9, 0.7, 0.55, 0.4, 0.3, 0.2, 0.12, 0.06, 0.03), 1001


@dataclass(frozen=True)
class Flags:
    """What to export.

    Attributes:
        run: run folder of a generative method or a prior, or a model: a name of `radiffuse models`, model.zip,
            hf://OWNER/NAME.
        out: folder to write.
        batch: images of one call, a number that the files fix.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path
    batch: int = 1


class _Call(nn.Module):
    """x_t (B, C, *S) float32 and t (B,) float64 -> E[x_0 | x_t]."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x_t, t)


class _Outside(Denoiser):
    """The denoiser of a file, under the schedule of the run."""

    def __init__(self, denoiser: Denoiser, path: Path) -> None:
        import onnxruntime

        super().__init__()
        self.schedule = denoiser.schedule
        self._session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        every = torch.as_tensor(t, dtype=torch.float64).reshape(-1).expand(len(x_t))
        (made,) = self._session.run(None, {"x_t": x_t.numpy(), "t": every.numpy()})
        return torch.from_numpy(made)


def run(arguments: Sequence[str]) -> None:
    """Write the files, and check them."""
    flags = parsing.parse(Flags, arguments, "radiffuse export")
    parsing.positive({"--batch": flags.batch})
    opened = open_run(found_run(flags.run))
    denoiser = _denoiser(opened).cpu()
    check_folder(flags.out)
    if not all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        raise UserError(
            "radiffuse export needs ONNX and its runtime: pip install 'radiffuse[export]'"
        )
    with writing(flags.out, "radiffuse export"), torch.no_grad(), _quiet():
        x = torch.randn(flags.batch, opened.recipe.channels, *opened.recipe.size)
        t = torch.linspace(0.2, 0.8, flags.batch, dtype=torch.float64)
        denoiser(x, t)  # what it makes once, with NumPy (a spectrum on its grid), cannot be traced
        _write(denoiser, x, t, flags.out)
        call, chain = _differences(denoiser, _Outside(denoiser, flags.out / f"{NAME}.onnx"), x, t)
        if not (call <= FAR and chain <= FAR):  # nor if one is no number
            raise UserError(
                f"{flags.out}: ONNX Runtime gives other numbers (by {max(call, chain):.2g} of the largest), or none; "
                "do not use these files"
            )
        _describe(opened, denoiser, flags.batch, max(call, chain), flags.out)
    print(
        f"{flags.out / NAME}.onnx, .pt2, .json: {flags.batch} x {tuple(x.shape[1:])}; by ONNX Runtime one call "
        f"differs by {call:.1g} of the largest value, a chain of {len(_TIMES) - 1} by {chain:.1g}"
    )


def _denoiser(opened: Run) -> Denoiser:
    """The denoiser of images alone.

    Raises:
        UserError: the method has none, or its network is told something beside.
    """
    recipe, method = opened.recipe, opened.config.method
    if opened.config.distilled:
        raise UserError(
            f"{opened.path}: is distilled: it draws in steps of its own, which are more than calls of one denoiser; "
            "export its teacher"
        )
    which = "denoisers of images alone are exported (ddpm, ncsn, sde, and priors of reconstruction)"
    if not hasattr(recipe, "denoiser"):
        raise UserError(f"{opened.path}: {method} has no denoiser of its own; {which}")
    told = getattr(recipe, "classes", 0) and getattr(recipe, "conditional", False)
    if told or not told_alone(recipe.denoiser) or not getattr(recipe, "IS_PRIOR", False):
        raise UserError(
            f"{opened.path}: the network of {method} is told more than an image and a time; {which}"
        )
    found: Denoiser = recipe.denoiser(opened.objective)
    return found.eval()


def told_alone(make: Callable[..., Any]) -> bool:
    """Whether `recipe.denoiser` needs the objective alone, and no case."""
    _, *others = inspect.signature(make).parameters.values()
    return all(each.default is not each.empty for each in others)


def _write(denoiser: Denoiser, x: Tensor, t: Tensor, out: Path) -> None:
    exported = torch.export.export(_Call(denoiser).eval(), (x, t))
    with replacing(out / f"{NAME}.pt2") as temporary:
        temporary.write_bytes(_saved(exported))
    made: Any = torch.onnx.export(
        exported, (x, t), dynamo=True, input_names=["x_t", "t"], output_names=["x_0"], verbose=False
    )
    with replacing(out / f"{NAME}.onnx") as temporary:
        made.save(str(temporary))


def _saved(exported: torch.export.ExportedProgram) -> bytes:
    """What `torch.export.save` writes, without example inputs, which would be a pickle."""
    exported.example_inputs = None
    held = io.BytesIO()
    torch.export.save(exported, held)
    return held.getvalue()


def _differences(one: Denoiser, other: Denoiser, x: Tensor, t: Tensor) -> tuple[float, float]:
    """Of one call and of a chain, the largest difference over the largest value; NaN where one is no number."""
    calls = [_apart(one(x, at), other(x, at)) for at in (t, torch.zeros_like(t))]
    first = float(torch.tensor(calls).max())
    start = prior(one.schedule, torch.zeros_like(x), Seeded(range(len(x))), _TIMES[0])
    times = torch.tensor(_TIMES, dtype=torch.float64)
    return first, _apart(
        *(DDIM(each, Seeded(range(len(x))))(start, times) for each in (one, other))
    )


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


def _describe(opened: Run, denoiser: Denoiser, batch: int, apart: float, out: Path) -> None:
    """What whoever uses the files has to know."""
    times = torch.linspace(0, 1, _POINTS, dtype=torch.float64)
    schedule = denoiser.schedule
    write_json(
        out / f"{NAME}.json",
        {
            "format": FORMAT,
            "method": opened.config.name,
            "model_sha256": opened.model_sha256,
            "x_t": {
                "shape": [batch, opened.recipe.channels, *opened.recipe.size],
                "is": "alpha(t) x_0 + sigma(t) noise, x_0 in [-1, 1]",
            },
            "t": {"shape": [batch], "is": "time in [0, 1], 0 = clean, float64"},
            "x_0": "E[x_0 | x_t], of the shape of x_t",
            "stored_values": {key: list(ends) for key, ends in opened.config.data.range.items()},
            "times": times.tolist(),
            "alpha": schedule.alpha(times).tolist(),
            "sigma": schedule.sigma(times).tolist(),
            "differs_by": apart,
        },
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep remarks of the exporter off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
