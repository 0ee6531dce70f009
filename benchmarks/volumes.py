"""Volumes larger than memory: what training and sampling take, from 32^3 on, beside MONAI's networks.

Three parts, each with a record of its own in `results`; processor time of one core, so that others on the machine
hardly change it, and peaks of the kernel's count.

* `--part sides`: a training step, a network call, the same by tiles, a step of an auto-encoder and a volume of a
  latent diffusion, each side in a process of its own, ours and MONAI's (environment of `peers.py`) in turns.
* `--part data`: training on 200 and on 50 volumes of 96^3 of which 64 MiB may be held.
* `--part estimates`: what `train` and `sample` say that they will take, beside what they take.

    taskset -c 1 python benchmarks/volumes.py --part sides
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from peers import environment
from recorded import RESULTS
from volumes_worker import write

from radiffuse.data.files import read_json, write_json

HERE = Path(__file__).resolve().parent
ONE = {**os.environ, "OMP_NUM_THREADS": "1"}
SIDES = {"radiffuse": (32, 48, 64, 96, 128, 192), "monai": (32, 48, 64, 96)}
ESTIMATED = (
    # size, cases of a step, cases sampled at once, flags of a network
    ((32, 32, 32), 8, 32, ("--width", 32)),
    ((64, 64), 32, 64, ("--width", 32)),
    ((128, 128), 16, 32, ("--width", 32)),
    ((256, 256), 4, 4, ("--width", 16, "--patch", 1)),
    ((64, 64, 64), 1, 2, ("--width", 16, "--patch", 1)),
    ((96, 96, 96), 1, 1, ("--width", 32)),
    ((96, 96, 96), 1, 1, ("--width", 32, "--recompute")),
    ((64, 64, 20), 2, 4, ("--width", 32, "--attention", 1)),
)


def told(file, *words, python=sys.executable, environment=ONE):
    """The JSON line of a script of this folder."""
    command = [python, os.fspath(HERE / file), *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def sides(record):
    """Every side in turn; sides that the record has are not done again."""
    record = record or {name: [] for name in SIDES}
    bare = {key: value for key, value in ONE.items() if key != "PYTHONPATH"}
    for side in sorted({side for each in SIDES.values() for side in each}):
        for name, wanted in SIDES.items():
            if side not in wanted or side in [each["side"] for each in record[name]]:
                continue
            where = {} if name == "radiffuse" else {"python": environment(), "environment": bare}
            record[name].append(told("volumes_side.py", name, side, **where))
            yield record


def data(record):
    """Peaks above those of a training on few."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = [write("npz-packed", folder / f"d{count}", count, 96) for count in (50, 200)]
        sets = [(paths[0], 64), (paths[0], 64), (paths[1], 64)]
        words = [word for path, held in sets for word in ("--set", path, held << 20)]
        own = {**ONE, "RADIFFUSE_CACHE": os.fspath(folder / "cache")}
        yield {
            "sets": told("volumes_worker.py", "data", folder / "runs", *words, environment=own)[1:]
        }


def estimates(record):
    """A run and its samples for each of `ESTIMATED`."""
    found = []
    for size, batch, many, flags in ESTIMATED:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            image = np.random.default_rng(0).integers(0, 256, (12, *size)).astype(np.uint8)
            np.savez(folder / "a.npz", image=image)
            words = ["train", "ddpm", "--preset", "tiny", "--data", folder / "a.npz", *flags]
            words += ["--out", folder / "run", "--train.steps", 2, "--train.batch", batch]
            drawn = ["sample", folder / "run", "--count", many, "--batch", many, "--steps", 2]
            for command in (words, [*drawn, "--out", folder / "s"]):
                line = told("volumes_worker.py", "command", *command)
                cases = batch if command is words else many
                about = {"command": command[0], "size": list(size), "cases": cases}
                found.append({**about, "flags": " ".join(map(str, flags)), **line})
    yield {"commands": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"sides": sides, "data": data, "estimates": estimates}
    parser.add_argument("--part", choices=parts, required=True)
    asked = parser.parse_args()
    file = RESULTS / f"volumes_{asked.part}.json"
    command = f"python benchmarks/volumes.py --part {asked.part}"
    for record in parts[asked.part](read_json(file) if file.exists() else {}):
        write_json(file, {"command": command, **record})


if __name__ == "__main__":
    main()
