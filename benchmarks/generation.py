"""Train, sample, measure and report one generative method on one data set, by the command line.

    python benchmarks/generation.py --data ../shared/data/mednist64.npz --method ddpm --minutes 30

A run that exists is gone on with (`--resume`), so the same command can always be run again. The
numbers go to benchmarks/results/generation-SET-METHOD.json.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from radiffuse.files import read_json, write_json

HERE = Path(__file__).resolve().parent


def radiffuse(*words, processes=1):
    words = [str(word) for word in words]
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run([*start, "radiffuse", *words], check=True, env=environment)


def work(arguments, run):
    """Train, sample, evaluate, report."""
    many = {"processes": arguments.processes}
    radiffuse(
        *("train", arguments.method, "--data", arguments.data, "--preset", "small"),
        *("--train.minutes", arguments.minutes, "--out", run, "--resume"),
        **many,
    )
    radiffuse("sample", run, "--count", 64, "--out", run / "samples", **many)
    radiffuse("evaluate", run, "--count", arguments.count, "--batch", 50, **many)
    radiffuse("report", run)


def record_of(run):
    """metrics.json without the per-case values, and what the training was."""
    record = read_json(run / "metrics.json")
    for who in ("method", "baseline", "reference"):
        for metric in record.get(who, {}).values():
            metric.pop("per_patient", None)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    trained = {"steps": last["step"], "images": last["images"], "minutes": last["seconds"] / 60}
    return {"trained": trained, "trained_by": read_json(run / "manifest.json")["command"], **record}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="ddpm")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--run", type=Path, help="record this run, evaluated already; do not train")
    parser.add_argument("--note", default="", help="said beside the numbers")
    parser.add_argument("--processes", type=int, default=2, help="share the CPU among so many")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    name = f"{Path(arguments.data).stem}-{arguments.method}"
    run = arguments.run or arguments.runs / name
    if arguments.run is None:
        work(arguments, run)
    out = arguments.json or HERE / "results" / f"generation-{name}.json"
    write_json(out, {"note": arguments.note, **record_of(run)})
    print(out)


if __name__ == "__main__":
    main()
