"""Radiffuse against MONAI and diffusers on the same machine, in the same run.

The peers live in an environment of their own (`.venv-peers`, made on the first run). Two parts:

* `--part step`: seconds and peak memory of a training step, and seconds of an image sampled with 10
  network calls, at equal precision, batch and parameter count. Contestants take turns, several
  rounds; what is reported is the median of the ratios within a round.
* `--part fid`: FID of the averaged weights after 5, 10, 15 and 30 minutes of training on the same
  images (feature network trained on the data, as `radiffuse evaluate`), about 2 hours.

    python benchmarks/peers.py --part step
    python benchmarks/peers.py --part fid --data ../shared/data/mednist64.npz
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from radiffuse.files import write_json

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = ROOT / ".venv-peers"
NAMES = ("radiffuse", "monai", "diffusers")
PACKAGES = ("torch==2.13.0", "monai==1.6.1", "diffusers==0.42.1", "einops")


def environment():
    """Python of the peers; made on first use."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", os.fspath(PEERS)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return os.fspath(python)


def worker(task, name, *words):
    """Run one contestant; its JSON line."""
    python = sys.executable if name == "radiffuse" else environment()
    command = [python, os.fspath(HERE / "peers_worker.py"), task, name, *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def steps(rounds):
    """Medians, and medians of ratios to radiffuse within a round."""
    records = {}
    for precision in ("bf16", "fp32"):
        turns = [
            {name: worker("step", name, "--precision", precision) for name in NAMES}
            for _ in range(rounds)
        ]
        for name in NAMES:
            keys = ("seconds_per_step", "seconds_per_image_10_calls", "peak_memory_mb")
            mine = {key: median(turn[name][key] for turn in turns) for key in keys}
            ratios = {
                key: median(turn[name][key] / turn["radiffuse"][key] for turn in turns)
                for key in keys
            }
            records[f"{name}, {precision}"] = {
                "parameters": turns[0][name]["parameters"],
                **mine,
                "ratio_to_radiffuse": ratios,
            }
    return {"rounds": rounds, "batch": 32, "size": [64, 64], "contestants": records}


def fid(data, minutes, scratch):
    """FID of each contestant's samples at each mark."""
    import numpy as np
    import torch

    from radiffuse.data.dataset import open_cases
    from radiffuse.evaluate.judge import judge
    from radiffuse.metrics.distribution import frechet_metrics
    from radiffuse.metrics.features import extract

    cases = open_cases(data)
    real = judge(cases.split("train"), cases.held_out(), cache=scratch / "features")
    records = {}
    for name in NAMES:
        out = scratch / name
        record = worker("fid", name, "--data", data, "--out", out, "--marks", *minutes)
        for mark in record["marks"]:
            with np.load(out / f"{mark['minutes']:g}.npz", allow_pickle=False) as drawn:
                x = torch.from_numpy(drawn["image"])[:, None].float() / 127.5 - 1
            mark.update(frechet_metrics(real.held_out_features, extract(real.network, x)))
        records[name] = record
    return {"data": Path(data).name, "count": 500, "contestants": records}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("step", "fid"), default="step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="../shared/data/mednist64.npz")
    parser.add_argument("--minutes", nargs="+", default=["5", "10", "15", "30"])
    parser.add_argument("--scratch", type=Path, default=ROOT / "scratch" / "peers")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.part == "step":
        record = steps(arguments.rounds)
    else:
        record = fid(arguments.data, arguments.minutes, arguments.scratch)
    record["command"] = " ".join(["python benchmarks/peers.py", *sys.argv[1:]])
    out = arguments.json or HERE / "results" / f"peers_{arguments.part}.json"
    write_json(out, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
