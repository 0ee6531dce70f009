"""Seconds and quality of one posterior draw, by its number of steps, on one core.

    python benchmarks/draws.py runs/lgg128-score-mri --images ../shared/data/lgg128.npz:flair --count 8

FEW are five network calls without a gradient, by `stein` (draws) and `stein-mean` (nearer to the mean than draws).
Scans are simulated as the run's `acquire` does, with its coils. Seconds are CPU seconds of one process with one
thread, of a draw asked for alone and of one of four asked for together; beside them the same of L1 of wavelets
with one weight. PSNR is that of single draws, of what their chain tells of the mean, and of the mean of four of these.
The numbers go to benchmarks/results/draws-RUN.json.
"""

import argparse
import time
from pathlib import Path

import torch
from prior_fit import fitted, held_out
from recorded import RESULTS, brief, made_by

from radiffuse.data.files import write_json
from radiffuse.diffusion.noise import derive
from radiffuse.inverse.compressed import l1_wavelet
from radiffuse.metrics.estimate import average_per_patient
from radiffuse.metrics.fidelity import psnr
from radiffuse.runs.run import open_run

SCANS = (("gaussian-columns", 4.0), ("gaussian-columns", 8.0), ("poisson-disc", 8.0))
FEW = {"steps": 4, "highest": 1, "lowest": 0.06}
TOGETHER = 4
WEIGHT = 4e-3


def timed(function):
    """What it returns, and CPU seconds."""
    begun = time.process_time()
    return function(), time.process_time() - begun


def drawn(run, images, patients):
    """PSNR of draws and of their means, by patient; seconds of a draw alone and among others."""
    truth, quality = (images + 1) / 2, {"draw": [], "mean": [], "mean of four": []}
    for row in range(len(images)):
        acquired = run.recipe.acquire({"image": images[row : row + 1].repeat(TOGETHER, 1, 1, 1)})
        seeds = [derive(k, row) for k in range(TOGETHER)]
        (x, mean), together = timed(
            lambda a=acquired, s=seeds: run.recipe.drawn(run.objective, a, s)
        )
        found = {"draw": x[:1], "mean": mean[:1], "mean of four": mean.mean(0, keepdim=True)}
        for name, image in found.items():
            quality[name] += psnr(fitted(image, truth[row : row + 1]), truth[row : row + 1], 1.0)
    one = run.recipe.acquire({"image": images[-1:]})
    _, alone = timed(lambda: run.recipe.drawn(run.objective, one, seeds[:1]))
    told = {
        name: brief(average_per_patient([float(v) for v in values], patients))
        for name, values in quality.items()
    }
    _, classical = timed(lambda: l1_wavelet(one.measurement, one.first, WEIGHT))
    seconds = {"alone": alone, "of four": together / TOGETHER, "l1_wavelet": classical}
    return {"psnr": told, "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", required=True, help="PATH:COLUMN")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 7, 10, 20])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    opened, found = open_run(arguments.run), {}
    images, patients, _ = held_out(arguments.images, arguments.count, opened.recipe.size)
    for mask, acceleration in SCANS:
        few = {solver: {"solver": solver, **FEW} for solver in ("stein", "stein-mean")}
        many = {
            f"{steps} steps": {"solver": "probed", "steps": steps, "highest": 5}
            for steps in arguments.steps
        }
        for name, chain in (few | many).items():
            more = {"mask": mask, "acceleration": acceleration, **chain}
            with torch.no_grad():
                run = opened.with_settings({key: str(value) for key, value in more.items()})
                entry = drawn(run, images, patients)
            found.setdefault(f"{mask} {acceleration:g}", {})[name] = entry
            print(mask, acceleration, name, entry, flush=True)
    record = {
        **made_by(opened),
        "coils": opened.recipe.coils,
        "size": list(opened.recipe.size),
        "scans": found,
    }
    write_json(RESULTS / f"draws-{arguments.run.name}.json", record)


if __name__ == "__main__":
    main()
