"""A network of whole volumes against one of slices applied slice by slice, trained as long on the same volumes.

    python benchmarks/slice_by_slice.py --run runs/brains3d-ddpm-3d --minutes 12 --count 120

The run is of volumes, evaluated (`application.py ddpm-3d ...`). `ddpm` (small) is trained on the slices of its training
volumes along the last axis; as many slices as a volume has, each from a seed of its own, are stacked, and the volumes
are measured as those of the run. benchmarks/results/slices-RUN.json.
"""

import argparse
import shlex
import sys
from pathlib import Path

import torch
from recorded import RESULTS, brief, radiffuse, training

from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.generation.evaluate import evaluate_generation
from radiffuse.applications.generation.sampling import generate
from radiffuse.commands.source import open_source
from radiffuse.data.files import read_json, write_json
from radiffuse.runs.run import open_run

SHOWN = ("coherence", "fid", "fid_planes", "mmd", "ms_ssim", "nearest_aligned")


def stacked(run, count, seed, batch=64):
    """Volumes (count, C, *S) of slices along the last axis, each drawn alone."""
    recipe, objective = run.recipe, run.objective
    depth = recipe.size[-1]
    slices = generate(recipe, objective, count * depth, None, Asked(seed=seed, batch=batch))
    return slices.unflatten(0, (count, depth)).movedim(1, -1).contiguous()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="of volumes, evaluated")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    data, out = run.config.data, arguments.run.with_name(f"{arguments.run.name}-slices")
    words = ["--map", *(f"{key}={column}" for key, column in data.map.items())] if data.map else []
    flags = ["--preset", "small", "--slices", "2", "--train.minutes", arguments.minutes, "--resume"]
    radiffuse("train", "ddpm", "--data", data.path, *words, *flags, "--out", out)
    cases = open_source(data, run.recipe)
    volumes = stacked(open_run(out), arguments.count, arguments.seed)
    assert volumes.shape[2:] == torch.Size(run.recipe.size), (
        "slices must be stored as the volumes are"
    )
    asked = Asked(
        seed=arguments.seed, cache=arguments.run / "features", folder_for_pictures=out / "pictures"
    )
    found = evaluate_generation(
        run.recipe,
        run.objective,
        cases.split("train"),
        cases.held_out(),
        asked,
        samples=volumes,
        bits=0,
    )
    whole = read_json(arguments.run / "metrics.json")
    record = {
        "command": shlex.join(["python", "benchmarks/slice_by_slice.py", *sys.argv[1:]]),
        "data": brief(whole["data"]),
        "trained": {"volumes": training(arguments.run), "slices": training(out)},
        "volumes": {key: brief(whole["method"][key]) for key in SHOWN},
        "slices": {key: brief(found["method"][key]) for key in SHOWN},
        "real": {key: brief(found["reference"][key]) for key in SHOWN},
    }
    path = RESULTS / f"slices-{arguments.run.name}.json"
    write_json(path, record)
    print(path)


if __name__ == "__main__":
    main()
