"""What starting from the Wiener filter is worth: denoising errors of one network, started two ways.

    python benchmarks/starting_point.py --data ../shared/data/mednist64.npz --steps 100 300

The `small` preset of `sde` is trained for the same steps, seed and data with `--filtered` and with
`--no-filtered` (EDM's preconditioning), and asked for held-out images at several noise levels, with
the same noise. The numbers go to benchmarks/results/starting-point-SET.json.
"""

import argparse
from pathlib import Path

import torch
from recorded import RESULTS, radiffuse

from radiffuse.commands.source import open_source
from radiffuse.data.files import write_json
from radiffuse.diffusion.kernels import diffuse
from radiffuse.diffusion.noise import Seeded
from radiffuse.runs.run import open_run

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 10.0)
KINDS = {"Wiener filter": "--filtered", "EDM": "--no-filtered"}


@torch.no_grad()
def errors(run, count):
    """Root mean squared errors of up to `count` held-out images in [-1, 1], by sigma."""
    cases = open_source(run.config.data).held_out()
    x_0 = cases.batch(range(min(count, len(cases))))["image"]
    network = run.objective.network.eval()
    found = {}
    for sigma in LEVELS:
        noise = Seeded(range(len(x_0)))(x_0)
        t = network.schedule.time(-torch.tensor(sigma, dtype=torch.float64).log())
        x_t = diffuse(network.schedule, x_0, t, noise)
        estimates = torch.cat([network(part, t) for part in x_t.split(32)])
        found[sigma] = float((estimates - x_0).square().mean().sqrt())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--map", nargs="*", default=[])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--runs", type=Path, default=Path("runs/starting-point"))
    arguments = parser.parse_args()
    name = Path(arguments.data).stem
    data = ["--data", arguments.data, *(["--map", *arguments.map] if arguments.map else [])]
    rows = []
    for steps in arguments.steps:
        for kind, flag in KINDS.items():
            folder = arguments.runs / f"{name}{flag}-{steps}"
            words = ["train", "sde", *data, "--preset", "small", "--train.steps", steps, flag]
            words += ["--train.batch", 16, "--train.warmup", 50, "--out", folder, "--resume"]
            radiffuse(*words)
            run = open_run(folder)
            rows.append({"start": kind, "steps": steps, "rmse": errors(run, arguments.count)})
            print(kind, steps, {k: round(v, 4) for k, v in rows[-1]["rmse"].items()}, flush=True)
    command = f"python benchmarks/starting_point.py --data {arguments.data} --steps "
    command += " ".join(map(str, arguments.steps))
    record = {"command": command, "count": arguments.count, "rows": rows}
    write_json(RESULTS / f"starting-point-{name}.json", record)


if __name__ == "__main__":
    main()
