"""Fourier and Radon operators against deepinv, SigPy, scikit-image and ASTRA: accuracy and speed.

One process in the environment of the peers (`.venv-peers`, see `peers.py`; what is missing there is
installed) runs every contestant in turns, on one thread; ratios are medians within a round.

    python benchmarks/operators.py --rounds 7
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from peers import HERE, ROOT, environment

from radiffuse.data.files import write_json

MODULES = {
    "deepinv": "deepinv==0.5.0",
    "sigpy": "sigpy==0.1.27",
    "skimage": "scikit-image==0.26.0",
    "astra": "astra-toolbox==2.5.0",
}


def install(python):
    """Install what cannot be imported there; Radiffuse itself comes by its path."""
    for module, package in MODULES.items():
        known = subprocess.run(
            [
                python,
                "-c",
                f"import importlib.util as u; raise SystemExit(not u.find_spec({module!r}))",
            ],
            env=with_source(),
        )
        if known.returncode:
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)


def with_source():
    """The environment's variables with this source first and one thread a process."""
    return {**os.environ, "PYTHONPATH": os.fspath(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "operators.json")
    arguments = parser.parse_args()
    python = environment()
    install(python)
    words = [arguments.rounds, arguments.size, arguments.views, arguments.batch]
    command = [python, os.fspath(HERE / "operators_worker.py"), *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=with_source())
    record = json.loads(done.stdout.strip().splitlines()[-1])
    record["command"] = " ".join(["python benchmarks/operators.py", *sys.argv[1:]])
    write_json(arguments.json, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
