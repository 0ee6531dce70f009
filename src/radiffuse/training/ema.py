"""Averages of weights along training, of several widths at once and of any width afterwards.

Power-function averages of Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
Diffusion Models" (EDM2), section 3 and appendix C. After t steps the weights theta(1 .. t) are
averaged under the profile

    f(tau; t, gamma) = (gamma + 1) tau^gamma / t^(gamma + 1),   0 <= tau <= t,

whose standard deviation is sigma_rel t with sigma_rel = sqrt(gamma + 1) / ((gamma + 2)
sqrt(gamma + 3)). Cutting f into its integrals over (i - 1, i] gives the weight of theta(i),
(i/t)^(gamma+1) - ((i-1)/t)^(gamma+1), and the recurrence

    average(t) = beta(t) average(t - 1) + (1 - beta(t)) theta(t),   beta(t) = (1 - 1/t)^(gamma+1).

Snapshots of such averages span a space of profiles in which any other profile is approximated by
least squares; the integrals that this needs are known in closed form.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .tensorfile import metadata_of, opened, write_tensors

FOLDER = "snapshots"
_FORMAT = "radiffuse-snapshot-1"


def gamma_of(sigma_rel: float) -> float:
    """The exponent gamma of the profile of relative width `sigma_rel` (0 < sigma_rel < 0.2887).

    The largest root of gamma^3 + 7 gamma^2 + (16 - s) gamma + 12 - s with s = sigma_rel^-2; infinite
    for a width of 0, the last weights alone.
    """
    if sigma_rel == 0:
        return math.inf
    s = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - s, 12.0 - s]).real.max())


def sigma_rel_of(gamma: float) -> float:
    """The relative width of the profile with exponent `gamma`: the inverse of `gamma_of`."""
    return float((gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5))


def beta(step: int, gamma: float) -> float:
    """Decay of the average at step number `step` (the first is 1, where it is 0)."""
    return (1.0 - 1.0 / step) ** (gamma + 1)


class PowerAverage:
    """Power-function averages of the same tensors with several widths.

    Args:
        tensors: the live tensors, by name; they are read at every update.
        widths: relative widths sigma_rel; 0 keeps the last weights.
    """

    def __init__(self, tensors: Mapping[str, Tensor], widths: Sequence[float]) -> None:
        self._live = [local(tensor.detach()) for tensor in tensors.values()]
        self.averages: dict[float, dict[str, Tensor]] = {
            width: {name: tensor.detach().clone() for name, tensor in tensors.items()}
            for width in widths
        }
        self._gammas = {width: gamma_of(width) for width in widths}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the tensors as they are after step number `step` (the first is 1)."""
        if not self._live:  # every player keeps its last weights
            return
        for width, average in self.averages.items():
            weight = 1.0 - beta(step, self._gammas[width])
            torch._foreach_lerp_([local(kept) for kept in average.values()], self._live, weight)


def local(tensor: Tensor) -> Tensor:
    """The part of `tensor` on this process where it is split (FSDP), else the tensor itself."""
    part = getattr(tensor, "to_local", None)
    return tensor if part is None else part()


def overlap(
    t_a: np.ndarray, gamma_a: np.ndarray, t_b: np.ndarray, gamma_b: np.ndarray
) -> np.ndarray:
    """Integral of f(tau; t_a, gamma_a) f(tau; t_b, gamma_b) over tau, elementwise.

    With t_a <= t_b (else exchanged): (gamma_a + 1)(gamma_b + 1) / (gamma_a + gamma_b + 1)
    * t_a^gamma_b / t_b^(gamma_b + 1)   (EDM2, appendix C).
    """
    late = np.where(t_a <= t_b, gamma_b, gamma_a)
    first, second = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    factor = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    return factor * (first / second) ** late / second


def coefficients(
    steps: Sequence[int], gammas: Sequence[float], step: int, gamma: float
) -> np.ndarray:
    """Weights of the profiles (steps[i], gammas[i]) that come closest to the profile (step, gamma).

    Least squares of the difference of the profiles, among weights that sum to one (so that
    weights that do not change any more are averaged exactly). Times are scaled by `step`.
    """
    t = np.asarray(steps, dtype=np.float64) / step
    g = np.asarray(gammas, dtype=np.float64)
    gram = overlap(t[:, None], g[:, None], t[None, :], g[None, :])
    target = overlap(t, g, np.ones_like(t), np.full_like(t, gamma))
    # Profiles are scaled to norm one: the late and narrow ones are larger by orders of magnitude.
    norm = np.sqrt(np.diag(gram))
    system = np.zeros((len(t) + 1, len(t) + 1))
    system[:-1, :-1] = gram / np.outer(norm, norm)
    system[-1, :-1] = system[:-1, -1] = 1 / norm / (1 / norm).max()
    right = np.append(target / norm, 1 / (1 / norm).max())
    return np.linalg.lstsq(system, right, rcond=None)[0][:-1] / norm


def snapshot_path(run: Path, step: int) -> Path:
    """Where the snapshot of `step` lies in a run folder."""
    return run / FOLDER / f"step-{step:08d}.safetensors"


def write_snapshot(run: Path, step: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
    """Store the averages of `step` for `posthoc`; the last weights (width 0) are none."""
    tensors = {
        f"{width!r}/{name}": tensor
        for width, average in averages.items()
        if width > 0
        for name, tensor in average.items()
    }
    write_tensors(snapshot_path(run, step), tensors, {"format": _FORMAT, "step": str(step)})


def posthoc(run: Path | str, sigma_rel: float, step: int | None = None) -> dict[str, Tensor]:
    """The average of relative width `sigma_rel` after `step` steps, made from stored snapshots.

    Args:
        run: run folder of a training with `snapshot_every` set.
        sigma_rel: the width wanted, 0 < sigma_rel < 0.28.
        step: the step wanted; None for that of the last snapshot.

    Returns:
        Tensors named as in model.safetensors ("PLAYER.name"), those that are averaged.

    Raises:
        UserError: there are no snapshots, or one cannot be read.
    """
    if not 0 < sigma_rel < 0.28:
        raise UserError(f"the width {sigma_rel} must be between 0 and 0.28")
    found = {}
    for path in sorted((Path(run) / FOLDER).glob("step-*.safetensors")):
        if match := re.fullmatch(r"step-(\d+)\.safetensors", path.name):
            found[int(match[1])] = path
    step = max(found, default=0) if step is None else step
    found = {number: path for number, path in found.items() if number <= step}
    if not found:
        raise UserError(
            f"{Path(run) / FOLDER}: no snapshots up to step {step}; train with "
            "--train.snapshot-every to store some"
        )
    keys = [(number, width) for number, path in found.items() for width in _widths(path)]
    weights = coefficients(
        [number for number, _ in keys], [gamma_of(width) for _, width in keys],
        step, gamma_of(sigma_rel),
    )  # fmt: skip
    result: dict[str, Tensor] = {}
    for (number, width), weight in zip(keys, weights, strict=True):
        _add(result, found[number], width, float(weight))
    return {name: tensor.float() for name, tensor in result.items()}


def _widths(path: Path) -> list[float]:
    try:
        with opened(path) as file:
            metadata, names = metadata_of(file), list(file.keys())
    except UserError as error:
        raise UserError(f"{error}; remove it") from None
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{path}: not a snapshot of this version of radiffuse; remove it")
    return sorted({float(name.split("/", 1)[0]) for name in names})


def _add(result: dict[str, Tensor], path: Path, width: float, weight: float) -> None:
    """Add `weight` times the average of `width` in `path` to `result`, in float64."""
    with opened(path, check=False) as file:
        for key in file.keys():  # noqa: SIM118 (not a dict)
            stored, name = key.split("/", 1)
            if float(stored) == width:
                part = weight * file.get_tensor(key).double()
                result[name] = result[name] + part if name in result else part
