"""The trilemma measured: `radiffuse compare` on a data set, its record for docs/trilemma.md.

    python benchmarks/trilemma.py --data shared/data/mednist64.npz --size 32 32 --minutes 30 --out runs/trilemma

The same command goes on where it was cut. The record goes to benchmarks/results/trilemma-NAME.json, the triangle to
docs/trilemma-NAME.svg; NAME is that of the data.
"""

import argparse
import shlex
import shutil
from pathlib import Path

from recorded import RESULTS, brief

from radiffuse import cli
from radiffuse.data.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Compare, and keep the record."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data", required=True)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--minutes", default="30")
    flags.add_argument("--count", default="1000")
    flags.add_argument("--size", nargs="*", default=[])
    flags.add_argument("--families", nargs="*", default=[])
    asked = flags.parse_args()
    words = ["--data", asked.data, "--out", str(asked.out), "--minutes", asked.minutes]
    words += ["--count", asked.count]
    words += ["--size", *asked.size] if asked.size else []
    words += ["--families", *asked.families] if asked.families else []
    status = cli.main(["compare", *words])
    if status == 0:
        name = Path(asked.data).stem
        record = read_json(asked.out / "compare.json")
        record["data"] = Path(record["data"]).name
        where = ["--data", f"../shared/data/{record['data']}", "--out", f"runs/trilemma-{name}"]
        words = [*where, *words[4:]]
        record["command"] = shlex.join(["python", "benchmarks/trilemma.py", *words])
        del record["settings"]
        write_json(RESULTS / f"trilemma-{name}.json", brief(record))
        shutil.copy(asked.out / "triangle.svg", ROOT / "docs" / f"trilemma-{name}.svg")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
