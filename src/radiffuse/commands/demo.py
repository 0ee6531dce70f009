"""`radiffuse demo`: the models of the library on people they have not seen, one training, one page; no network."""

import contextlib
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import UsageError, UserError, did_you_mean
from ..report.gallery import Panel, write_gallery
from ..runs.named import SHIPPED, card_of, shipped
from . import predict, report, sample, train
from .lock import LOCK, writing
from .panels import panel
from .parsing import parse

MARK = "made-by-radiffuse-demo"
PAGE = "index.html"
TRAINING = "training"
_TRAINED = (
    *("ddpm", "--data", "brains:count=900,size=32", "--preset", "tiny"),
    *("--sampler", "dpm-solver", "--grid", "karras", "--stop", "0.003", "--steps", "20"),
    *("--train.batch", "32", "--train.learning-rate", "2e-3", "--train.cooldown", "0.4"),
)
_SAYS = (
    "Each panel is a model that comes with the library, on made brains of people it has not seen: what was given, what "
    "came out, what is true. The first cases, none picked. The command below a panel does the same with your images."
)


@dataclass(frozen=True)
class Flags:
    """What to show.

    Attributes:
        models: names of models (`radiffuse models`), or "training"; all of them where none is named.
        out: folder to write; one that an earlier demonstration made is replaced.
        minutes: of the training that is shown.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    out: Path = Path("demo-out")
    minutes: float = 1.0


def shown() -> dict[str, dict[str, Any]]:
    """The cards of the models that can be shown, by name."""
    cards: dict[str, Any] = {name: card_of(SHIPPED / name) for name in shipped()}
    known = {name: card for name, card in cards.items() if "demo" in card}
    return dict(sorted(known.items(), key=lambda item: item[1]["demo"]["place"]))


def run(arguments: Sequence[str]) -> None:
    """Predict, train, and write the page."""
    flags = parse(Flags, arguments, "radiffuse demo")
    cards = shown()
    names = flags.models or (*cards, TRAINING)
    for name in names:
        if name not in (*cards, TRAINING):
            hint = did_you_mean(
                name, (*cards, TRAINING), f"there are {', '.join(cards)}, {TRAINING}"
            )
            raise UsageError(f"radiffuse demo: nothing is called {name!r}; {hint}")
    _check(flags.out)
    began = time.perf_counter()
    with writing(flags.out, "radiffuse demo"):
        _begin(flags.out)
        panels = []
        for place, name in enumerate(names, 1):
            about = (
                f"a training of {flags.minutes:g} min" if name == TRAINING else cards[name]["title"]
            )
            print(f"\n[{place} of {len(names)}] {about}", flush=True)
            make = _trained if name == TRAINING else _predicted
            panels.append(make(name, cards.get(name, {}), flags))
        write_gallery(
            flags.out / PAGE, "What diffusion models do for medical images", _SAYS, panels
        )
    print(
        f"\n{(time.perf_counter() - began) / 60:.1f} minutes. Open in a browser: {flags.out / PAGE}"
    )


def _check(out: Path) -> None:
    """Refuse a folder that no demonstration made.

    Raises:
        UserError: it is one.
    """
    if out.exists() and not (out / MARK).is_file():
        raise UserError(f"{out}: is there already and no demonstration; take another --out")


def _begin(out: Path) -> None:
    """An empty folder that says what it is."""
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    (out / MARK).touch()


def _predicted(name: str, card: dict[str, Any], flags: Flags) -> Panel:
    """A model on held-out cases, or what it draws."""
    return show(name, card, flags.out / name)


def show(name: str, card: dict[str, Any], folder: Path) -> Panel:
    """The panel of a model whose predictions, or samples, are put into `folder`."""
    asked = card["demo"]
    words = [name, "--out", str(folder), *shlex.split(asked.get("words", ""))]
    if "data" in asked:
        mapped = ["--map", *asked["map"]] if asked.get("map") else []
        _say(predict.run, [*words, "--data", asked["data"], *mapped])
    else:
        _say(sample.run, words)
    with _silent():
        report.run([str(folder)])
    return panel(card, SHIPPED / name, folder)


def _trained(name: str, card: dict[str, Any], flags: Flags) -> Panel:
    """A training while one waits, and what it draws."""
    folder = flags.out / name
    words = [*_TRAINED, "--train.minutes", f"{flags.minutes:g}", "--out", str(folder)]
    _say(train.run, words)
    _say(sample.run, [str(folder), "--count", "12", "--out", str(folder / "samples")])
    with _silent():
        report.run([str(folder)])
    asked = {
        "title": "A training while you waited",
        "says": f"A tiny network of 32 x 32 pixels after {flags.minutes:g} "
        f"{'minute' if flags.minutes == 1 else 'minutes'}; those above had six to eighteen.",
        "columns": ["drawn = sample"],
        "yours": "radiffuse train ddpm --data PATH --out runs/mine",
    }
    made = panel({"demo": asked, "numbers": []}, folder, folder / "samples")
    return replace(made, link=f"{name}/report.html")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(None):
        yield


def _say(command: Callable[[Sequence[str]], None], words: Sequence[str]) -> None:
    """A command as one would type it, with its progress, without what it prints of its files."""
    name = command.__module__.rpartition(".")[2]
    print(f"$ radiffuse {name} {shlex.join(words)}", flush=True)
    with _silent():
        command(words)
    sys.stderr.flush()
