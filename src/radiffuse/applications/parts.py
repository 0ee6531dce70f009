"""The words of a configuration and what they stand for; presets; what every recipe checks."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..diffusion.losses import Weight, karras, likelihood, min_snr, output, p2, simple
from ..diffusion.network import Clock, Network, Scale, elapsed, log_noise, unit_variance, unscaled
from ..diffusion.parametrization import CLEAN, FLOW, NOISE, SCORE, VELOCITY, Predicts, edm
from ..diffusion.sample import (
    DDIM,
    DDPM,
    DPMSolver,
    DPMSolverSDE,
    EulerMaruyama,
    FlowODE,
    Heun,
    Langevin,
    ReverseDiffusion,
    Sampler,
    Then,
    UniPC,
    grids,
    signal_to_noise,
)
from ..diffusion.schedule import Discrete, Schedule, Stretched
from ..errors import UsageError
from .ranges import require

SamplerName = Literal[
    "ddpm",
    "ddpm-large",
    "ddpm-learned",
    "ddim",
    "euler-maruyama",
    "predictor-corrector",
    "reverse-diffusion",
    "reverse-diffusion-langevin",
    "heun",
    "dpm-solver",
    "dpm-solver-sde",
    "unipc",
    "ode",
]
SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "ddpm": DDPM,
    "ddpm-large": lambda denoiser, noise: DDPM(denoiser, noise, w=1.0),
    "ddpm-learned": lambda denoiser, noise: DDPM(denoiser, noise, w=None),
    "ddim": DDIM,
    "euler-maruyama": EulerMaruyama,
    "predictor-corrector": lambda denoiser, noise: Then(
        EulerMaruyama(denoiser, noise), Langevin(denoiser, noise, signal_to_noise(0.16))
    ),
    "reverse-diffusion": ReverseDiffusion,
    "reverse-diffusion-langevin": lambda denoiser, noise: Then(
        ReverseDiffusion(denoiser, noise), Langevin(denoiser, noise, signal_to_noise(0.16))
    ),
    "heun": Heun,
    "dpm-solver": DPMSolver,
    "dpm-solver-sde": DPMSolverSDE,
    "unipc": UniPC,
    "ode": FlowODE,
}
REVERSED = (
    *("euler-maruyama", "predictor-corrector"),
    *("reverse-diffusion", "reverse-diffusion-langevin"),
)
"""Samplers of the reversed SDE, which must begin where there is signal."""
SAMPLER_SETTINGS: dict[str, tuple[str, ...]] = {
    "ddim": ("eta",),
    "dpm-solver": ("eta",),
    "heun": ("churn",),
}
"""Fields that a sampler takes by their names, beside denoiser and noise."""

GridName = Literal["uniform", "strided", "quadratic", "karras", "log-snr"]


def _strided(schedule: Schedule, steps: int, start: float, stop: float) -> Tensor:
    chain = schedule.inner if isinstance(schedule, Stretched) else schedule
    if not isinstance(chain, Discrete) or stop > 0:
        raise ValueError("respacing needs a chain of discrete betas that ends at --stop 0")
    return grids.strided(chain, steps, round(start * chain.steps))


GRIDS: dict[str, Callable[[Schedule, int, float, float], Tensor]] = {
    "uniform": lambda schedule, steps, start, stop: grids.uniform(steps, start, stop),
    "strided": _strided,
    "quadratic": lambda schedule, steps, start, stop: grids.quadratic(steps, start, stop),
    "karras": lambda schedule, steps, start, stop: grids.karras(schedule, steps, 7.0, start, stop),
    "log-snr": grids.log_ratio,
}


def check_timesteps(betas: str, timesteps: int) -> None:
    """Refuse a chain too short for linear betas, whose sum is that of 1000: the last would pass 1.

    Raises:
        OutOfRange: names --timesteps.
    """
    said = f"must be more than 20 where betas are linear, not {timesteps}"
    require(betas != "linear" or timesteps > 20, "timesteps", said)


def check_start(recipe: Any, schedule: Schedule) -> None:
    """Refuse a chain that starts without signal where its parts divide by alpha.

    Raises:
        UsageError: names the parts, and what to take.
    """
    if float(schedule.alpha(torch.tensor(recipe.start).double())) > 0:
        return
    divides = []
    predicts = "clean" if recipe.filtered else getattr(recipe, "predicts", "clean")
    if predicts in ("noise", "score"):
        divides.append(f"--predicts {predicts} (take flow, velocity or edm)")
    if recipe.sampler in REVERSED:
        divides.append(f"--sampler {recipe.sampler} (take heun or ddpm)")
    if recipe.classifier:
        divides.append("--classifier (take --conditional)")
    if getattr(recipe, "leap", 0.0):
        divides.append("--leap (take 0)")
    if divides:
        raise UsageError(
            f"--start {recipe.start:g}: no signal is left there, and {', '.join(divides)} would divide "
            "by it; or start a little below, at --start 0.99"
        )


def grid_named(name: str, schedule: Schedule, steps: int, start: float, stop: float) -> Tensor:
    """The grid of times of a name (see `sample.grids`).

    Raises:
        UsageError: the schedule has no such grid between these times.
    """
    try:
        return GRIDS[name](schedule, steps, start, stop)
    except ValueError as error:
        raise UsageError(f"--grid {name}: {error}, or take --grid uniform") from None


def grid_after_leap(
    name: str, schedule: Schedule, steps: int, start: float, stop: float, level: float
) -> Tensor:
    """`start`, and from the noise `level` = sigma / alpha down the grid of a name: `steps` steps in all.

    Raises:
        UsageError: the level does not lie between the two times, one step is all there is, or the
            schedule has no such grid.
    """
    landing = float(schedule.time(-torch.tensor(level).double().log()))
    if not stop < landing < start:
        raise UsageError(
            f"--leap: it would land at noise of {level:.3g} times the signal, where the chain, from --start "
            f"{start:g} to --stop {stop:g}, does not pass; take --leap 0 or another number"
        )
    if steps < 2:
        raise UsageError("--steps must be at least 2 with --leap, not 1")
    rest = grid_named(name, schedule, steps - 1, landing, stop)
    return torch.cat([torch.tensor([start], dtype=torch.float64), rest])


PredictsName = Literal["noise", "clean", "velocity", "flow", "score", "edm"]
PREDICTS: dict[str, Predicts] = {p.name: p for p in (NOISE, CLEAN, VELOCITY, FLOW, SCORE)}

WeightName = Literal["simple", "likelihood", "p2", "min-snr", "karras", "output"]


def weight_named(name: str, data_std: float) -> Weight:
    """The loss weight of a name (see `losses`)."""
    table: dict[str, Weight] = {
        "simple": simple,
        "likelihood": likelihood,
        "p2": p2(),
        "min-snr": min_snr(),
        "karras": karras(data_std),
        "output": output,
    }
    return table[name]


def predicts_named(name: str, data_std: float) -> Predicts:
    """The parametrisation of a name (see `parametrization`)."""
    return edm(data_std) if name == "edm" else PREDICTS[name]


def input_of(data_std: float, preconditioned: bool) -> tuple[Scale, Clock]:
    """How a network sees x_t and the time (see `network_of`)."""
    return (unit_variance(data_std), log_noise) if preconditioned else (unscaled, elapsed)


def network_of(
    backbone: nn.Module,
    schedule: Schedule,
    predicts: PredictsName,
    data_std: float,
    preconditioned: bool,
) -> Network:
    """The denoiser around a backbone.

    Args:
        backbone: the network.
        schedule: of its training.
        predicts: what it outputs.
        data_std: of its images in [-1, 1].
        preconditioned: whether its input has unit variance and its clock is log(sigma / alpha) / 4;
            otherwise it sees x_t itself and the time.
    """
    predicted = predicts_named(predicts, data_std)
    return Network(backbone, schedule, predicted, *input_of(data_std, preconditioned))
