"""Whether the features of FID see faults: real images spoilt by degrees, beside the floor.

    python benchmarks/features.py --data ../shared/data/mednist64.npz --runs RUN RUN

Two sets of training images, of patients that the feature network has not seen, are compared: as they are (the
floor: real against real), and with one of them spoilt by code that shares nothing with what the network
learned from; then the Gaussians of mean and covariance, and samples of runs of `radiffuse train`. The same with
32 principal components of the pixels, for contrast. benchmarks/results/features-SET.json.
"""

import argparse
import json
import shlex
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from recorded import RESULTS, brief
from scipy import ndimage

from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.evaluation.judge import read_images
from radiffuse.applications.generation.baselines import fit_gaussian, fit_generation
from radiffuse.applications.generation.sampling import drawn_labels, generate
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import write_json
from radiffuse.diffusion.noise import derive
from radiffuse.metrics.distribution import distances_between_sets
from radiffuse.metrics.features import extract, weights_hash
from radiffuse.metrics.joined import joined_features
from radiffuse.runs.run import open_run

MOST, COMPONENTS = 600, 32
SHOWN = ("fid", "kid", "precision")


# ------------------------------------------------------------------------------------------ faults
def blurred(image, strength, _):
    return ndimage.gaussian_filter(image, (0, *(strength,) * (image.ndim - 1)))


def noisy(image, strength, draw):
    return image + strength * draw.standard_normal(image.shape)


def shuffled(image, share, draw):
    """Square blocks, eight a side, in another order."""
    side = image.shape[-1] // 8
    blocks = [
        np.s_[:, r : r + side, c : c + side]
        for r in range(0, 8 * side, side)
        for c in range(0, 8 * side, side)
    ]
    chosen = draw.permutation(len(blocks))[: round(share * len(blocks))]
    out = image.copy()
    for to, place in zip(chosen, np.roll(chosen, 1), strict=True):
        out[blocks[to]] = image[blocks[place]]
    return out


def holed(image, radius, draw):
    """A disc around a bright place is as dark as the image's darkest tenth; radius as a share of the side."""
    bright = image[0] - image[0].min() + 1e-6
    at = np.unravel_index(draw.choice(bright.size, p=bright.ravel() / bright.sum()), bright.shape)
    rows, columns = np.ogrid[: bright.shape[0], : bright.shape[1]]
    gone = np.hypot(rows - at[0], columns - at[1]) <= radius * bright.shape[0]
    return np.where(gone, np.quantile(image, 0.1), image)


def bent(image, amplitude, draw):
    """Splines on smoothly displaced places; the displacement's deviation is a share of the side."""
    size = image.shape[1:]
    fields = [ndimage.gaussian_filter(draw.standard_normal(size), size[0] / 12) for _ in size]
    moved = [
        f / f.std() * amplitude * size[0] + g for f, g in zip(fields, np.indices(size), strict=True)
    ]
    return np.stack([ndimage.map_coordinates(c, moved, order=1, mode="nearest") for c in image])


def mirrored(image, share, _):
    """The right part of the image is its left part again, mirrored; `share` of the width."""
    width = round(share * image.shape[-1])
    return np.concatenate(
        [image[..., : image.shape[-1] - width], image[..., :width][..., ::-1]], axis=-1
    )


FAULTS = {
    "blur, pixels": (blurred, (0.5, 1.0, 2.0, 4.0)),
    "white noise, of [-1, 1]": (noisy, (0.02, 0.05, 0.1, 0.2)),
    "share of blocks shuffled": (shuffled, (0.0625, 0.25, 0.5, 1.0)),
    "missing disc, radius": (holed, (0.06, 0.12, 0.18, 0.25)),
    "bent, deviation": (bent, (0.01, 0.02, 0.04, 0.08)),
    "mirrored part": (mirrored, (0.125, 0.25, 0.5)),
}


def spoilt(images, fault, strength, seed):
    """Every image with the fault, clipped to [-1, 1]."""
    draws = [np.random.default_rng([seed, k]) for k in range(len(images))]
    pairs = zip(images.numpy(), draws, strict=True)
    made = np.stack([fault(image.astype(np.float64), strength, draw) for image, draw in pairs])
    return torch.from_numpy(made).float().clamp(-1, 1)


# -------------------------------------------------------------------------------------- comparisons
def sets_of(train, seed):
    """Cases the network learns from, and two sets of other patients."""
    names = sorted(set(train.patients))
    order = np.random.default_rng(seed).permutation(len(names))
    place = {names[k]: position for position, k in enumerate(order)}
    rows = sorted(range(len(train)), key=lambda row: place[train.patients[row]])
    many = min(MOST, len(train) // 6)
    first, second = rows[:many], rows[many : 2 * many]
    used = {train.patients[row] for row in first} | {train.patients[row] for row in second}
    shared = {train.patients[row] for row in first} & {train.patients[row] for row in second}
    second = [row for row in second if train.patients[row] not in shared]
    return [row for row in rows if train.patients[row] not in used], first, second


def principal(images):
    """Pixels -> the leading principal components of these images, standardised."""
    fitted = fit_gaussian(images, COMPONENTS)
    scale = fitted.variances.sqrt().float()
    return lambda x: ((x.flatten(1) - fitted.mean) @ fitted.axes) / scale


def compared(real, images, features, seed):
    """FID, KID and precision with intervals."""
    found = distances_between_sets(features(real), features(images), seed=seed)
    return {key: brief(found[key]) for key in SHOWN}


def drawn(folder, count, seed, steps):
    """Samples of a run, and what it is called in the table."""
    run = open_run(folder)
    recipe = replace(run.recipe, steps=steps) if steps else run.recipe
    labels = drawn_labels(recipe, open_cases(run.config.data.path).split("train"), count, seed)
    images = generate(recipe, run.objective, count, labels, Asked(seed=seed, batch=50))
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return {
        "method": run.config.method,
        "training_steps": last["step"],
        "sampler_steps": recipe.steps,
    }, images


def in_order(values, rising):
    """Whether every value lies beyond the one before it."""
    return all(b > a if rising else b < a for a, b in pairwise(values))


def orders(rows, floor):
    """For each fault, whether each metric moves with its strength from the floor on."""
    found = {}
    for fault in dict.fromkeys(row["fault"] for row in rows):
        its = [floor, *(row for row in rows if row["fault"] == fault)]
        found[fault] = {
            key: in_order([row[key]["mean"] for row in its], key != "precision") for key in SHOWN
        }
    return found


def measured(arguments):
    """The record."""
    cases = open_cases(arguments.data)
    train = cases.split("train")
    learned, first, second = sets_of(train, arguments.seed)
    images, labels = read_images(train)
    fingerprint = train.take(learned).fingerprint
    known = None if labels is None else labels[learned]
    network = joined_features(
        images[learned],
        known,
        fingerprint=fingerprint,
        seed=arguments.seed,
        cache=arguments.cache,
        steps=arguments.steps,
    )
    eyes = {"features": lambda x: extract(network, x), "pixels": principal(images[learned])}
    real, others = images[first], images[second]

    def row(fault, strength, made):
        print(fault, strength, flush=True)
        found = {name: compared(real, made, eye, arguments.seed) for name, eye in eyes.items()}
        return {
            "fault": fault,
            "strength": strength,
            **found["features"],
            "pixels": found["pixels"],
        }

    floor = row("none: real against real", None, others)
    rows = [
        row(name, strength, spoilt(others, fault, strength, arguments.seed))
        for name, (fault, strengths) in FAULTS.items()
        for strength in strengths
    ]
    seeds = [derive(arguments.seed, k) for k in range(len(others))]
    laws = (
        {"Gaussian": None} if known is None else {"Gaussian": None, "Gaussian of each class": known}
    )
    fitted = {
        name: fit_generation(images[learned], its).sample(seeds) for name, its in laws.items()
    }
    gaussians = [row(name, None, made) for name, made in fitted.items()]
    unseen, _ = read_images(cases.held_out())
    held_out = [
        {"fault": name, **compared(unseen, made, eyes["features"], arguments.seed)}
        for name, made in {"real": others, **fitted}.items()
    ]
    models = []
    for folder in arguments.runs:
        many = arguments.samples or len(others)
        about, made = drawn(folder, many, arguments.seed, arguments.sampler_steps)
        models.append({**row("samples of a model", about["training_steps"], made), **about})
    models.sort(key=lambda model: -model["training_steps"])
    return {
        "command": shlex.join(["python", "benchmarks/features.py", *sys.argv[1:]]),
        "data": {
            "source": Path(arguments.data).name, "split": "train", "fingerprint": train.fingerprint,
            "n": {"learned": len(learned), "real": len(first), "compared": len(second), "held_out": len(unseen)},
        },
        "seed": arguments.seed,
        "features": {"hash": weights_hash(network)},
        "floor": floor,
        "faults": rows,
        "gaussians": gaussians,
        "against_held_out": held_out,
        "models": models,
        "in_order": orders([*rows, *models], floor),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--runs", type=Path, nargs="*", default=[], help="folders of generative runs"
    )
    parser.add_argument("--samples", type=int, help="of each run; left out: as many as real images")
    parser.add_argument("--sampler-steps", type=int, help="left out: each run's own")
    parser.add_argument("--name", help="of the record; left out: SET")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of training the features; left out: as evaluate")
    parser.add_argument("--cache", type=Path, help="keeps the feature network")
    arguments = parser.parse_args()
    out = RESULTS / f"features-{arguments.name or Path(arguments.data).stem}.json"
    write_json(out, measured(arguments))
    print(out)


if __name__ == "__main__":
    main()
