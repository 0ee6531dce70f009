"""Planted cases of `radiffuse audit`: what it says where the answer is known.

python benchmarks/audit.py --data mednist64.npz --out FOLDER [--minutes 2.5]

Models of the same network, as long: "twenty" learns 20 images by heart, "many" sees thousands briefly, "duplicates" has
one person thirty times among 200; the others are held out. Writes
benchmarks/results/audit-NAME.json, by the name of the data; what is there is kept.
"""

import argparse
from pathlib import Path

import numpy as np
from recorded import RESULTS, brief

from radiffuse import cli
from radiffuse.data.files import read_json, write_json

SIDE = 16
HELD_OUT = 400


def planted(data: Path, out: Path) -> dict[str, Path]:
    """Pictures at 16 x 16, each of a person of its own but for the duplicates."""
    stored = np.load(data)
    order = np.random.default_rng(0).permutation(len(stored["image"]))
    if "patient" in stored:  # one picture of each, for twins are what is looked for
        order = order[np.sort(np.unique(stored["patient"][order], return_index=True)[1])]
    pictures = stored["image"][order]
    side = pictures.shape[-1] // SIDE
    small = pictures.reshape(len(pictures), SIDE, side, SIDE, side).mean((2, 4)).round()
    small = small.astype(np.uint8)
    others, rest = small[:HELD_OUT], small[HELD_OUT:]
    names = np.array([f"p{k:05d}" for k in range(len(rest))])
    repeated = np.concatenate([rest[:1].repeat(30, 0), rest[1:171]])
    sets = {
        "twenty": (rest[:20], names[:20]),
        "many": (rest, names),
        "duplicates": (repeated, np.concatenate([names[:1].repeat(30), names[1:171]])),
    }
    found = {}
    for name, (images, people) in sets.items():
        found[name] = out / f"{name}.npz"
        held = np.array([f"q{k:05d}" for k in range(HELD_OUT)])
        np.savez(
            found[name],
            image=np.concatenate([images, others]),
            patient=np.concatenate([people, held]),
            split=np.array(["train"] * len(images) + ["test"] * HELD_OUT),
        )
    return found


def audited(name: str, data: Path, out: Path, minutes: float, count: int) -> dict:
    """Train one model, and audit it."""
    run = out / f"run-{name}"
    if not (run / "model.safetensors").is_file():
        words = ["--data", str(data), "--preset", "tiny", "--width", "32", "--steps", "20"]
        words += [
            "--train.minutes",
            str(minutes),
            "--train.batch",
            "20",
            "--train.learning-rate",
            "1e-3",
        ]
        if name == "twenty":
            words += ["--dropout", "0"]
        resume = ["--resume"] if run.is_dir() else []
        assert cli.main(["train", "ddpm", *words, "--out", str(run), *resume]) == 0
    folder = out / f"audit-{name}"
    words = ["--count", str(count), "--cases", "200", "--batch", "50"]
    assert cli.main(["audit", str(run), "--out", str(folder), *words]) == 0
    record = read_json(folder / "audit.json")
    return brief({k: v for k, v in record.items() if k not in ("run", "environment", "command")})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=("twenty", "many", "duplicates"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"audit-{given.data.stem}.json"
    found = read_json(path) if path.is_file() else {}
    for name, data in planted(given.data, given.out).items():
        if name in given.only:
            found[name] = audited(name, data, given.out, given.minutes, given.count)
            write_json(path, found)


if __name__ == "__main__":
    main()
