"""Train, measure and pack the models that come with the library: `make weights`.

    python benchmarks/weights.py                  every model of benchmarks/weights.toml
    python benchmarks/weights.py brains-mri       one of them

What is done is not done again: a training goes on where it stopped, numbers are measured once for each set of
weights. Models are measured as they ship, rounded to bf16. About six hours of two cores in all.
"""

import argparse
import shlex
import shutil
import tempfile
import tomllib
import zlib
from pathlib import Path

from recorded import radiffuse, train

from radiffuse.commands.demo import show
from radiffuse.commands.pack import packed
from radiffuse.data.files import read_json
from radiffuse.report.card import About
from radiffuse.report.gallery import write_picture
from radiffuse.runs.named import SHIPPED, card_of
from radiffuse.training.checkpoint import MODEL, model_sha256

LIST = Path(__file__).with_suffix(".toml")
PICTURES = LIST.parents[1] / "docs" / "pictures"
MOST_MB = 25


def made(model, about, runs):
    """Train, measure and pack one model, and picture what it does."""
    run = runs / model["name"]
    data = [model["data"], "--map", *model["map"]] if model.get("map") else [model["data"]]
    train(model["method"], data, run, model["minutes"], more=shlex.split(model["flags"]))
    said = {"data": about["data"], "licence": about["licence"], "not_for": tuple(about["not_for"])}
    card = About(
        model["name"],
        model["title"],
        main=model.get("main", ""),
        demo=model.get("demo", {}),
        **said,
    )
    with tempfile.TemporaryDirectory(prefix="radiffuse-weights-") as name:
        rounded = Path(name) / model["name"]
        packed(run, rounded, card, "bf16")
        measured = run / "metrics.json"
        sha256 = model_sha256(rounded / MODEL)
        if not measured.is_file() or read_json(measured).get("model_sha256") != sha256:
            radiffuse("evaluate", rounded, "--out", measured, *shlex.split(model["evaluate"]))
    target = SHIPPED / model["name"]
    part = target.with_name(f".{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    packed(run, part, card, "bf16")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    with tempfile.TemporaryDirectory(prefix="radiffuse-weights-") as name:
        panel = show(model["name"], card_of(target), Path(name) / model["name"])
        write_picture(PICTURES / f"{model['name']}.png", panel)
    print(f"{target}: of {MOST_MB} MB of the wheel, all models have {in_wheel(SHIPPED) / 1e6:.1f}")


def in_wheel(folder):
    """Bytes of the files of a folder, compressed as in a wheel."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(len(zlib.compress(path.read_bytes())) for path in files)


def main():
    about = tomllib.loads(LIST.read_text(encoding="utf-8"))
    names = [model["name"] for model in about["model"]]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "weights")
    arguments = parser.parse_args()
    if other := set(arguments.names) - set(names):
        parser.error(f"no model {min(other)}; there are {', '.join(names)}")
    for model in about["model"]:
        if not arguments.names or model["name"] in arguments.names:
            made(model, about, arguments.runs)


if __name__ == "__main__":
    main()
