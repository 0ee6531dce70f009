"""FID of distilled runs at few calls, beside their teacher: JSON, and a plot in docs.

    python benchmarks/distill.py runs/mednist64-ddpm runs/chain runs/solver runs/flow-map

The first run is the teacher; of a progressive run its stages are measured too. Points that the JSON file holds are not
computed again, so the same command goes on after an interruption.
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from recorded import brief

from radiffuse.applications.evaluation.judge import judge
from radiffuse.applications.generation.quality import quality_against_steps
from radiffuse.commands.source import open_source
from radiffuse.data.files import read_json, write_json
from radiffuse.errors import UserError
from radiffuse.runs.run import open_run

HERE = Path(__file__).resolve().parent
TEACHER = (1, 2, 4, 10, 20, 50)
STUDENT = (4, 2, 1, 8)
KARRAS = {"grid": "karras", "start": 0.998, "stop": 0.003, "sampler": "dpm-solver"}
LEAP = {**KARRAS, "leap": 1.0}


def settings_of(run, teacher):
    """(name, recipe) of each point of a run: (steps, calls) that its way knows."""
    if teacher:
        for calls in TEACHER:
            # a grid that ends above zero noise asks the network once more
            few = {"sampler": "ddim", "grid": "uniform", "stop": 0.0} if calls < 3 else None
            for name, settings in (("teacher", few or KARRAS), ("teacher, leap", LEAP)):
                steps = calls if settings is few else calls - 1
                if settings is LEAP and not 3 <= calls <= 20:
                    continue
                yield name, dataclasses.replace(run.recipe, **settings, steps=steps)
        return
    for calls in sorted({*STUDENT, run.recipe.calls}):
        try:
            yield run.recipe.way, dataclasses.replace(run.recipe, steps=calls)
        except UserError:
            continue


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("students", type=Path, nargs="*")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--features", type=Path, help="folder that keeps the feature network")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    first = open_run(arguments.teacher)
    cases = open_source(first.config.data)
    train, held_out = cases.split("train"), cases.held_out()
    real = judge(train, held_out, cache=arguments.features or arguments.teacher / "features")
    out = arguments.json or HERE / "results" / f"distill-{arguments.teacher.name}.json"
    about = {
        "count": arguments.count,
        "precision": arguments.precision,
        "teacher": first.model_sha256,
        "minutes": first.config.train.get("minutes"),
        "command": shlex.join(["python", "benchmarks/distill.py", *sys.argv[1:]]),
    }
    known = read_json(out) if out.is_file() else {}
    same = all(known.get(key) == about[key] for key in ("count", "precision", "teacher"))
    points = known["points"] if same else []
    done = {(point["sha256"], point["name"], point["steps"]) for point in points}
    folders = []
    for folder in arguments.students:
        folders += [*sorted((folder / "stages").glob("*")), folder]
    for folder in [*folders, arguments.teacher]:
        run = open_run(folder).with_precision(arguments.precision)
        for name, recipe in settings_of(run, folder == arguments.teacher):
            if (run.model_sha256, name, recipe.steps) in done:
                continue
            (point,) = quality_against_steps(
                [(name, recipe, run.objective)], real, train, count=arguments.count, batch=50
            )
            trained = {"sha256": run.model_sha256, "minutes": run.config.train.get("minutes")}
            points.append({**point, **trained, "calls": getattr(recipe, "calls", None)})
            print(points[-1], flush=True)
            write_json(out, brief({**about, "points": points}))


if __name__ == "__main__":
    main()
