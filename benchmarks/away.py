"""What keeping samples away from training images costs: draws, seconds, quality and coverage.

    python benchmarks/away.py --data ../shared/data/mednist64.npz --scratch FOLDER

FOLDER is what benchmarks/audit.py wrote: its planted models draw by `radiffuse sample` as they are, and with --away at
several shares. All are measured against the same held-out images, in the features of one network that was trained on
the thousands of images of "many". What is drawn is kept. Writes benchmarks/results/away-NAME.json.
"""

import argparse
import contextlib
import io
import shlex
import sys
import time
from pathlib import Path

import torch
from recorded import RESULTS, brief

from radiffuse import cli
from radiffuse.applications.evaluation.judge import judge, read_images
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import read_json, write_json
from radiffuse.data.formats.by_ending import read_image
from radiffuse.metrics.distribution import distances_between_sets
from radiffuse.metrics.estimate import proportion
from radiffuse.metrics.features import extract
from radiffuse.metrics.nearness import groups_of, near, share_of_copies
from radiffuse.runs.run import environment

SHARES = (None, 0.2, 0.3, 0.4, 0.6)
KEPT = ("fid", "precision", "recall", "coverage")


def drawn(run, out, count, share):
    """Samples of a run, kept away by a share: images, how often each was drawn again, seconds; or why none."""
    words = ["sample", str(run), "--count", str(count), "--out", str(out), "--batch", "50"]
    if share is not None:
        words += ["--away", f"{share:g}"]
    clock = out.with_name(f"{out.name}.seconds")
    if not clock.is_file():
        begun, said = time.perf_counter(), io.StringIO()
        with contextlib.redirect_stderr(said):
            status = cli.main(words)
        if status:
            line = said.getvalue().strip().splitlines()[-1]
            return None, line.removeprefix("radiffuse: error: "), None
        clock.write_text(f"{time.perf_counter() - begun:.2f}")
    entries = read_json(out / "predictions.json")["predictions"]
    images = [read_image(out / entry["files"]["image"]).data.float() for entry in entries]
    again = torch.tensor([entry.get("redrawn", 0) for entry in entries])
    return torch.stack(images) / 127.5 - 1, again, float(clock.read_text())


def measured(real, run, out, count, share):
    """What a share costs, and what it keeps from being shown."""
    images, again, seconds = drawn(run, out, count, share)
    if images is None:
        return {"refused": again}
    found = distances_between_sets(real.held_out_features, extract(real.network, images))
    train = open_cases(read_json(run / "manifest.json")["data"]["path"]).split("train")
    mine, _ = read_images(train)
    groups = groups_of(tuple(train.patients))
    near_to = [near(each, mine, groups).relative for each in (images, real.held_out)]
    copies = share_of_copies(*near_to)
    return {
        "samples": count,
        "drawn_again": proportion(again > 0),
        "draws": count + int(again.sum()),
        "seconds": seconds,
        "copies": copies.share,
        **{key: brief(found[key]) for key in KEPT},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=("twenty", "many", "duplicates"))
    given = parser.parse_args()
    many = open_cases(str(given.scratch / "many.npz"))
    real = judge(many.split("train"), many.held_out(), cache=given.scratch / "features")
    record = {
        "models": {},
        "held_out": len(real.held_out),
        "beside": {
            key: brief(value)
            for key, value in distances_between_sets(
                real.held_out_features, real.train_features[: given.count]
            ).items()
            if key in KEPT
        },
        "features": real.named,
        "environment": environment(),
        "command": shlex.join(["python", "benchmarks/away.py", *sys.argv[1:]]),
    }
    for name in given.only:
        run = given.scratch / f"run-{name}"
        for share in SHARES:
            word = "none" if share is None else f"{share:g}"
            out = given.scratch / f"away-{name}-{word}-{given.count}"
            found = measured(real, run, out, given.count, share)
            record["models"].setdefault(name, {})[word] = found
            write_json(RESULTS / f"away-{given.data.stem}.json", brief(record))
            print(name, word, {k: v for k, v in found.items() if k in ("draws", "refused")})


if __name__ == "__main__":
    main()
