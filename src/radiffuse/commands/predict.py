"""`radiffuse predict RUN`: one file per case and output key, in the format of the input.

A case that --out holds already, all draws of it, is kept, so that the same command goes on after an
interruption.
"""

import sys
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from ..applications.evaluation.progress import progress_bar
from ..clinic.codes import read_codes
from ..data.apart import check_apart
from ..data.dataset import Cases
from ..data.planes import Cut
from ..diffusion.noise import derive
from ..errors import UserError, printable
from ..runs.named import found_run
from ..runs.run import Run, read_run_config
from ..training import processes
from ..training.memory import check_prediction
from ..training.options import Precision
from . import parsing
from .backbones import CHAIN, trace_sheet
from .draws import Draws
from .grid import Grid, told_of_grid, unresized
from .healthy import Outputs, calibration_name
from .identity import Whose
from .lock import writing
from .nodes import PushFlags, send, target
from .outside import say_outside
from .pictures import diverged, not_finite
from .predictions import Folder
from .ready import Ready, first_time, ready
from .slicewise import Slicewise, slicewise
from .source import asked_cases, check_axes, check_given, data_of
from .strips import Strips
from .subset import asked_for, incomplete, one_way, open_to_predict, written_of
from .tiles import told_of
from .written import Writer

SMALLER = "lower --batch or --size, or name --tile (volumes)"


@dataclass(frozen=True)
class Flags(PushFlags):
    """What to predict.

    Attributes:
        run: run folder of a finished training, or a model: a name of `radiffuse models`, model.zip, hf://OWNER/NAME.
        out: folder to write.
        data: file or folder of the data, or dicomweb://... or dimse://...; those of the training where left out.
        map: key=column words; those of the training where left out.
        size: size every image is brought to, as --size 64 64; that of the training where left out.
        range: LOW HIGH, stored values that become -1 and 1; the training's where left out.
        slices: volumes go slice by slice along a plane of the patient (axial, coronal, sagittal) or axis 0,
            1 or 2 of the array, and are written as volumes; as in training where left out.
        split: train, val or test. Where left out: test, or val where there is no test; other data
            than those of the training, which name no splits, are all predicted.
        samples: draws per case; they differ by their seeds.
        keep: of several draws, what they say together (result: answer, probability or mean, uncertainty), or each of
            them as well (draws).
        codes: labels.csv, what the labels of a map are in DICOM segmentations; as their names say where left out.
        steps: network evaluations of the sampler; the recipe's own number where left out.
        set: field=value words, settings of the recipe that only prediction reads.
        seed: a case's draw depends on this, its name and the draw's number alone.
        chosen: which series of DICOM data are read, what is shown of their names, and whose the outputs are.
        batch: cases, or slices, at once, for speed and memory; a case differs by rounding alone, with 1 not at all.
        precision: of the networks; bf16 is faster where the processor knows it, and rounds.
        tile: sides of overlapping tiles, one or one an axis, by which networks see images, for volumes that do
            not fit into memory whole; whole where left out.
        overlap: of neighbouring tiles, as a share of their side.
        grid: that outputs lie on where --size is given: as the model sees them (model), or as each input is stored
            (input): labels by the nearest voxel, all else by linear interpolation.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path
    data: str | None = None
    map: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    range: tuple[float, ...] = ()
    slices: Cut | None = None
    split: str | None = None
    samples: int = 1
    keep: Literal["result", "draws"] = "result"
    codes: Path | None = None
    steps: int | None = None
    set: tuple[str, ...] = ()
    seed: int = 0
    batch: int = 16
    chosen: Annotated[Whose, tyro.conf.OmitArgPrefixes] = field(default_factory=Whose)
    precision: Precision = "fp32"
    tile: tuple[int, ...] = ()
    overlap: float = 0.25
    grid: Grid = "model"


def run(arguments: Sequence[str], cases: Cases | None = None, opened: Ready | None = None) -> None:
    """Predict the cases of the split that are not there yet, then write `predictions.json`.

    Args:
        arguments: the words after `radiffuse predict`.
        cases: to predict, in place of the data that the words name.
        opened: the run that the words name, where it is opened already.
    """
    flags = parsing.parse(Flags, arguments, "radiffuse predict")
    parsing.positive({"--samples": flags.samples, "--steps": flags.steps, "--batch": flags.batch})
    flags = replace(flags, run=opened.run.path if opened else found_run(flags.run))
    made_with = read_run_config(flags.run)
    if cases is None:
        check_apart(flags.out, made_with.data.path if flags.data is None else flags.data)
    address = target(flags.push, flags.node)
    with writing(flags.out, "radiffuse predict"):
        _fill(flags, arguments, cases, opened or ready(flags))
        if address and processes.is_main():
            print(send(address, flags.node, flags.out))


def _fill(flags: Flags, arguments: Sequence[str], given: Cases | None, asked: Ready) -> None:
    """Fill the folder, which no other command writes into."""
    opened, judged, notice = asked.run, asked.judged, asked.notice
    method = opened.config.method
    read = partial(open_to_predict, opened=opened, words=flags.map)
    source, every = data_of(flags, opened, given, lambda source, _: read(source), False)
    check_axes(opened, every, source)
    cases = incomplete(asked_cases(every, flags.split, source, opened), opened.recipe)
    cases = one_way(cases, opened.recipe)
    check_given(method, opened.recipe, cases.keys, source)
    flags.chosen.check(cases)
    recipe = opened.recipe
    simulated = recipe.simulates(cases.keys) if hasattr(recipe, "simulates") else ""
    settings = {
        "method": method,
        "preset": opened.config.preset,
        "model_sha256": opened.model_sha256,
        "data": cases.fingerprint,
        "split": flags.split or "/".join(sorted(set(cases.split_of))),
        "samples": flags.samples,
        "keep": flags.keep if flags.samples > 1 else None,
        "steps": flags.steps,
        "set": sorted(flags.set),
        "seed": flags.seed,
        "precision": flags.precision,
        **told_of(flags.tile, flags.overlap),
        **({"grid": flags.grid} if flags.grid != "model" else {}),
        "map": dict(source.map) or None,
        "size": list(source.size) or None,
        "range": list(flags.range) or None,
        "slices": None if source.slices == "none" else source.slices,
        **flags.chosen.told(source),
        "calibration": calibration_name(opened),
    }
    folder = Folder(flags.out, flags.run, settings, ["predict", *arguments])
    neighbours = getattr(opened.recipe, "NEIGHBOURS", ())
    cut = slicewise(cases, opened.recipe.task, neighbours, flags.batch)
    seen, cases = cases, cases.whole()
    resized = flags.grid == "input" and source.size and given is None
    own = unresized(cases, source, read) if resized else None
    done = folder.begin(_coming(cases.ids, written_of(opened.recipe), flags.samples))
    if simulated and processes.is_main():
        print(f"note: {printable(f'{source.path}: {simulated}')}", file=sys.stderr)
    networks, count = opened.objective.players.values(), len(set(cases.ids) - set(done))
    with folder.going_on(), progress_bar("predicting", count, networks) as said:
        _predict(opened, judged, cases, own, cut, flags, folder, done, said)
    processes.barrier()
    if processes.is_main():
        folder.gather(cases.ids, done)
        if CHAIN in opened.recipe.task.writes:
            trace_sheet(flags.out, sorted(flags.out.glob(f"*-{CHAIN}.*")))
        print(f"{len(cases)} cases predicted in {flags.out}")
        say_outside(opened, seen, done)
        for line in filter(None, (notice, told_of_grid(flags.grid, source))):
            print(f"note: {printable(line)}", file=sys.stderr)


def _coming(ids: Sequence[str], keys: Sequence[str], samples: int) -> set[str]:
    """Names, but for their ending, of the files that a prediction may write."""
    ends = [""] if samples == 1 else [f"-{sample:02d}" for sample in range(samples)]
    return {f"{case}{end}-{key}" for case in ids for end in ends for key in keys}


def _predict(
    opened: Run,
    judged: Callable[[Outputs], Outputs],
    cases: Cases,
    own: Cases | None,
    cut: Slicewise | None,
    flags: Flags,
    folder: Folder,
    done: Container[str],
    said: Callable[[float], None],
) -> None:
    """Predict those of this process's share of the cases that are not done, batch by batch."""
    ids = cases.ids
    share = processes.share(len(cases), processes.rank(), processes.world())
    missing = [row for row in share if ids[row] not in done]
    # measured k-space is reconstructed scan by scan: a scan that cannot be is named
    size = 1 if cut or "kspace" in cases.keys else flags.batch
    parts = [missing[first : first + size] for first in range(0, len(missing), size)]
    if parts:
        _estimate(opened, cases, cut, parts[0], flags)
    strips = Strips(opened, cases, folder.path, cut is not None)
    codes = read_codes(flags.codes) if flags.codes else None
    writer = Writer(opened, cases, codes, flags.chosen.identity_for(folder.path), own)
    while parts:
        rows = parts.pop(0)
        said(len(missing) - len(rows) - sum(map(len, parts)))
        bad: dict[int, str] = {}
        with folder.staged(f"{rows[0]:06d}") as stage:
            there = replace(flags, out=stage)
            try:
                entries = list(_batch(opened, judged, cases, cut, rows, there, bad, strips, writer))
            except UserError as error:
                if (
                    len(rows) > 1
                ):  # one by one: what can be is predicted, and the case that cannot is named
                    parts[:0] = [[row] for row in rows]
                    continue
                raise UserError(f"case {ids[rows[0]]}: {error}") from None
            lost = {ids[row] for row in bad}
            entries = [entry for entry in entries if entry["case"] not in lost]
            folder.keep(f"{rows[0]:06d}", entries)
            folder.move(stage, entries)
        for row, key in bad.items():
            raise diverged(opened, ids[row], key)


def _estimate(
    opened: Run, cases: Cases, cut: Slicewise | None, rows: Sequence[int], flags: Flags
) -> None:
    """Say what memory the first batch takes.

    Raises:
        UserError: more than is free.
    """
    shapes = tuple(tuple(value.shape) for value in cases.batch(rows[:1]).values())
    if not first_time(opened, (len(rows), shapes)):
        return

    def work(many: int) -> None:
        part = [rows[k % len(rows)] for k in range(many)]
        batch = {key: value.to(opened.device) for key, value in cases.batch(part).items()}
        told = {**batch, "seed": torch.arange(many, device=opened.device)}
        answer = partial(opened.recipe.predict, opened.objective)
        _ = answer(told) if cut is None else cut(answer, told)

    last = getattr(opened.recipe, "last", None)
    line = check_prediction(
        opened.objective.players,
        work,
        len(rows),
        SMALLER,
        None if last is None else partial(last, opened.objective),
    )
    if line and processes.is_main():
        print(f"note: {line}", file=sys.stderr)


def _batch(
    opened: Run,
    judged: Callable[[Outputs], Outputs],
    cases: Cases,
    cut: Slicewise | None,
    rows: Sequence[int],
    flags: Flags,
    bad: dict[int, str],
    strips: Strips,
    writer: Writer,
) -> Iterator[dict[str, Any]]:
    """Predict some cases, and say what was written for each.

    From the first draw of a case that is not finite on nothing of it is written; `bad` is told its
    row and key.
    """
    batch = {key: value.to(opened.device) for key, value in cases.batch(rows).items()}
    if hasattr(opened.recipe, "check"):
        opened.recipe.check(batch)
    several = Draws(flags.samples)
    first: dict[int, dict[str, Any]] = {}

    def answer(told: Outputs) -> Outputs:
        return judged(opened.recipe.predict(opened.objective, told))

    for sample in range(flags.samples):
        seeds = [derive(flags.seed, cases.ids[row], sample) for row in rows]
        told = {**batch, "seed": torch.tensor(seeds, device=opened.device)}
        outputs = answer(told) if cut is None else cut(answer, told)
        several.add(outputs, seeds)
        # chains have no mean: each lies as it likes
        kept = flags.samples == 1 or flags.keep == "draws" or CHAIN in outputs
        for place, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
            wanted = partial(asked_for, opened.recipe, batch, place)
            one = {key: value[place] for key, value in outputs.items() if wanted(key)}
            if fault := not_finite(one):
                bad.setdefault(row, fault)
            if row in bad or not kept:
                continue
            draw = sample if flags.samples > 1 else None
            entry = {**writer.draw(row, one, flags.out, draw), "seed": seed}
            entry = entry if cut is None else cut.told(entry, batch)
            writer.report(entry, row, flags.out, draw, cut.axis if cut else 0)
            first.setdefault(row, entry)
            yield entry
    good = {place: row for place, row in enumerate(rows) if row not in bad}
    if CHAIN in outputs:
        return
    if flags.samples > 1:
        for place, row in good.items():
            wanted = partial(asked_for, opened.recipe, batch, place)
            for entry in several.entries(
                writer, place, row, flags.out, flags.keep == "draws", wanted
            ):
                if cut is not None and "seeds" in entry:
                    entry |= cut.told(entry, batch)
                writer.report(entry, row, flags.out, axis=cut.axis if cut else 0)
                first.setdefault(row, entry)
                yield entry
    shown = strips(good, told, {**outputs, **several.voted()}, several.sums)
    for row, picture in shown.items():
        if "given" in picture["shown"]:
            picture["shown"] |= writer.viewed(row, first[row], flags.out, strips.out)
        first[row].update(picture)
        first[row]["written"] += writer.pictures(strips.out, picture["shown"])
    for row in rows:
        writer.forget(row)
