"""The BART toolbox's `pics` on arrays: L1-wavelet and total variation with given coil maps.

BART is a program of its own (Debian: `apt-get install bart`). Its arrays are (x, y, z, coil) in Fortran
order, its Fourier transform is centred and orthonormal as ours, so k-space and maps go over as they
are. `python benchmarks/bart.py` checks that: full noiseless data give the image back.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from radiffuse.errors import UserError
from radiffuse.inverse.classical import OfImages
from radiffuse.operators import Coils, Mask, RealPart
from radiffuse.operators.base import factors


def write(path, array):
    """A BART file: dimensions in `.hdr`, complex64 in Fortran order in `.cfl`."""
    sizes = " ".join(map(str, array.shape))
    Path(f"{path}.hdr").write_text(f"# Dimensions\n{sizes}\n")
    np.asarray(array, np.complex64).ravel("F").tofile(f"{path}.cfl")


def read(path):
    """What `write` wrote, or BART."""
    sizes = [int(n) for n in Path(f"{path}.hdr").read_text().splitlines()[1].split()]
    return np.fromfile(f"{path}.cfl", np.complex64).reshape(sizes, order="F")


def _file(coils):
    """(K, *S) with two or three axes -> (x, y, z, coil)."""
    moved = np.moveaxis(coils, 0, -1)
    return moved if coils.ndim == 4 else moved[:, :, None]


def pics(kspace, maps, mask, term, weight, iterations=100, real=False):
    """One case's image (*S), complex64, in the units of the k-space.

    min 1/2 ||y - A x||^2 + weight R(x), FISTA for wavelets (Daubechies 2, random shifts), ADMM for
    total variation. `-w 1` keeps BART from scaling the data, so that the weight has our units.

    Args:
        kspace: (K, *S), centred, zero where it was not sampled.
        maps: coil sensitivities (K, *S).
        mask: (*S), or broadcastable.
        term: "W" (L1 of wavelets), "T" (total variation).
        weight: of the term.
        iterations: of FISTA or ADMM.
        real: whether x is constrained to be real.

    Raises:
        UserError: the program is missing or refuses.
    """
    size = kspace.shape[1:]
    axes = 2 ** len(size) - 1
    pattern = np.broadcast_to(np.asarray(mask, float), size)[None]
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, name) for name in ("kspace", "maps", "pattern", "image")]
        for name, array in zip(names[:3], (kspace, maps, pattern), strict=True):
            write(name, _file(array))
        words = ["-R", f"{term}:{axes}:0:{weight:.9g}", "-i", str(iterations), "-w", "1"]
        words += ["-p", names[2], *(["-c"] if real else [])]
        try:
            done = subprocess.run(
                ["bart", "pics", *words, names[0], names[1], names[3]],
                capture_output=True,
                text=True,
            )
        except FileNotFoundError as error:
            raise UserError("the program bart was not found: apt-get install bart") from error
        if done.returncode:
            raise UserError(f"bart pics: {' '.join(done.stderr.split())[-300:]}")
        return read(names[3]).reshape(size)


def method(term, iterations=100):
    """`pics` as method(measurement, like, weight), the form of `radiffuse.inverse.classical`."""

    def reconstruct(measurement, like, weight):
        OfImages(measurement, like)
        parts = factors(measurement.A)
        maps = next(part.maps for part in parts if isinstance(part, Coils))
        mask = next(part.mask for part in parts if isinstance(part, Mask))
        real = not like.is_complex() or any(isinstance(part, RealPart) for part in parts)
        count = len(like)
        cases = [
            pics(*(part.cpu().numpy() for part in case), term, weight, iterations, real)
            for case in zip(
                measurement.y,
                maps.expand(count, *maps.shape[1:]),
                mask.expand(count, *mask.shape[1:])[:, 0],
                strict=True,
            )
        ]
        x = torch.from_numpy(np.stack(cases))[:, None]
        return (x if like.is_complex() else x.real).to(like)

    return reconstruct


def check(size=(32, 24), coils=3):
    """Relative error of the image that full noiseless data give, for each term."""
    from radiffuse.inverse import Measurement
    from radiffuse.operators import Fourier
    from radiffuse.operators.coils import birdcage

    maps = birdcage(size, coils, [0])
    x = torch.randn(1, 1, *size, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    A = Mask(torch.ones(1, 1, *size)) @ Fourier(len(size)) @ Coils(maps)
    measurement = Measurement(A(x), A, 0.0)
    return {
        term: float((method(term)(measurement, x, 1e-9) - x).norm() / x.norm()) for term in "WT"
    }


if __name__ == "__main__":
    for size in ((32, 24), (16, 20, 24)):
        errors = check(size)
        print(size, {term: f"{error:.1e}" for term, error in errors.items()})
        assert max(errors.values()) < 1e-5
