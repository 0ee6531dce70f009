"""Start-up: what `import radiffuse` costs beyond `import torch`, and `radiffuse --help`.

python benchmarks/startup.py
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from radiffuse.data.files import write_json

HERE = Path(__file__).resolve().parent
COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "import torch, radiffuse": [sys.executable, "-c", "import torch, radiffuse"],
    "from radiffuse import sample, schedule": [
        sys.executable,
        "-c",
        "import torch, radiffuse.diffusion.sample, radiffuse.diffusion.schedule, radiffuse.nn",
    ],
    "radiffuse --help": [sys.executable, "-m", "radiffuse", "--help"],
    "radiffuse methods": [sys.executable, "-m", "radiffuse", "methods"],
}


def seconds(command):
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "startup.json")
    arguments = parser.parse_args()
    for command in COMMANDS.values():
        seconds(command)
    rounds = [
        {name: seconds(command) for name, command in COMMANDS.items()}
        for _ in range(arguments.rounds)
    ]
    record = {name: median(turn[name] for turn in rounds) for name in COMMANDS}
    extra = median(t["import torch, radiffuse"] - t["import torch"] for t in rounds)
    parts = median(t["from radiffuse import sample, schedule"] - t["import torch"] for t in rounds)
    record = {
        "rounds": arguments.rounds,
        "seconds": record,
        "radiffuse_beyond_torch_s": extra,
        "samplers_and_networks_beyond_torch_s": parts,
        "command": "python benchmarks/startup.py",
    }
    write_json(arguments.json, record)
    print(record)


if __name__ == "__main__":
    main()
