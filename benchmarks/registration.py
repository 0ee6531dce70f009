"""Train, measure and report registration on one data set, beside SimpleITK, elastix and VoxelMorph.

    python benchmarks/registration.py --data ../shared/data/acdc128.npz --minutes 35 \\
        --map moving=ed fixed=es moving_mask=ed_mask fixed_mask=es_mask

`evaluate` trains VoxelMorph as long as the method. elastix runs where `itk-elastix` is installed
(pip install itk-elastix) and is left out otherwise. A run that exists is gone on with. Numbers:
benchmarks/results/registration-SET-METHOD.json.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from recorded import RESULTS, brief, radiffuse, train, trained_by, training

from radiffuse.applications.evaluate import evaluate
from radiffuse.applications.registration.baselines import CLASSICAL
from radiffuse.commands.source import open_source
from radiffuse.data.files import write_json
from radiffuse.runs.run import environment, open_run


def elastix(moving, fixed, spacing_mm):
    """B-splines by elastix with its default parameters; u (n, *S) in voxels."""
    import itk
    import numpy as np

    def as_itk(image):
        out = itk.image_from_array(np.ascontiguousarray(image.float().numpy().T))
        out.SetSpacing([float(step) for step in spacing_mm])
        return out

    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("bspline", 3, 16.0))
    still = as_itk(fixed)
    _, found = itk.elastix_registration_method(
        still, as_itk(moving), parameter_object=parameters, log_to_console=False
    )
    with tempfile.TemporaryDirectory() as folder:  # where it leaves a copy of the field
        field = itk.transformix_deformation_field(still, found, output_directory=folder)
    mm = torch.from_numpy(np.asarray(field).T.copy())
    return mm / torch.tensor(spacing_mm).reshape(-1, *[1] * fixed.ndim)


def has_elastix():
    try:
        import itk
    except ImportError:
        return False
    return hasattr(itk, "elastix_registration_method")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--map", nargs="*", default=[])
    parser.add_argument("--method", default="diffusemorph")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--count", type=int, help="held-out pairs at most")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    name = f"{Path(arguments.data).stem.replace(':', '-')}-{arguments.method}"
    run = arguments.runs / f"registration-{name}"
    data = [arguments.data, *(["--map", *arguments.map] if arguments.map else [])]
    train(arguments.method, data, run, arguments.minutes, arguments.preset)
    opened = open_run(run)
    cases = open_source(opened.config.data)
    skipped = []
    if has_elastix():
        CLASSICAL["elastix"] = elastix
    else:
        skipped.append("elastix: itk-elastix is not installed")
    record = evaluate(
        opened.recipe,
        opened.objective,
        cases.split("train"),
        cases.held_out(),
        count=arguments.count,
        folder_for_pictures=run / "pictures",
        command=" ".join(["python", *sys.argv]),
        cache=run / "features",
        trained=opened.options,
    )
    write_json(run / "metrics.json", {**record, "run": str(run), "id": arguments.method})
    radiffuse("report", run)
    trained = {"method": training(run), "voxelmorph": training(run / "baseline-voxelmorph")}
    about = {"trained": trained, "trained_by": trained_by(run), "environment": environment()}
    out = arguments.json or RESULTS / f"registration-{name}.json"
    write_json(out, {**brief(record), **about, "skipped": skipped})
    print(out)


if __name__ == "__main__":
    main()
