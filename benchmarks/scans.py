"""Reconstruct real k-space with a prior of other anatomy: pictures, residuals, uncertainty.

    python benchmarks/scans.py runs/acdc-sde --full head.h5 --undersampled brain.h5

A fully sampled scan is undersampled here and compared with its own full reconstruction, scaled to a
span of 1 by its 99.9 % quantile, over the whole field and inside the head alone, as the reference's air
is the sum of squares of noise; a scan that was undersampled at the scanner has no truth. Every row
of the picture: the full reconstruction (where there is one), zero-filled, L1-wavelet, mean of the
draws, 4 x their deviation.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
from recorded import RESULTS

from radiffuse.acquisition import MASKS
from radiffuse.acquisition.kspace import check_kspace, noise_level
from radiffuse.applications.reconstruction.score_mri import ScoreMRI
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import write_json
from radiffuse.diffusion.noise import derive
from radiffuse.inverse.compressed import l1_wavelet, total_variation
from radiffuse.inverse.consistency import residual_std
from radiffuse.metrics.fidelity import nmse, psnr, ssim
from radiffuse.operators import Mask
from radiffuse.operators.blur import blurred
from radiffuse.operators.fourier import Fourier
from radiffuse.report.pictures import write_grid
from radiffuse.runs.run import command_line, environment, open_run

MASKED = (("gaussian-columns", 4.0, 20), ("poisson-disc", 8.0, 20))
WEIGHTS = (1e-4, 1e-3, 4e-3, 1.6e-2, 6.4e-2)


def kspace_of(path):
    return open_cases(path).batch([0])["kspace"]


def reference(kspace):
    """Root sum of squares of the full scan, its 99.9 % quantile 1."""
    image = Fourier(2).adjoint(kspace).abs().square().sum(1, keepdim=True).sqrt()
    return image / torch.quantile(image, 0.999)


def matched(image, truth):
    """The magnitude with the scale that fits the truth best: maps and sums of squares differ by it."""
    x = image.abs()
    return x * (x * truth).sum() / (x * x).sum()


def reconstructed(run, kspace, arguments):
    """Draws of one scan, the mean that their chains tell, and what they start from."""
    fields = {name: getattr(run.recipe, name) for name in ("channels", "size", "data_std")}
    settings = {
        "solver": "probed",
        "steps": arguments.steps,
        "highest": 5.0,
        "values": arguments.values,
    }
    recipe = dataclasses.replace(ScoreMRI.small(), **fields, **settings)
    acquired = recipe.acquire({"kspace": kspace})
    with torch.no_grad():
        pairs = [
            recipe.drawn(run.objective, acquired, [derive(0, k)]) for k in range(arguments.samples)
        ]
    draws, told = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    return draws, told.mean(0), acquired


def row(run, kspace, truth, arguments):
    """Metrics and picture of one scan."""
    draws, mean, acquired = reconstructed(run, kspace, arguments)
    m = acquired.measurement
    spread = draws.std(0)
    scanner_noise = float(noise_level(kspace, check_kspace(kspace)))
    residual = float(residual_std(m.A, draws[0], m.y)[0]) * float(acquired.scale)
    found = {
        "acceleration": float(acquired.acceleration[0]),
        "residual_over_noise": residual / scanner_noise,
        "mean_deviation": float(spread.mean()),
    }
    tiles = {"zero-filled": acquired.first, "mean": mean}
    if truth is not None:
        inside = blurred(truth, 12.0) > 0.06
        weighted = {}
        for name, method in (("l1_wavelet", l1_wavelet), ("total_variation", total_variation)):
            tried = {w: method(m, acquired.first, w, tolerance=1e-3) for w in WEIGHTS}
            # the weight that the truth likes best: more than a user could have
            best = max(tried, key=lambda w: float(psnr(matched(tried[w], truth), truth, 1.0)[0]))
            weighted[name] = tried[best]
        tiles = {"zero-filled": acquired.first, **weighted, "mean": mean, "one draw": draws[0]}
        for name, image in tiles.items():
            x = matched(image, truth)
            values = {
                "psnr": psnr(x, truth, 1.0),
                "psnr_inside": psnr(*(part[inside][None] for part in (x, truth)), 1.0),
                "ssim": ssim(x, truth, 1.0),
                "nmse": nmse(x, truth),
            }
            found[name] = {key: round(float(value[0]), 4) for key, value in values.items()}
        tiles = {"full": truth, **{k: matched(v, truth) for k, v in tiles.items()}}
    else:
        tiles = {k: v.abs() for k, v in tiles.items()}
    tiles["4 x deviation"] = 4 * spread
    return found, tiles


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--full", type=Path)
    parser.add_argument("--undersampled", type=Path)
    parser.add_argument("--values", choices=("real", "parts"), default="parts")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--pictures", type=Path, default=Path("runs/scans"))
    arguments = parser.parse_args()
    if arguments.samples < 2:
        parser.error("--samples 2 at least: a deviation is shown")
    out = RESULTS / f"scans-{arguments.run.name}-{arguments.values}.json"
    run = open_run(arguments.run)
    results = {"scans": {}}
    scans = []
    if arguments.full:
        kspace = kspace_of(arguments.full)
        for name, acceleration, calibration in MASKED:
            mask = MASKS[name](tuple(kspace.shape[2:]), acceleration, calibration, [0]).mask
            scans.append((f"{arguments.full.stem}-{name}", Mask(mask)(kspace), reference(kspace)))
    if arguments.undersampled:
        scans.append((arguments.undersampled.stem, kspace_of(arguments.undersampled), None))
    for name, kspace, truth in scans:
        found, tiles = row(run, kspace, truth, arguments)
        results["scans"][name] = {**found, "panels": list(tiles)}
        shown = [(2 * tile[0].clamp(0, 1) - 1).numpy() for tile in tiles.values()]
        write_grid(arguments.pictures / f"{name}.png", shown, len(shown))
        print(name, found, flush=True)
        about = {"trained_by": run.manifest["command"], "sha256": run.model_sha256}
        command = command_line(sys.argv).removeprefix("radiffuse ")
        made = {"command": command, "prior": about, "environment": environment()}
        write_json(out, {**results, **made})


if __name__ == "__main__":
    main()
