"""Brain LDM told covariates in both ways, in either, and in none: do its volumes follow them?

    python benchmarks/covariates.py --data brains3d:count=600,size=32 --minutes 20 \\
        --covariates brain_size ventricles atrophy t1_contrast

The auto-encoder is trained once and shared. Every run is evaluated by `radiffuse evaluate`, which reads the numbers off
the volumes (`metrics.readout`). Runs that exist are gone on with. benchmarks/results/covariates-SET.json, and the
record of the run that is told in both ways, generation-SET-brain-ldm.json.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from recorded import RESULTS, brief, radiffuse, train, trained_by, training

from radiffuse.data.files import read_json, write_json

WAYS = ("both", "channels", "attention", "none")
SHOWN = ("fid", "fid_planes", "mmd", "ms_ssim")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--image", default="t1", help="column of the volumes")
    parser.add_argument("--covariates", nargs="+", required=True)
    parser.add_argument("--minutes", type=float, default=20, help="of the diffusion, each")
    parser.add_argument("--first-minutes", type=float, default=20, help="of the auto-encoder")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--note", default="", help="said beside the numbers")
    parser.add_argument("more", nargs="*", help="after --: further flags of train")
    arguments = parser.parse_args()
    name = Path(arguments.data).stem.partition(":")[0]
    told = [f"{key}={key}" for key in arguments.covariates]
    data = [arguments.data, "--map", f"image={arguments.image}", *told]
    found = {}
    for way in WAYS:
        run = arguments.runs / f"{name}-brain-ldm-{way}"
        first = ["--first.minutes", arguments.first_minutes]
        if way != WAYS[0]:
            first += ["--autoencoder", arguments.runs / f"{name}-brain-ldm-{WAYS[0]}"]
        more = [*first, "--told-by", way, *arguments.more]
        train("brain-ldm", data, run, arguments.minutes, more=more)
        if (
            way != WAYS[0]
            and (seen := arguments.runs / f"{name}-brain-ldm-{WAYS[0]}/features").is_dir()
        ):
            shutil.copytree(
                seen, run / "features", dirs_exist_ok=True
            )  # one feature network judges all
        radiffuse("evaluate", run, "--count", arguments.count)
        found[way] = brief(read_json(run / "metrics.json"))
    both = arguments.runs / f"{name}-brain-ldm-{WAYS[0]}"
    radiffuse("report", both)
    about = {
        "note": arguments.note,
        "trained": {
            "method": training(both),
            "baseline-autoencoder": training(both / "autoencoder"),
        },
        "trained_by": trained_by(both),
    }
    write_json(RESULTS / f"generation-{name}-brain-ldm.json", {**about, **found[WAYS[0]]})
    keys = [f"told_{key}" for key in arguments.covariates]
    record = {
        "command": shlex.join(["python", "benchmarks/covariates.py", *sys.argv[1:]]),
        "note": arguments.note,
        "data": found[WAYS[0]]["data"],
        "trained": {way: training(arguments.runs / f"{name}-brain-ldm-{way}") for way in WAYS},
        "codes": brief(read_json(both / "autoencoder/codes.json")),
        "ways": {
            way: {key: its["method"][key] for key in (*keys, *SHOWN)} for way, its in found.items()
        },
        "real": {key: found[WAYS[0]]["reference"][key] for key in (*keys, *SHOWN)},
    }
    write_json(RESULTS / f"covariates-{name}.json", record)


if __name__ == "__main__":
    main()
