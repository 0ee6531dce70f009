"""Write a set of pairs as one without: sources of one half of the training patients, targets of the other half.

    python benchmarks/unpaired.py ../shared/data/lgg128.npz --map source=t1 target=flair mask=mask \\
        --out scratch/lgg128-apart
    python benchmarks/application.py syndiff --data scratch/lgg128-apart --map source=source target=target mask=mask \\
        --minutes 12 -- --train.mirror 1

Held-out cases keep both, so that what is learned without pairs is measured by pairs. Pictures are stored as PNG.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

SPARED = {"source": 1, "target": 0}
"""Which half of the patients (every second one) lacks an image of a kind."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "data", type=Path, help="an .npz of pictures of 8 bits, with patient and split"
    )
    parser.add_argument(
        "--map", nargs="+", required=True, help="KEY=COLUMN words, source and target among them"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    columns = dict(word.split("=", 1) for word in arguments.map)
    with np.load(arguments.data, allow_pickle=False) as stored:
        data = {name: stored[name] for name in {*columns.values(), "patient", "split"}}
    training = sorted(set(data["patient"][data["split"] == "train"].tolist()))
    half = {patient: number % 2 for number, patient in enumerate(training)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "patient", "split", *columns])
        writer.writeheader()
        for row, patient in enumerate(data["patient"].tolist()):
            cells = {}
            for key, name in columns.items():
                spared = key in SPARED and half.get(patient) == SPARED[key]
                cells[key] = "" if spared else f"{row:04d}-{key}.png"
                if not spared:
                    Image.fromarray(data[name][row]).save(arguments.out / cells[key])
            about = {"case": f"{row:04d}", "patient": patient, "split": str(data["split"][row])}
            writer.writerow({**about, **cells})
    print(arguments.out)


if __name__ == "__main__":
    main()
