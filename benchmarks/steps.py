"""FID against network calls for every sampler on one trained network: JSON and a plot in docs.

    python benchmarks/steps.py runs/mednist64-ddpm

One network is read as DDPM, SDE and flow: each sampler runs on the grid that suits it. Points that the
JSON file holds are not computed again, so the same command goes on after an interruption.
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from radiffuse.applications.evaluation.judge import judge
from radiffuse.applications.generation.quality import quality_against_steps
from radiffuse.commands.source import open_source
from radiffuse.data.files import read_json, write_json
from radiffuse.runs.run import open_run

HERE = Path(__file__).resolve().parent
CALLS = (5, 10, 20, 50, 250, 1000)
UNIFORM = {"grid": "uniform", "start": 0.998, "stop": 0.0}
KARRAS = {"grid": "karras", "start": 0.998, "stop": 0.003}
# name, calls a step, most calls, settings
CURVES = (
    ("DDPM", 1, 1000, {**UNIFORM, "sampler": "ddpm"}),
    ("DDIM", 1, 250, {**UNIFORM, "sampler": "ddim"}),
    ("Euler-Maruyama", 1, 1000, {**UNIFORM, "sampler": "euler-maruyama", "stop": 0.002}),
    ("Heun", 2, 50, {**KARRAS, "sampler": "heun"}),
    ("DPM-Solver++ 2M", 1, 50, {**KARRAS, "sampler": "dpm-solver"}),
    ("DPM-Solver++ 2M, leap", 1, 50, {**KARRAS, "sampler": "dpm-solver", "leap": 1.0}),
    ("SDE-DPM-Solver++ 2M", 1, 250, {**KARRAS, "sampler": "dpm-solver-sde"}),
    ("UniPC-2", 1, 50, {**KARRAS, "sampler": "unipc"}),
    (
        "DPM-Solver++ 2M, leap, eta 0.8",
        1,
        250,
        {**KARRAS, "sampler": "dpm-solver", "leap": 1.0, "eta": 0.8},
    ),
    ("UniPC-2, leap", 1, 50, {**KARRAS, "sampler": "unipc", "leap": 1.0}),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--calls", type=int, nargs="+", default=list(CALLS))
    every = [name for name, *_ in CURVES]
    parser.add_argument("--names", nargs="+", choices=every, default=every, help="of samplers")
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
        "command": shlex.join(["python", "benchmarks/steps.py", *sys.argv[1:]]),
    }
    known = read_json(out) if out.is_file() else {}
    same = all(known.get(key) == about[key] for key in ("count", "precision", "sha256"))
    points = known["points"] if same else []
    done = {(point["name"], point["steps"]) for point in points}
    for name, each, most, settings in CURVES:
        for calls in arguments.calls:
            if calls > most or name not in arguments.names:
                continue
            steps = max(1, (calls - (settings["stop"] > 0)) // each)
            if (name, steps) in done:
                continue
            recipe = dataclasses.replace(run.recipe, **settings, steps=steps)
            setting = [(name, recipe, run.objective)]
            points += quality_against_steps(setting, real, train, count=arguments.count, batch=50)
            print(points[-1], flush=True)
            write_json(out, {**about, "points": points})


if __name__ == "__main__":
    main()
