"""Train and measure an anomaly detector by the command line, and its curve over lesions.

    python benchmarks/anomaly.py --method anoddpm --data ../shared/data/cxr64.npz --minutes 30
    python benchmarks/anomaly.py --method anoddpm --minutes 30 --curve     (embedded brains)

On embedded brains (half with a lesion of known place, size and contrast) `--curve` measures the same
run on the same held-out people with other lesions: radii and contrasts of a grid. A run that exists is
gone on with. Numbers go to benchmarks/results/anomaly-SET-METHOD.json.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from radiffuse.files import read_json, write_json

HERE = Path(__file__).resolve().parent
BRAINS = "brains:count={count},size={size},lesions=0.5,label=lesion,radius_mm={radius},contrast={contrast}"
MAP = ("--map", "image=t2", "mask=lesion")
RADII, CONTRASTS = (5.0, 8.0, 11.0), (0.25, 0.5, 1.0)


def radiffuse(*words):
    command = [sys.executable, "-m", "radiffuse", *map(str, words)]
    subprocess.run(command, check=True, env=os.environ)


def brief(record):
    """What a table needs: means and intervals of the method and every baseline."""

    def plain(metrics):
        return {
            name: {key: metric[key] for key in ("mean", "ci95", "n", "refused") if key in metric}
            for name, metric in metrics.items()
        }

    return {
        "method": plain(record["method"]),
        "baselines": {name: plain(each) for name, each in record["baselines"].items()},
        "strongest": record["settings"]["baseline"],
        "settings": record["settings"],
        "data": record["data"],
        "command": record["command"],
    }


def curve(run, arguments):
    """Detection against size and contrast of lesions; the healthy cases stay the same."""
    points = []
    for radius in RADII[: arguments.points]:
        for contrast in CONTRASTS[-arguments.points :]:
            data = BRAINS.format(
                count=arguments.brains, size=arguments.size, radius=radius, contrast=contrast
            )
            out = run / f"curve-{radius:g}-{contrast:g}" / "metrics.json"
            if not out.is_file():
                more = ("--count", arguments.count) if arguments.count else ()
                radiffuse("evaluate", run, "--data", data, *MAP, "--out", out, *more)
            points.append({"radius_mm": radius, "contrast": contrast, **brief(read_json(out))})
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="anoddpm")
    parser.add_argument("--data", help="embedded brains where left out")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--brains", type=int, default=2400, help="slices of embedded brains")
    parser.add_argument("--size", type=int, default=64, help="their pixels a side")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--count", type=int, help="held-out cases at most")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--points", type=int, default=3, help="radii and contrasts of the curve")
    parser.add_argument("--json", type=Path)
    parser.add_argument("rest", nargs="*", help="further flags of train, after --")
    arguments = parser.parse_args()
    name = f"{Path(arguments.data).stem if arguments.data else 'brains'}-{arguments.method}"
    run = arguments.runs / f"anomaly-{name}"
    data = arguments.data or BRAINS.format(
        count=arguments.brains, size=arguments.size, radius=11.0, contrast=1.0
    )
    words = ["--data", data, *(() if arguments.data else MAP), "--preset", arguments.preset]
    budget = ["--train.minutes", arguments.minutes, "--out", run, "--resume"]
    radiffuse("train", arguments.method, *words, *budget, *arguments.rest)
    radiffuse("evaluate", run, *(("--count", arguments.count) if arguments.count else ()))
    radiffuse("report", run)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    record = {
        "trained": {
            "steps": last["step"],
            "images": last["images"],
            "minutes": last["seconds"] / 60,
        },
        "trained_by": read_json(run / "manifest.json")["command"],
        **brief(read_json(run / "metrics.json")),
    }
    if arguments.curve:
        record["curve"] = curve(run, arguments)
    out = arguments.json or HERE / "results" / f"anomaly-{name}.json"
    write_json(out, record)
    print(out)


if __name__ == "__main__":
    main()
