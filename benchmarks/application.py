"""Train, evaluate, report and record one method of an application on one data set.

    python benchmarks/application.py segmentation-ensembles --data ../shared/data/acdc128.npz \\
        --map image=ed mask=ed_mask --minutes 20

All of it by the command line; baselines that have to be trained are trained by `evaluate`, as long as
the method. A run that exists is gone on with, so the same command can always be run again. The numbers
go to benchmarks/results/TASK-NAME.json. Words after -- are further flags of `train`.
"""

import argparse
import sys
from pathlib import Path

from recorded import RESULTS, brief, radiffuse, train, trained_by, training

from radiffuse.data.files import read_json, write_json

STAGES = ("autoencoder", "images", "segmenter")
"""Folders of a run that hold trainings before and after its own."""


def evaluated(arguments, run, other=None):
    """metrics.json of the held-out cases, or of those of another data set."""
    words = ["--count", arguments.count] if arguments.count else []
    words += ["--samples", arguments.samples] if arguments.samples else []
    words += ["--set", *arguments.set] if arguments.set else []
    words += ["--beside", *arguments.beside] if arguments.beside else []
    words += ["--prior", arguments.prior] if arguments.prior else []
    if other is None:
        radiffuse("evaluate", run, *words)
        return read_json(run / "metrics.json")
    out = run / f"on-{Path(other).stem}" / "metrics.json"
    radiffuse("evaluate", run, *words, "--data", other, "--map", *arguments.map, "--out", out)
    return read_json(out)


def recorded(record, run, name, note, prior=None):
    """Write a record beside what was trained for it."""
    record = {key: value for key, value in record.items() if key not in ("cases", "shown")}
    stages = [run / name for name in STAGES if (run / name / "log.jsonl").is_file()]
    beside = [*stages, *sorted(run.glob("baseline-*"))]
    trained = {"method": training(run), **{folder.name: training(folder) for folder in beside}}
    trained |= {"prior": training(prior)} if prior else {}
    out = RESULTS / f"{record['task']}-{name}.json"
    about = {"note": note, "trained": trained, "trained_by": trained_by(run)}
    write_json(out, {**about, **brief(record)})
    print(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method")
    parser.add_argument("--data", required=True)
    parser.add_argument("--map", nargs="*", default=[])
    parser.add_argument("--name", help="of the record; left out: SET-METHOD")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--processes", type=int, default=1, help="share the CPU among so many")
    parser.add_argument("--count", type=int, help="held-out cases at most")
    parser.add_argument("--samples", type=int, help="draws of each case")
    parser.add_argument("--prior", type=Path, help="a generative run that stands beside")
    parser.add_argument("--set", nargs="*", default=[], help="fields changed after training")
    parser.add_argument("--also", nargs="*", default=[], help="other data to evaluate on as well")
    parser.add_argument("--beside", nargs="*", default=[], help="other runs to measure too")
    parser.add_argument("--note", default="", help="said beside the numbers")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments, rest = parser.parse_args(words[:end]), words[end + 1 :]
    name = arguments.name or f"{Path(arguments.data).stem.partition(':')[0]}-{arguments.method}"
    run = arguments.runs / name
    data = [arguments.data, *(["--map", *arguments.map] if arguments.map else [])]
    more = {"preset": arguments.preset, "more": rest, "processes": arguments.processes}
    train(arguments.method, data, run, arguments.minutes, **more)
    recorded(evaluated(arguments, run), run, name, arguments.note, arguments.prior)
    radiffuse("report", run)
    for other in arguments.also:
        about = f"{name}-on-{Path(other).stem}"
        recorded(evaluated(arguments, run, other), run, about, arguments.note)


if __name__ == "__main__":
    main()
