"""`radiffuse pack RUN --out model.zip`: weights, configuration and card in one file, no data."""

import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..data.files import check_file, replacing, write_json, write_text
from ..errors import UsageError
from ..report.card import About, card, readme, said_numbers, trained
from ..report.source import read_source
from ..runs.named import CARD, card_of, found_run
from ..runs.packed import Stored, pack, without_paths
from ..runs.run import read_run_config
from ..training.progress import say
from .parsing import parse


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a card is told, and how numbers are stored: flags of all commands that pack.

    Attributes:
        title: what the model does, in a sentence.
        data: what it was trained on, in a sentence: of whom, where, how measured.
        licence: of the weights, as Apache-2.0 or CC-BY-NC-4.0.
        not_for: what it must not be used for, a sentence each.
        stored: numbers as they are (fp32), or matrices and kernels rounded to 8 bits in half the room (bf16).
    """

    title: str = ""
    data: str = ""
    licence: str = ""
    not_for: tuple[str, ...] = ()
    stored: Stored = "fp32"

    def about(self, name: str) -> About:
        """For the card of a model of that name."""
        return About(name, self.title, self.data, self.licence, self.not_for)


@dataclass(frozen=True, kw_only=True)
class Flags(Told):
    """What to pack, and what the card says.

    Attributes:
        run: run folder of a finished training.
        out: file to write, ending in .zip.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path


def run(arguments: Sequence[str]) -> None:
    """Write the file, in one move."""
    flags = parse(Flags, arguments, "radiffuse pack")
    if flags.out.suffix != ".zip":
        raise UsageError(f"--out {flags.out}: name a file that ends in .zip")
    check_file(flags.out)
    with tempfile.TemporaryDirectory(prefix="radiffuse-") as name:
        folder = Path(name) / "model"
        made = packed(flags.run, folder, flags.about(flags.out.stem), flags.stored)
        with replacing(flags.out) as target, zipfile.ZipFile(target, "w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder), zipfile.ZIP_DEFLATED)
    say_what_is_missing(made)
    print(f"{flags.out}: {made['method']}, {flags.out.stat().st_size / 1e6:.1f} MB")
    if made["numbers"]:
        print(f"measured: {said_numbers(made)}")


def packed(run: Path, folder: Path, about: About, stored: Stored) -> dict[str, Any]:
    """Pack a run into a new folder, with its card, which is given back.

    Raises:
        UserError: as `runs.packed.pack`; or the run is a packed model already.
    """
    run = found_run(run)
    if card_of(run) is not None:
        raise UsageError(f"{run}: is a packed model already")
    command = without_paths(read_run_config(run).command)
    pack(run, folder, stored)
    made = card(folder, about, {"command": command, **trained(read_source(run).log)})
    write_text(folder / "README.md", readme(made))
    write_json(folder / CARD, made)
    return made


def say_what_is_missing(card: dict[str, Any]) -> None:
    """A notice of each thing that a card should say and does not."""
    said = {"title": card["title"], "data": card["data"]["about"], "licence": card["licence"]}
    for missing in (name for name, text in said.items() if not text):
        say(f"note: the card says nothing of the {missing}: --{missing} TEXT")
    if not card["numbers"]:
        say("note: the card holds no numbers: `radiffuse evaluate` the run first")
