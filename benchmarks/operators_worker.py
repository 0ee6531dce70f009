"""The contestants of `operators.py`, in one process: prints one JSON line.

python operators_worker.py ROUNDS SIZE VIEWS BATCH
"""

import itertools
import json
import math
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np
import torch

from radiffuse.operators import Coils, Fan, Fourier, Mask, Parallel, Radon, views
from radiffuse.operators.coils import birdcage
from radiffuse.operators.radon import _matrices

BLOBS = ((10.0, -14.0, 6.0, 1.0), (-20.0, 5.0, 8.0, 0.7), (2.0, 18.0, 5.0, 0.5))
"""x, y (up), standard deviation, height: in pixels from the centre of the image."""


@dataclass
class Contestant:
    """Functions of one library on its own arrays; `y` turns its answer into (B, views, detectors)."""

    name: str
    forward: Any
    adjoint: Any
    x: Any
    y: Any = None
    setup: float = 0.0


def allow_torchvision():
    """deepinv imports torchvision; one built for another torch lacks the names of two operators."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


# ------------------------------------------------------------------------------------- accuracy
def image(size):
    """The blobs on pixels, (size, size)."""
    place = np.arange(size) - (size - 1) / 2
    return sum(
        h * np.exp(-((place - x) ** 2 + (-place[:, None] - y) ** 2) / (2 * s**2))
        for x, y, s, h in BLOBS
    )


def sinogram(angles, positions, distance=math.inf, shift=(0.0, 0.0)):
    """Line integrals of the blobs, (views, detectors); the rotation's centre lies at `shift`."""
    across = np.stack([np.cos(angles), np.sin(angles)], -1)[:, None]
    along = np.stack([-np.sin(angles), np.cos(angles)], -1)[:, None]
    point = positions[:, None] * across
    ray = along + (point / distance if math.isfinite(distance) else 0 * point)
    ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
    total = 0
    for x, y, s, h in BLOBS:
        gap = np.array([x, y]) - shift - point
        miss = gap[..., 0] * ray[..., 1] - gap[..., 1] * ray[..., 0]
        total = total + h * s * math.sqrt(2 * math.pi) * np.exp(-(miss**2) / (2 * s**2))
    return total


def against_truth(got, distance):
    """Relative error in the convention (centre, direction, start of angles) that fits best.

    And the factor that fits best, with the error after it: some libraries give no line integrals
    in pixel lengths.
    """
    count, detectors = got.shape
    turn = math.pi if math.isinf(distance) else 2 * math.pi
    best = None
    for sign, quarter, half_x, half_y, half in itertools.product(
        (1, -1), range(4), (0, 0.5), (0, -0.5), (0, 0.5, -0.5)
    ):
        angles = sign * np.arange(count) * turn / count + quarter * math.pi / 2
        place = np.arange(detectors) - (detectors - 1) / 2 + half
        truth = sinogram(angles, place, distance, (half_x, half_y))
        factor = float((got * truth).sum() / (got**2).sum())
        fitted = float(np.linalg.norm(factor * got - truth) / np.linalg.norm(truth))
        plain = float(np.linalg.norm(got - truth) / np.linalg.norm(truth))
        if best is None or fitted < best["error_after_factor"]:
            best = {"error": plain, "factor": factor, "error_after_factor": fitted}
    return best


def mismatch(contestant):
    """|<A x, y> - <x, A' y>| / (|A x| |y|) for random x and y."""
    generator = np.random.default_rng(0)

    def like(value):
        draw = generator.standard_normal(tuple(value.shape))
        complex_ = value.is_complex() if torch.is_tensor(value) else np.iscomplexobj(value)
        draw = draw + 1j * generator.standard_normal(draw.shape) if complex_ else draw
        return (
            torch.from_numpy(draw).to(value) if torch.is_tensor(value) else draw.astype(value.dtype)
        )

    x, y = like(contestant.x), like(contestant.forward(contestant.x))
    ax, back = contestant.forward(x), contestant.adjoint(y)
    flat = [np.asarray(part).ravel() for part in (ax, y, x, back)]
    gap = abs(np.vdot(flat[0], flat[1]) - np.vdot(flat[2], flat[3]))
    return float(gap / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))


# ---------------------------------------------------------------------------------- contestants
def ours(geometry, x):
    start = time.perf_counter()
    _matrices.cache_clear()
    operator = Radon(geometry)
    operator(x[:1])
    setup = time.perf_counter() - start
    return Contestant("radiffuse", operator, operator.adjoint, x, lambda y: y[:, 0].numpy(), setup)


def theirs_deepinv(geometry, x):
    from deepinv.physics import Tomography

    distance = getattr(geometry, "distance", None)
    start = time.perf_counter()
    fan = {
        "pixel_spacing": 1.0,
        "source_radius": distance,
        "detector_radius": distance,
        "n_detector_pixels": geometry.detectors,
        "detector_spacing": 2.0,
    }
    physics = Tomography(
        angles=torch.tensor(geometry.angles).rad2deg(),
        img_width=geometry.size[0],
        normalize=False,
        fan_beam=distance is not None,
        fan_parameters=fan if distance else None,
    )
    physics.A_adjoint(physics.A(x))
    setup = time.perf_counter() - start
    return Contestant(
        "deepinv", physics.A, physics.A_adjoint, x, lambda y: y[:, 0].mT.numpy(), setup
    )


def theirs_skimage(geometry, x):
    from skimage.transform import iradon, radon

    degrees = np.rad2deg(geometry.angles)
    size = geometry.size[0]
    scale = 2 * len(degrees) / math.pi

    def forward(images):
        return np.stack([radon(one, degrees, circle=False) for one in images])

    def adjoint(sinograms):
        settings = {"filter_name": None, "circle": False, "output_size": size}
        return scale * np.stack([iradon(one, degrees, **settings) for one in sinograms])

    return Contestant(
        "scikit-image", forward, adjoint, x[:, 0].numpy(), lambda y: y.transpose(0, 2, 1)
    )


def theirs_astra(geometry, x):
    import astra

    distance = getattr(geometry, "distance", None)
    start = time.perf_counter()
    volume = astra.create_vol_geom(*geometry.size)
    angles = np.array(geometry.angles)
    if distance:
        rays = astra.create_proj_geom("fanflat", 1.0, geometry.detectors, angles, distance, 0.0)
        matrix = astra.OpTomo(astra.create_projector("line_fanflat", rays, volume))
    else:
        rays = astra.create_proj_geom("parallel", 1.0, geometry.detectors, angles)
        matrix = astra.OpTomo(astra.create_projector("linear", rays, volume))
    setup = time.perf_counter() - start

    def forward(images):
        return np.stack([matrix.FP(one) for one in images])

    def adjoint(sinograms):
        return np.stack([matrix.BP(one) for one in sinograms])

    return Contestant("astra (CPU)", forward, adjoint, x[:, 0].numpy(), lambda y: y, setup)


def of_tomography(geometry, size, batch):
    x = torch.from_numpy(image(size)).float().expand(batch, 1, size, size).contiguous()
    makers = [ours, theirs_deepinv, theirs_astra]
    makers += [] if isinstance(geometry, Fan) else [theirs_skimage]
    return [make(geometry, x) for make in makers]


def of_mri(size, batch, coils=8):
    """Masked multi-coil Fourier transforms of complex images."""
    import deepinv
    import sigpy

    maps = birdcage((size, size), coils, [0])
    mask = (torch.rand(size, generator=torch.Generator().manual_seed(0)) < 0.25).float()
    mask = mask.expand(size, size).contiguous()
    x = torch.randn(
        batch, 1, size, size, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    A = Mask(mask) @ Fourier(2) @ Coils(maps)
    physics = deepinv.physics.MultiCoilMRI(mask=mask, coil_maps=maps)
    linop = (
        sigpy.linop.Multiply([batch, coils, size, size], mask.numpy())
        * sigpy.linop.FFT([batch, coils, size, size], axes=(-2, -1))
        * sigpy.linop.Multiply([batch, 1, size, size], maps.numpy())
    )
    back = linop.H
    parts = torch.view_as_real(x[:, 0]).movedim(-1, 1).contiguous()
    return [
        Contestant("radiffuse", A, A.adjoint, x, lambda y: y.numpy()),
        Contestant(
            "deepinv",
            physics.A,
            physics.A_adjoint,
            parts,
            lambda y: torch.complex(y[:, 0], y[:, 1]).numpy(),
        ),
        Contestant("sigpy", linop, back, x.numpy(), lambda y: y),
    ], exact_mri(x, maps, mask)


def exact_mri(x, maps, mask):
    """The same by explicit sums in double precision."""
    size = x.shape[-1]
    k = np.arange(size) - size // 2
    dft = np.exp(-2j * np.pi * np.outer(k, k) / size) / math.sqrt(size)
    coil = (maps * x).numpy().astype(complex)
    return mask.numpy() * (dft @ coil @ dft.T)


# ---------------------------------------------------------------------------------------- times
def race(contestants, rounds):
    """Medians of seconds, and of ratios to the first contestant within a round."""
    answers = [c.forward(c.x) for c in contestants]
    for c, y in zip(contestants, answers, strict=True):
        c.adjoint(y)
    turns = []
    for _ in range(rounds):
        turn = {}
        for c, y in zip(contestants, answers, strict=True):
            start = time.perf_counter()
            c.forward(c.x)
            middle = time.perf_counter()
            c.adjoint(y)
            turn[c.name] = (middle - start, time.perf_counter() - middle)
        turns.append(turn)
    first = contestants[0].name
    return {
        c.name: {
            "forward_seconds": median(turn[c.name][0] for turn in turns),
            "adjoint_seconds": median(turn[c.name][1] for turn in turns),
            "forward_ratio": median(turn[c.name][0] / turn[first][0] for turn in turns),
            "adjoint_ratio": median(turn[c.name][1] / turn[first][1] for turn in turns),
            "setup_seconds": c.setup,
            "adjoint_mismatch": mismatch(c),
        }
        for c in contestants
    }


def main():
    rounds, size, count, batch = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    kept = allow_torchvision()
    record = {"rounds": rounds, "size": size, "views": count, "batch": batch, "threads": 1}
    contestants, truth = of_mri(size, batch)
    record["multi-coil Fourier, 8 coils"] = race(contestants, rounds)
    for c in contestants:
        error = np.linalg.norm(c.y(c.forward(c.x)) - truth) / np.linalg.norm(truth)
        record["multi-coil Fourier, 8 coils"][c.name]["error"] = float(error)
    parallel = Parallel((size, size), views(count))
    fan = Fan((size, size), views(count, 2 * math.pi), distance=2.0 * size)
    for name, geometry, images in (
        ("parallel beam", parallel, batch),
        ("fan beam", fan, batch),
        ("parallel beam, one image", parallel, 1),
        ("fan beam, one image", fan, 1),
    ):
        contestants = of_tomography(geometry, size, images)
        record[name] = race(contestants, rounds)
        for c in contestants:
            got = c.y(c.forward(c.x))[0].astype(float)
            record[name][c.name] |= against_truth(got, getattr(geometry, "distance", math.inf))
    del kept
    packages = ("torch", "deepinv", "sigpy", "scikit-image", "astra-toolbox")
    record["versions"] = {name: version(name) for name in packages}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
