"""One measurement of `volumes.py`, alone in a process: prints one JSON object.

Peaks are those of the kernel (VmHWM of Linux), in bytes above what the process held when the work began.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from peak import Peak

from radiffuse.data import facts, kept
from radiffuse.data.dataset import open_cases
from radiffuse.training.loop import train
from radiffuse.training.options import TrainOptions


def smooth(rng, side):
    """A volume of int16 that packs as a scan does: a few waves and noise of some bits."""
    axes = np.meshgrid(*[np.linspace(0, 2 * np.pi, side, dtype=np.float32)] * 3, indexing="ij")
    waves = sum(np.sin(rng.integers(1, 4) * axis + rng.uniform(0, 6)) for axis in axes)
    return (300 * (waves + 3) + rng.normal(0, 20, waves.shape)).astype(np.int16)


def write(form, folder, count, side):
    """`count` volumes as the data set `form`, written one by one; the path that opens it."""
    rng = np.random.default_rng(0)
    few = [smooth(rng, side) for _ in range(4)]
    folder.mkdir(parents=True, exist_ok=True)
    if form == "nifti":
        import nibabel

        for number in range(count):
            image = nibabel.Nifti1Image(
                few[number % 4] + np.int16(number), np.diag([1.0, 1.0, 1.0, 1.0])
            )
            nibabel.save(image, folder / f"v{number:05d}.nii.gz")
        return folder
    plain = folder / "image.npy"
    stored = np.lib.format.open_memmap(plain, "w+", np.int16, (count, side, side, side))
    for number in range(count):
        stored[number] = few[number % 4] + np.int16(number)
    stored.flush()
    if form == "npy":
        return plain
    import zipfile

    packing = zipfile.ZIP_DEFLATED if form == "npz-packed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(folder / "data.npz", "w", packing, compresslevel=1) as archive:
        archive.write(plain, "image.npy")
    plain.unlink()
    return folder / "data.npz"


class Scale:
    """A network of two numbers: what a training takes beside it is its data."""

    def __init__(self):
        self.players = {"net": torch.nn.Conv3d(1, 1, 1)}

    def losses(self, batch):
        yield "net", (self.players["net"](batch["image"]) - batch["image"]).square().mean()


def data(asked):
    """Open, measure and train on data sets, one after the other, of which a column holds at most so many bytes."""
    facts.SAMPLE = asked.sample
    facts.AT_ONCE = min(facts.AT_ONCE, asked.sample)
    options = TrainOptions(steps=asked.steps, batch=asked.batch)
    found = []
    for number, (path, held) in enumerate(asked.set):
        kept.LEAST_HELD = kept.MOST_HELD = int(held)
        kept.most_held.cache_clear()
        with Peak() as peak:
            cases = open_cases(path)
            cases.facts()
            train(Scale(), cases.split("train"), options, asked.out / str(number))
        stored = sum(each.stat().st_size for each in [Path(path), *Path(path).glob("*")])
        told = {"seconds": peak.seconds, "bytes": peak.bytes, "stored": stored}
        found.append({**told, "cases": len(cases), "held": int(held)})
        del cases
    return found


def estimated(asked):
    """A command, `train`, `sample` or `predict`: what it says it will take, and what it takes from then on."""
    from radiffuse import cli
    from radiffuse.commands import predict, sample
    from radiffuse.commands import train as training
    from radiffuse.training.memory import check_weights

    peak, told = Peak(), {}

    def begins(build, options):
        check_weights(build, options)
        peak.__enter__()

    def says(check, begin):
        def checked(*words):
            if begin:
                peak.__enter__()
            told["line"] = check(*words)
            return told["line"]

        return checked

    training.check_weights = begins
    training.check_memory = says(training.check_memory, begin=False)
    sample.check_prediction = says(sample.check_prediction, begin=True)
    predict.check_prediction = says(predict.check_prediction, begin=True)
    if code := cli.main(asked.words):
        raise SystemExit(code)
    peak.__exit__()
    said = re.search(r"takes? about ([\d.e+]+) GiB", told["line"])
    return {"said": float(said[1]) * 2**30, "bytes": peak.bytes, "seconds": peak.seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    one = parts.add_parser("data", help=data.__doc__)
    one.add_argument("out", type=Path)
    one.add_argument("--set", nargs=2, action="append", metavar=("PATH", "HELD"))
    for name, usual in (("sample", facts.SAMPLE), ("steps", 20), ("batch", 2)):
        one.add_argument(f"--{name}", type=int, default=usual)
    one = parts.add_parser("command", help=estimated.__doc__)
    one.add_argument("words", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    print(json.dumps({"data": data, "command": estimated}[asked.what](asked)))


if __name__ == "__main__":
    main()
