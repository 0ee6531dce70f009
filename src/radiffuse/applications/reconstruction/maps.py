"""What a reconstruction says beside its image: what the prior alone says, and where the scan is missed."""

from collections.abc import Mapping

from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.schedule import expand
from ...operators import conjugate_gradient
from ..recipe import Batch
from .solvers import DATA_STD

__all__ = ["maps_of", "unmeasured_part"]

LEAST = 1e-3
"""The least noise that a measurement is taken to have, where images reach 1: a quarter of a grey value of 255."""


def maps_of(acquired: Acquired, x: Tensor, more: Mapping[str, Tensor], measured: bool) -> Batch:
    """The outputs of `Reconstruction.predict` for an estimate x (B, C, *S).

    Args:
        acquired: what was measured.
        x: in [0, 1], real or complex.
        more: what else the method says of it, maps in the units of x, and numbers (B,).
        measured: whether the k-space is a scanner's, whose units the image then takes.
    """
    scale = acquired.scale.to(x.device).reshape(-1, *[1] * (x.dim() - 1))
    magnitude = x.abs() if x.is_complex() else x.clamp(min=0)
    m, unmeasured = acquired.measurement, unmeasured_part(acquired, x)
    result = {
        "unmeasured": unmeasured.abs() * scale,
        "_unmeasured": unmeasured * scale,
        "unexplained": m.adjoint(m.residual(x), x).abs() * scale,
        "residual": acquired.misses(x, LEAST),
        "acceleration": acquired.acceleration.to(x.device),
        **{k: v * scale if v.dim() > 1 else v.to(x.device) for k, v in more.items()},
    }
    if measured:
        return {"magnitude": magnitude * scale, "_magnitude": x * scale, **result}
    return {"image": (2 * magnitude - 1).clamp(-1, 1), **result}


def unmeasured_part(acquired: Acquired, x: Tensor) -> Tensor:
    r"""What of x the prior says and the measurement does not: $(I + (d/s)^2 A^H A)^{-1} x$.

    The measurement decides a direction of singular value a where a d is well above the noise s; d is
    the usual standard deviation of images in [0, 1].
    """
    measurement = acquired.measurement
    std = measurement.deviations.clamp_min(LEAST).to(x.real)
    ratio = (DATA_STD / expand(std, x)) ** 2

    def normal(v: Tensor) -> Tensor:
        return v + ratio * measurement.gram(v)

    return conjugate_gradient(normal, x, iterations=50)
