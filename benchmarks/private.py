"""What privacy costs: FID of private training at several budgets, and of the same training without.

    python benchmarks/private.py --data ../shared/data/mednist64.npz --scratch FOLDER

All train the same small network on the same number of steps of as many images: a training whose gradients are neither
shortened nor noised ("none"), and one for each epsilon; "longer" is without privacy too, and takes ten times the
steps. FID is against held-out images, in the features of a network trained on the training images; beside stand
samples of Gaussians of mean and covariance, and training images. Each is audited (`radiffuse audit`): the share of
copies among samples, and whether members can be told from others.
An interrupted run goes on. benchmarks/results/private-SET.json.
"""

import argparse
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from recorded import RESULTS, brief, radiffuse

from radiffuse.applications.evaluation.judge import judge
from radiffuse.applications.generation.baselines import fit_generation
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import read_json, write_json
from radiffuse.metrics.distribution import distances_between_sets
from radiffuse.metrics.features import extract
from radiffuse.runs.run import environment, open_run

SIZE, COUNT = 32, 600
SAMPLER = {"steps": "20", "sampler": "dpm-solver"}
NETWORK = ("--width", 16, "--multiples", 1, 2, "--conditional", "--classes", 6)
LOOP = ("--train.learning-rate", 0.003, "--train.warmup", 5, "--train.cooldown", 0.3)
EVERY = ("--train.ema", 0.1, "--train.precision", "fp32", "--train.log-every", 20)


def train(run, data, batch, steps, epsilon, draws):
    """Train one, privately where `epsilon` is a number."""
    words = ["train", "sde", "--preset", "tiny", "--data", data, "--size", SIZE, SIZE]
    words += ["--range", 0, 255, *NETWORK, *LOOP, *EVERY]
    words += ["--train.batch", batch, "--train.steps", steps, "--out", run, "--resume"]
    if epsilon is not None:
        words += ["--train.private", "--train.epsilon", epsilon, "--train.draws", draws]
    radiffuse(*words)


@torch.no_grad()
def drawn(opened, sampler):
    """Images of seeds 0, 1, 2 ..., classes in turn."""
    opened = opened.with_settings(sampler)
    parts = []
    for seeds in torch.arange(COUNT).split(100):
        batch = {"seed": seeds, "label": seeds % opened.recipe.classes}
        parts.append(opened.recipe.predict(opened.objective, batch)["image"])
    return torch.cat(parts)


def before_training(run):
    """What the network of a run draws before its first step: what its constants know of images."""
    opened = open_run(run)
    torch.manual_seed(0)
    return replace(opened, objective=opened.recipe.objective())


def measured(real, images):
    found = distances_between_sets(real.held_out_features, extract(real.network, images))
    return {key: brief(found[key]) for key in ("fid", "precision", "recall")}


def audited(run, out, seen, cases):
    """What an audit says of a run; the networks it looks through are kept in `seen`, for they are the same for all."""
    if not (out / "audit.json").is_file():
        if seen.is_dir():
            shutil.copytree(seen, out / "features", dirs_exist_ok=True)
        words = ["--count", 200, "--cases", cases, "--batch", 100, "--steps", SAMPLER["steps"]]
        radiffuse("audit", run, "--out", out, *words)
        shutil.copytree(out / "features", seen, dirs_exist_ok=True)
    record = read_json(out / "audit.json")
    eyes = record["memorisation"]["eyes"]
    return {
        "samples": record["samples"],
        "members": cases,
        **record["membership"]["loss"],
        "copies": {name: {key: eye[key] for key in ("share", "p")} for name, eye in eyes.items()},
        "verdict": record["verdict"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10, 1, 3])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--longer", type=int, default=400, help="steps of one more without privacy")
    parser.add_argument("--cases", type=int, default=128, help="members that the audit looks at")
    arguments = parser.parse_args()
    name = Path(arguments.data).stem
    cases = open_cases(arguments.data, size=(SIZE, SIZE), range=(0, 255))
    file = RESULTS / f"private-{name}.json"
    record = {}
    real = judge(cases.split("train"), cases.held_out(), cache=arguments.scratch / "features")
    some = torch.randperm(len(real.train), generator=torch.Generator().manual_seed(0))[:COUNT]
    gaussian = fit_generation(real.train, real.labels, cases.split("train").patients)
    record["beside"] = {
        "Gaussians of mean and covariance": measured(real, gaussian.sample(range(COUNT))),
        "training images": measured(real, real.train[some]),
    }
    record |= {
        "budgets": {},
        "data": {
            "source": Path(arguments.data).name,
            "size": SIZE,
            "n": len(real.train),
            "held_out": len(real.held_out),
        },
        "count": COUNT,
        "features": real.named,
        "environment": environment(),
        "command": shlex.join(["python", "benchmarks/private.py", *sys.argv[1:]]),
    }
    trainings = {
        "none": (None, arguments.steps),
        "longer": (None, arguments.longer),
        **{f"{epsilon:g}": (epsilon, arguments.steps) for epsilon in arguments.epsilons},
    }
    for word, (epsilon, steps) in trainings.items():
        run = arguments.scratch / f"{name}-{word}"
        train(run, arguments.data, arguments.batch, steps, epsilon, arguments.draws)
        opened = open_run(run)
        images = drawn(opened, SAMPLER)
        log = read_json(run / "manifest.json")
        record["budgets"][word] = {
            **measured(real, images),
            "audit": audited(
                run,
                arguments.scratch / f"audit-{name}-{word}",
                arguments.scratch / "seen",
                arguments.cases,
            ),
            "steps": steps,
            "private": log.get("private"),
            "trained_by": log["command"],
            "parameters": sum(p.numel() for p in opened.objective.players["network"].parameters()),
        }
        if epsilon is not None:
            untrained = measured(real, drawn(before_training(run), SAMPLER))
            record["beside"]["the private network before its training"] = untrained
        print(word, record["budgets"][word]["fid"], flush=True)
    write_json(file, brief(record))


if __name__ == "__main__":
    main()
