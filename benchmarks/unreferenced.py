"""A scan that was undersampled at the scanner, by methods that never saw a full image; its reference opened last.

    python benchmarks/unreferenced.py --scans kspace_2x2.h5 kspace_R8.h5 --reference kspace_full.h5 \\
        --runs runs/lgg-self-score runs/lgg-bayes-mri

The first of the scans is reconstructed: by `self-score` trained here on these scans alone (a run that exists is
gone on with), by the runs named (priors of complex images), and by classical methods at fixed weights, since
nothing is known to choose them by. Only when all images are made is the reference read. Images are scaled to it by
least squares; PSNR, SSIM and NMSE with its 99.9 % quantile as 1, over the field and inside the head. The numbers go
to benchmarks/results/unreferenced-SCAN.json.
"""

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from recorded import RESULTS, train, trained_by, training
from scans import kspace_of, matched, reference

from radiffuse.data.files import write_json
from radiffuse.diffusion.noise import derive
from radiffuse.inverse.compressed import l1_wavelet, total_variation
from radiffuse.metrics.fidelity import nmse, psnr, ssim
from radiffuse.operators.blur import blurred
from radiffuse.report.pictures import write_grid
from radiffuse.runs.run import command_line, environment, open_run

WEIGHTS = (4e-3, 1.6e-2)


def stacked(scans, out):
    """One file of all scans, a slice each."""
    slices = [kspace_of(scan).numpy() for scan in scans]
    out.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(out, "w") as file:
        file["kspace"] = np.concatenate(slices)
    return out


def drawn(run, kspace, samples):
    """The mean of a run's draws, and the measurement as it takes it."""
    acquired = run.recipe.acquire({"kspace": kspace})
    told = [
        run.recipe.drawn(run.objective, acquired, [derive(0, k)])[1].abs() for k in range(samples)
    ]
    return torch.stack(told).mean(0), acquired


def images(runs, kspace, samples):
    """By name, one image of the scan each."""
    found, acquired = {}, None
    for folder in runs:
        found[folder.name], acquired = drawn(open_run(folder), kspace, samples)
    m, first = acquired.measurement, acquired.first
    classical = {"l1_wavelet": l1_wavelet, "total_variation": total_variation}
    for name, method in classical.items():
        for weight in WEIGHTS:
            found[f"{name} {weight:g}"] = method(m, first, weight, tolerance=1e-3)
    return {"zero-filled": first, **found}


def measured(image, truth):
    """Metrics of one image, over the field and inside the head."""
    x, inside = matched(image, truth), blurred(truth, 12.0) > 0.06
    values = {
        "psnr": psnr(x, truth, 1.0),
        "psnr_inside": psnr(*(part[inside][None] for part in (x, truth)), 1.0),
        "ssim": ssim(x, truth, 1.0),
        "nmse": nmse(x, truth),
    }
    return {name: round(float(value[0]), 4) for name, value in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", nargs="+", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="of complex priors")
    parser.add_argument("--minutes", type=float, default=20, help="of the training on the scans")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/unreferenced"))
    arguments = parser.parse_args()
    name = arguments.scans[0].stem
    together = stacked(arguments.scans, arguments.out / "scans.h5")
    own = arguments.out / "of-scans-alone"
    more = ["--train.batch", 8]
    train("self-score", [together], own, arguments.minutes, preset=arguments.preset, more=more)
    runs = [own, *arguments.runs]
    with torch.no_grad():
        made = images(runs, kspace_of(arguments.scans[0]), arguments.samples)
    truth = reference(kspace_of(arguments.reference))  # opened once, when all images are made
    found = {who: measured(image, truth) for who, image in made.items()}
    tiles = [truth, *(matched(image, truth) for image in made.values())]
    shown = [(2 * tile[0].clamp(0, 1) - 1).numpy() for tile in tiles]
    write_grid(arguments.out / f"{name}.png", shown, len(shown))
    record = {
        "scan": name,
        "methods": found,
        "panels": ["reference", *made],
        "runs": {run.name: {"trained_by": trained_by(run), **training(run)} for run in runs},
        "samples": arguments.samples,
        "command": command_line(sys.argv).removeprefix("radiffuse "),
        "environment": environment(),
    }
    write_json(RESULTS / f"unreferenced-{name}.json", record)
    for who, table in found.items():
        print(who, table)


if __name__ == "__main__":
    main()
