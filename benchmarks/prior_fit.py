"""A prior that fits the scan, and one that does not: the prior alone, classical methods, and what the scan chooses.

    python benchmarks/prior_fit.py runs/lgg-score-mri --images ../shared/data/lgg128.npz:flair \\
        ../shared/data/acdc128.npz:ed --scans ../shared/data/kspace_head_8ch.h5

Held-out images (of the prior's own data, or of others) are measured by simulation, full scans are undersampled here;
each by masks of columns and of points. PSNR of magnitudes, a mean over cases with its interval: "prior" is the mean
that one chain tells; "classical, best" has the method and weight that the truth likes best, which no user can have;
"classical" those that predict the samples kept back best; "chosen" is `kept_back`. The numbers go to
benchmarks/results/prior-fit-RUN.json.
"""

import argparse
from pathlib import Path

import torch
from recorded import RESULTS, brief, made_by
from scans import kspace_of, matched, reference

from radiffuse.acquisition import MASKS
from radiffuse.applications.reconstruction.by_scan import PRIOR, classical
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import write_json
from radiffuse.diffusion.noise import derive
from radiffuse.metrics.estimate import average_per_patient
from radiffuse.metrics.fidelity import psnr
from radiffuse.operators import Mask
from radiffuse.runs.run import open_run

ASKED = (
    ("gaussian-columns", 2.0),
    ("gaussian-columns", 4.0),
    ("gaussian-columns", 8.0),
    ("poisson-disc", 4.0),
    ("poisson-disc", 8.0),
    ("poisson-disc", 12.0),
)
SETTINGS = {"solver": "probed", "steps": "20", "highest": "5"}


def held_out(word, count, size):
    """Evenly spaced held-out images of PATH:COLUMN, their patients and their name."""
    path, _, key = word.rpartition(":")
    cases = open_cases(path, mapping={"image": key}, size=size)
    split = next(name for name in ("test", "val") if name in cases.split_of)
    cases = cases.split(split)
    rows = list(range(0, len(cases), max(1, len(cases) // count)))[:count]
    return cases.batch(rows)["image"], [cases.patients[row] for row in rows], Path(path).stem


def measured(opened, batch, truth, seeds):
    """PSNR (B,) by name, and the prior's weight (B,)."""
    acquired = opened.recipe.acquire(batch)
    told = opened.with_settings({"kept_back": "0"})
    x, mean = told.recipe.drawn(opened.objective, acquired, seeds)
    stack = opened.recipe.stack(opened.objective, acquired)
    _, chosen = stack.applied(x, mean)
    rest = classical(acquired)
    errors = torch.stack([stack.errors[name] for name in rest])
    pick = errors.argmin(0)
    one = torch.stack([list(rest.values())[int(k)][row] for row, k in enumerate(pick)])
    made = {"first": acquired.first, "prior": mean, "classical": one, "chosen": chosen}
    quality = {name: psnr(fitted(image, truth), truth, 1.0) for name, image in made.items()}
    each = torch.stack([psnr(fitted(image, truth), truth, 1.0) for image in rest.values()])
    quality["classical, best"] = each.amax(0)
    return quality, stack.weights[PRIOR]


def fitted(image, truth):
    """The magnitude, of measured scans with the scale that fits the truth best."""
    return matched(image, truth) if image.is_complex() else image.clamp(0, 1)


def entries(opened, arguments):
    """Name -> (batch, truth, patients), of images by simulation and of full scans."""
    for word in arguments.images:
        images, patients, name = held_out(word, arguments.count, opened.recipe.size)
        yield name, lambda run, images=images: {"image": images}, (images + 1) / 2, patients
    for path in arguments.scans:
        kspace = kspace_of(path)

        def undersampled(run, kspace=kspace):
            recipe = run.recipe
            mask = MASKS[recipe.mask](tuple(kspace.shape[2:]), recipe.acceleration, 16, [0])
            return {"kspace": Mask(mask.mask)(kspace)}

        yield Path(path).stem, undersampled, reference(kspace), [Path(path).stem]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", nargs="*", default=[], help="PATH:COLUMN")
    parser.add_argument("--scans", nargs="*", default=[], help="fully sampled k-space")
    parser.add_argument("--count", type=int, default=8, help="images of each set")
    parser.add_argument("--kept-back", type=float, default=0.1)
    arguments = parser.parse_args()
    run, found = open_run(arguments.run), {}
    for name, batch, truth, patients in entries(run, arguments):
        for mask, acceleration in ASKED:
            more = {"mask": mask, "acceleration": acceleration, "kept_back": arguments.kept_back}
            opened = run.with_settings({**SETTINGS, **{k: str(v) for k, v in more.items()}})
            seeds = [derive(0, row) for row in range(len(truth))]
            with torch.no_grad():
                quality, weight = measured(opened, batch(opened), truth, seeds)
            table = {
                who: brief(average_per_patient(values.tolist(), patients))
                for who, values in quality.items()
            }
            entry = {"psnr": table, "prior_weight": round(float(weight.mean()), 3)}
            found.setdefault(name, {})[f"{mask} {acceleration:g}"] = entry
            print(name, mask, acceleration, {k: round(v["mean"], 2) for k, v in table.items()})
            record = {
                **made_by(run),
                "settings": {**SETTINGS, "kept_back": arguments.kept_back},
                "sets": found,
            }
            write_json(RESULTS / f"prior-fit-{arguments.run.name}.json", record)


if __name__ == "__main__":
    main()
