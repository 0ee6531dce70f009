"""Detection against size and contrast of lesions, of one trained run on embedded brains.

    python benchmarks/application.py anoddpm --map image=t2 mask=lesion --minutes 20 \\
        --data brains:count=2400,size=64,lesions=0.5,label=lesion,radius_mm=11,contrast=1
    python benchmarks/lesions.py runs/brains-anoddpm

Half of the held-out people get lesions of known place, size and contrast; the healthy half stays the
same. Numbers go to benchmarks/results/lesions-RUN.json, point by point; points that are there are not
measured again.
"""

import argparse
from pathlib import Path

from recorded import RESULTS, brief, radiffuse, trained_by

from radiffuse.data.files import read_json, write_json
from radiffuse.runs.run import open_run

RADII, CONTRASTS = (5.0, 8.0, 11.0), (0.25, 0.5, 1.0)


def data_with(source, radius, contrast):
    """The words of a run's brains with other lesions."""
    kept = [word for word in source.split(",") if not word.startswith(("radius_mm", "contrast"))]
    return ",".join([*kept, f"radius_mm={radius:g}", f"contrast={contrast:g}"])


def point(run, data, name, count):
    """The metrics of a run on other brains; measured once."""
    out = run / name / "metrics.json"
    if not out.is_file():
        words = ["--count", count] if count else []
        radiffuse("evaluate", run, "--data", data, *words, "--out", out)
    record = read_json(out)
    return brief({key: record[key] for key in ("method", "baselines", "settings", "command")})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, help="held-out cases at most")
    parser.add_argument("--radii", type=float, nargs="+", default=RADII)
    parser.add_argument("--contrasts", type=float, nargs="+", default=CONTRASTS)
    arguments = parser.parse_args()
    source = open_run(arguments.run).config.data.path
    points = []
    for radius in arguments.radii:
        for contrast in arguments.contrasts:
            data, name = data_with(source, radius, contrast), f"lesions-{radius:g}-{contrast:g}"
            found = point(arguments.run, data, name, arguments.count)
            points.append({"radius_mm": radius, "contrast": contrast, **found})
            about = {"trained_by": trained_by(arguments.run), "points": points}
            write_json(RESULTS / f"lesions-{arguments.run.name}.json", about)


if __name__ == "__main__":
    main()
