"""One measurement of `volumes.py`, alone in a process: prints one JSON object.

Peaks are those of the kernel (VmHWM of Linux), in bytes above what the process held when the work began.
"""

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np
import torch

from radiffuse.data import facts, kept
from radiffuse.data.dataset import open_cases
from radiffuse.training.loop import train
from radiffuse.training.options import TrainOptions

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def resident(which="VmRSS"):
    """Bytes that this process holds (VmRSS), or held at most (VmHWM)."""
    return 1024 * int(re.search(rf"{which}:\s+(\d+)", STATUS.read_text())[1])


class Peak:
    """Bytes at most above those at the beginning, and seconds, of what happens inside."""

    def __enter__(self):
        CLEAR.write_text(RESET_PEAK)
        self.before, self.began = resident(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.began
        self.bytes = resident("VmHWM") - self.before


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
    """Open, measure and train on a data set of which a column holds at most `held` bytes."""
    kept.LEAST_HELD = kept.MOST_HELD = asked.held
    facts.SAMPLE = asked.sample
    facts.AT_ONCE = min(facts.AT_ONCE, asked.sample)
    with Peak() as peak:
        cases = open_cases(asked.data)
        cases.facts()
        options = TrainOptions(steps=asked.steps, batch=asked.batch)
        train(Scale(), cases.split("train"), options, asked.out)
    stored = sum(path.stat().st_size for path in [asked.data, *asked.data.glob("*")])
    return {"seconds": peak.seconds, "bytes": peak.bytes, "stored": stored, "cases": len(cases)}


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
    for name in ("data", "out"):
        one.add_argument(name, type=Path)
    for name, usual in (
        ("held", 1 << 28),
        ("sample", facts.SAMPLE),
        ("steps", 20),
        ("batch", 2),
    ):
        one.add_argument(f"--{name}", type=int, default=usual)
    one = parts.add_parser("command", help=estimated.__doc__)
    one.add_argument("words", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    print(json.dumps({"data": data, "command": estimated}[asked.what](asked)))


if __name__ == "__main__":
    main()
