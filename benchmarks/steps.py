"""FID against network calls for every sampler on one trained network: JSON and a plot in docs.

    python benchmarks/steps.py runs/mednist64-ddpm

One network is read as DDPM, SDE and flow: each sampler runs on the grid that suits it. Points that the
JSON file holds are not computed again, so the same command goes on after an interruption.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from radiffuse.commands.source import open_source
from radiffuse.evaluate.judge import judge
from radiffuse.evaluate.quality import quality_against_steps
from radiffuse.files import read_json, write_json
from radiffuse.run import open_run

HERE = Path(__file__).resolve().parent
CALLS = (5, 10, 20, 50, 250, 1000)
# name, sampler, grid, start, stop, calls a step, most calls
CURVES = (
    ("DDPM", "ddpm", "uniform", 0.998, 0.0, 1, 1000),
    ("DDIM", "ddim", "uniform", 0.998, 0.0, 1, 250),
    ("Euler-Maruyama", "euler-maruyama", "uniform", 0.998, 0.002, 1, 1000),
    ("Heun", "heun", "karras", 0.998, 0.003, 2, 50),
    ("DPM-Solver++ 2M", "dpm-solver", "karras", 0.998, 0.003, 1, 50),
    ("SDE-DPM-Solver++ 2M", "dpm-solver-sde", "karras", 0.998, 0.003, 1, 250),
    ("UniPC-2", "unipc", "karras", 0.998, 0.003, 1, 50),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--calls", type=int, nargs="+", default=list(CALLS))
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    run = open_run(arguments.run).with_precision(arguments.precision)
    cases = open_source(run.config.data)
    train, held_out = cases.split("train"), cases.held_out()
    real = judge(train, held_out, cache=arguments.run / "features")
    out = arguments.json or HERE / "results" / f"steps-{arguments.run.name}.json"
    about = {
        "count": arguments.count,
        "precision": arguments.precision,
        "sha256": run.model_sha256,
        "command": " ".join(["python benchmarks/steps.py", *sys.argv[1:]]),
    }
    known = read_json(out) if out.is_file() else {}
    same = all(known.get(key) == about[key] for key in ("count", "precision", "sha256"))
    points = known["points"] if same else []
    done = {(point["name"], point["steps"]) for point in points}
    for name, sampler, grid, start, stop, each, most in CURVES:
        for calls in arguments.calls:
            if calls > most:
                continue
            steps = max(1, (calls - (stop > 0)) // each)
            if (name, steps) in done:
                continue
            recipe = dataclasses.replace(
                run.recipe, sampler=sampler, grid=grid, start=start, stop=stop, steps=steps
            )
            setting = [(name, recipe, run.objective)]
            points += quality_against_steps(setting, real, train, count=arguments.count, batch=50)
            print(points[-1], flush=True)
            write_json(out, {**about, "points": points})


if __name__ == "__main__":
    main()
