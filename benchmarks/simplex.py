"""Speed of simplex noise against the opensimplex package, in one run: fields of 64 x 64, 6 octaves.

    python benchmarks/simplex.py [--json benchmarks/results/simplex.json]

The package (pure Python, or compiled where numba is installed) makes one field after the other, as
AnoDDPM's own code does; ours makes a batch, and every case has its own field all the same.
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import opensimplex
import torch

from radiffuse.data.files import write_json
from radiffuse.diffusion.simplex import Simplex

HERE = Path(__file__).resolve().parent
SIZE, BATCH = 64, 32


def package(seed, simplex):
    """One field by the package, from a new permutation."""
    opensimplex.seed(seed)
    at = np.arange(SIZE) / simplex.wavelength
    return sum(
        simplex.decay**k * opensimplex.noise3array(2**k * at, 2**k * at, np.array([0.3]))[0]
        for k in range(simplex.octaves)
    )


def seconds(work, repeats):
    """The fastest of some runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "simplex.json")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    simplex = Simplex()
    package(0, simplex)
    theirs = seconds(lambda: package(1, simplex), 3)
    batch = torch.zeros(BATCH, 1, SIZE, SIZE)
    simplex(batch)
    record = {
        "size": [SIZE, SIZE],
        "octaves": simplex.octaves,
        "threads": arguments.threads,
        "numba": importlib.util.find_spec("numba") is not None,
        "milliseconds_per_field": {
            "opensimplex": 1000 * theirs,
            "radiffuse, one": 1000 * seconds(lambda: simplex(batch[:1]), 10),
            "radiffuse, batch of 32": 1000 * seconds(lambda: simplex(batch), 10) / BATCH,
        },
    }
    each = record["milliseconds_per_field"]
    record["ratio"] = theirs * 1000 / each["radiffuse, batch of 32"]
    write_json(arguments.json, record)
    for name, value in each.items():
        print(f"{name}: {value:.2f} ms a field")
    print(f"ratio {record['ratio']:.0f}; {arguments.json}")


if __name__ == "__main__":
    main()
