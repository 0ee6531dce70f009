"""Radiffuse against MONAI and diffusers on the same machine, in the same run.

The peers live in an environment of their own (`.venv-peers`, made on the first run). Three parts:

* `--part step`: seconds and peak memory of a training step, and seconds of an image sampled with 10
  network calls, at equal precision, batch and parameter count. Contestants take turns, several
  rounds; what is reported is the median of the ratios within a round.
* `--part fid`: FID of the averaged weights after 5, 10, 15 and 30 minutes of training on the same
  images (feature network trained on the data, as `radiffuse evaluate`), about 2 hours on two cores.
  Contestants in the file are not run again.
* `--part default`: KID (which has no bias by n) and seconds of the peers' default, 1000 steps of
  DDPM, on the last weights of `--part fid`: hours for a hundred images.

    python benchmarks/peers.py --part step
    python benchmarks/peers.py --part fid --data ../shared/data/mednist64.npz
    python benchmarks/peers.py --part default --count 100
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import torch
from recorded import brief

from radiffuse.applications.evaluation.judge import judge
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import read_json, write_json
from radiffuse.metrics.distribution import distances_between_sets
from radiffuse.metrics.features import extract

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
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
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


def judged(data, scratch):
    """The real images, and the features of generated ones."""
    cases = open_cases(data)
    return judge(cases.split("train"), cases.held_out(), cache=scratch / "features")


def features(real, file):
    """Features of the images of a file in [0, 255]."""
    with np.load(file, allow_pickle=False) as drawn:
        x = torch.from_numpy(drawn["image"])[:, None].float() / 127.5 - 1
    return extract(real.network, x)


def fid(record, arguments):
    """FID of each contestant's samples at each mark; contestants of `record` are left as they are."""
    real = judged(arguments.data, arguments.scratch)
    count, marks = arguments.count or 500, arguments.minutes
    about = {
        "data": Path(arguments.data).name,
        "count": count,
        "cores": len(os.sched_getaffinity(0)),
    }
    for name in arguments.names:
        if name in record.get("contestants", {}):
            continue
        out = arguments.scratch / name
        words = ["--data", arguments.data, "--out", out, "--count", count, "--marks", *marks]
        found = worker("fid", name, *words)
        for mark in found["marks"]:
            drawn = features(real, out / f"{mark['minutes']:g}.npz")
            mark.update(brief(distances_between_sets(real.held_out_features, drawn)))
        yield {**about, "contestants": {name: found}}


def redrawn(record, arguments):
    """FID of samples drawn anew from the weights of `fid`, after a change of samplers alone."""
    real = judged(arguments.data, arguments.scratch)
    for name in arguments.names:
        found, out = record["contestants"][name], arguments.scratch / name
        for mark in found["marks"]:
            weights = out / f"{mark['minutes']:g}.safetensors"
            words = ["--weights", weights, "--out", out, "--count", record["count"]]
            mark["seconds_per_image"] = worker("draw", name, *words)["seconds_per_image"]
            drawn = features(real, weights.with_suffix(".npz"))
            mark.update(brief(distances_between_sets(real.held_out_features, drawn)))
        yield {**record, "contestants": {name: found}}


def by_default(record, arguments):
    """KID of the peers' own sampler of 1000 steps on their last weights."""
    real = judged(arguments.data, arguments.scratch)
    for name in arguments.names:
        done = record.get("contestants", {}).get(name, {})
        if name == "radiffuse" or done.get("count") == (arguments.count or 100):
            continue
        out = arguments.scratch / name
        weights = max(out.glob("*.safetensors"), key=lambda file: float(file.stem))
        words = ["--weights", weights, "--out", out, "--count", arguments.count or 100]
        found = {**worker("default", name, *words), "minutes": float(weights.stem)}
        found.update(
            brief(
                distances_between_sets(real.held_out_features, features(real, out / "default.npz"))
            )
        )
        yield {"contestants": {name: found}}


def whole(words):
    """The words of the command that makes a record from nothing, for all contestants."""
    parts = [[]]
    for word in words:
        parts += [[word]] if word.startswith("--") else []
        parts[-1] += [] if word.startswith("--") else [word]
    return [word for part in parts if part[:1] not in (["--names"], ["--redraw"]) for word in part]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("step", "fid", "default"), default="step")
    parser.add_argument("--redraw", action="store_true", help="of fid: train nothing, draw anew")
    parser.add_argument(
        "--names", nargs="+", choices=NAMES, default=NAMES, help="of fid and default"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="../shared/data/mednist64.npz")
    parser.add_argument("--minutes", nargs="+", default=["5", "10", "15", "30"])
    parser.add_argument("--count", type=int, help="images of a contestant")
    parser.add_argument("--scratch", type=Path, default=ROOT / "scratch" / "peers")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out = arguments.json or HERE / "results" / f"peers_{arguments.part}.json"
    known = read_json(out) if out.is_file() else {}
    parts = {
        "fid": redrawn if arguments.redraw else fid,
        "default": by_default,
        "step": lambda *_: [steps(arguments.rounds)],
    }
    for record in parts[arguments.part](known, arguments):
        record["command"] = " ".join(["python benchmarks/peers.py", *whole(sys.argv[1:])])
        if arguments.part != "step":  # another command may have measured others meanwhile
            known = read_json(out) if out.is_file() else {}
            record["contestants"] = {**known.get("contestants", {}), **record["contestants"]}
        write_json(out, record)
        print(json.dumps(record, indent=2), flush=True)


if __name__ == "__main__":
    main()
