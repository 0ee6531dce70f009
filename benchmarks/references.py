"""How well the reference of a denoising set agrees with its noisy images once noise is averaged away.

    python benchmarks/references.py --data ../shared/data/duke_sdoct --map noisy=noisy clean=averaged

Both images are blurred: white noise falls with the width of the blur, a reference that is brighter or lies
elsewhere stays as far away. The PSNR of the two blurred images is one that no denoiser passes at that
scale, as nothing in the noisy image tells of the difference.
"""

import argparse
import sys

from recorded import RESULTS, brief

from radiffuse.commands.parsing import pairs
from radiffuse.commands.source import open_source
from radiffuse.data.files import write_json
from radiffuse.metrics.estimate import average_per_patient
from radiffuse.metrics.fidelity import psnr
from radiffuse.operators.blur import blurred
from radiffuse.runs.config import DataSource
from radiffuse.runs.run import command_line

FWHM = (0.0, 4.0, 8.0, 16.0, 32.0)
"""Full widths at half maximum of the blur in pixels."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--map", nargs="*", default=[])
    parser.add_argument("--name", default="duke_sdoct")
    arguments = parser.parse_args()
    source = DataSource(path=arguments.data, map=pairs(arguments.map))
    cases = open_source(source).held_out()
    found = {}
    for width in FWHM:
        values = []
        for row in range(len(cases)):
            case = cases.batch([row])
            noisy, clean = (blurred(case[key], width) for key in ("noisy", "clean"))
            values.append(float(psnr(noisy, clean, 2.0)))
        found[str(width)] = brief(average_per_patient(values, cases.patients))
        print(width, found[str(width)])
    command = command_line(sys.argv).removeprefix("radiffuse ")
    record = {"psnr_by_fwhm": found, "n": len(cases), "command": command}
    write_json(RESULTS / f"reference-{arguments.name}.json", record)


if __name__ == "__main__":
    main()
