"""Train, sample, measure and report one generative method on one data set, by the command line.

    python benchmarks/generation.py --data ../shared/data/mednist64.npz --method ddpm --minutes 30

A run that exists is gone on with (`--resume`), so the same command can always be run again. The
numbers go to benchmarks/results/generation-SET-METHOD.json.
"""

import argparse
from pathlib import Path

from recorded import RESULTS, brief, radiffuse, train, trained_by, training

from radiffuse.data.files import read_json, write_json


def work(arguments, run):
    """Train, sample, evaluate, report."""
    many = {"processes": arguments.processes}
    size = ["--size", *arguments.size] if arguments.size else []
    train(arguments.method, [arguments.data], run, arguments.minutes, more=size, **many)
    radiffuse("sample", run, "--count", 64, "--out", run / "samples", **many)
    radiffuse("evaluate", run, "--count", arguments.count, "--batch", 50, **many)
    radiffuse("report", run)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="ddpm")
    parser.add_argument("--size", nargs="+", type=int, help="resize the images")
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
    out = arguments.json or RESULTS / f"generation-{name}.json"
    about = {
        "note": arguments.note,
        "trained": {"method": training(run)},
        "trained_by": trained_by(run),
    }
    write_json(out, {**about, **brief(read_json(run / "metrics.json"))})
    print(out)


if __name__ == "__main__":
    main()
