"""`radiffuse predict RUN`: one file per case and output key, in the format of the input.

A case that --out holds already, all draws of it, is kept, so that the same command goes on after an
interruption.
"""

import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from ..applications.evaluation.progress import progress_bar
from ..applications.segmentation.fusion import staple, vote
from ..data.dataset import Cases
from ..data.image import Image
from ..data.planes import Cut
from ..diffusion.label_maps import likeliest
from ..diffusion.noise import derive
from ..errors import UserError, printable
from ..metrics.estimate import Sums
from ..runs.named import found_run
from ..runs.run import Run, open_run, read_run_config
from ..training import processes
from ..training.memory import check_prediction
from ..training.options import Precision
from . import parsing
from .backbones import CHAIN, ending_like, trace_sheet, write_chain
from .healthy import Outputs, beside_healthy, calibration_name
from .identity import Whose
from .lock import writing
from .outside import say_outside
from .pictures import diverged, not_finite, said_of, volume_like, write_output
from .predictions import Folder
from .slicewise import Slicewise, slicewise
from .source import asked_cases, check_axes, check_given, data_of
from .strips import Strips
from .subset import asked_for, in_units_of, incomplete, open_to_predict, written_of
from .summary import write_summary
from .tiles import in_tiles, told_of

SMALLER = "lower --batch or --size, or name --tile (volumes)"


@dataclass(frozen=True)
class Flags:
    """What to predict.

    Attributes:
        run: run folder of a finished training, or a model: a name of `radiffuse models`, model.zip, hf://OWNER/NAME.
        out: folder to write.
        data: file or folder of the data; those of the training where left out.
        map: key=column words; those of the training where left out.
        size: size every image is brought to, as --size 64 64; that of the training where left out.
        range: LOW HIGH, stored values that become -1 and 1; the training's where left out.
        slices: volumes go slice by slice along a plane of the patient (axial, coronal, sagittal) or axis 0,
            1 or 2 of the array, and are written as volumes; as in training where left out.
        split: train, val or test. Where left out: test, or val where there is no test; other data
            than those of the training, which name no splits, are all predicted.
        samples: draws per case; they differ by their seeds.
        steps: network evaluations of the sampler; the recipe's own number where left out.
        set: field=value words, settings of the recipe that only prediction reads.
        seed: a case's draw depends on this, its name and the draw's number alone.
        chosen: which series of DICOM data are read, what is shown of their names, and whose the outputs are.
        batch: cases, or slices, at once, for speed and memory; a case differs by rounding alone, with 1 not at all.
        precision: of the networks; bf16 is faster where the processor knows it, and rounds.
        tile: sides of overlapping tiles, one or one an axis, by which networks see images, for volumes that do
            not fit into memory whole; whole where left out.
        overlap: of neighbouring tiles, as a share of their side.
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
    steps: int | None = None
    set: tuple[str, ...] = ()
    seed: int = 0
    batch: int = 16
    chosen: Annotated[Whose, tyro.conf.OmitArgPrefixes] = field(default_factory=Whose)
    precision: Precision = "fp32"
    tile: tuple[int, ...] = ()
    overlap: float = 0.25


def run(arguments: Sequence[str], cases: Cases | None = None) -> None:
    """Predict the cases of the split that are not there yet, then write `predictions.json`.

    Args:
        arguments: the words after `radiffuse predict`.
        cases: to predict, in place of the data that the words name.
    """
    flags = parsing.parse(Flags, arguments, "radiffuse predict")
    parsing.positive({"--samples": flags.samples, "--steps": flags.steps, "--batch": flags.batch})
    flags = replace(flags, run=found_run(flags.run))
    read_run_config(flags.run)
    with writing(flags.out, "radiffuse predict"):
        _fill(flags, arguments, cases)


def _fill(flags: Flags, arguments: Sequence[str], given: Cases | None) -> None:
    """Fill the folder, which no other command writes into."""
    processes.start()
    opened = open_run(flags.run)
    method = opened.config.method
    if opened.generative:
        raise UserError(
            f"{flags.run}: {method} makes images from nothing but seeds; "
            f"use `radiffuse sample {flags.run} --count N --out DIR`"
        )
    opened = opened.with_steps(flags.steps).with_settings(parsing.pairs(flags.set, "--set"))
    opened = in_tiles(opened.with_precision(flags.precision), flags.tile, flags.overlap)
    opened, judged, notice = beside_healthy(opened)
    read = partial(open_to_predict, opened=opened, words=flags.map)
    source, every = data_of(flags, opened, given, lambda source, _: read(source))
    check_axes(opened, every, source)
    cases = incomplete(asked_cases(every, flags.split, source, opened), opened.recipe)
    check_given(method, opened.recipe, cases.keys, source)
    flags.chosen.check(cases)
    settings = {
        "method": method,
        "preset": opened.config.preset,
        "model_sha256": opened.model_sha256,
        "data": cases.fingerprint,
        "split": flags.split or "/".join(sorted(set(cases.split_of))),
        "samples": flags.samples,
        "steps": flags.steps,
        "set": sorted(flags.set),
        "seed": flags.seed,
        "precision": flags.precision,
        **told_of(flags.tile, flags.overlap),
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
    done = folder.begin(_coming(cases.ids, written_of(opened.recipe), flags.samples))
    networks, count = opened.objective.players.values(), len(set(cases.ids) - set(done))
    with folder.going_on(), progress_bar("predicting", count, networks) as said:
        _predict(opened, judged, cases, cut, flags, folder, done, said)
    processes.barrier()
    if processes.is_main():
        folder.gather(cases.ids, done)
        if CHAIN in opened.recipe.task.writes:
            trace_sheet(flags.out, sorted(flags.out.glob(f"*-{CHAIN}.*")))
        print(f"{len(cases)} cases predicted in {flags.out}")
        say_outside(opened, seen, done)
        if notice:
            print(f"note: {printable(notice)}", file=sys.stderr)


def _coming(ids: Sequence[str], keys: Sequence[str], samples: int) -> set[str]:
    """Names, but for their ending, of the files that a prediction may write."""
    ends = [""] if samples == 1 else [f"-{sample:02d}" for sample in range(samples)]
    return {f"{case}{end}-{key}" for case in ids for end in ends for key in keys}


def _predict(
    opened: Run,
    judged: Callable[[Outputs], Outputs],
    cases: Cases,
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
    while parts:
        rows = parts.pop(0)
        said(len(missing) - len(rows) - sum(map(len, parts)))
        bad: dict[int, str] = {}
        with folder.staged(f"{rows[0]:06d}") as stage:
            there = replace(flags, out=stage)
            try:
                entries = list(_batch(opened, judged, cases, cut, rows, there, bad, strips))
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
) -> Iterator[dict[str, Any]]:
    """Predict some cases, and say what was written for each.

    From the first draw of a case that is not finite on nothing of it is written; `bad` is told its
    row and key.
    """
    batch = {key: value.to(opened.device) for key, value in cases.batch(rows).items()}
    if hasattr(opened.recipe, "check"):
        opened.recipe.check(batch)
    sums: dict[str, Sums] = {}
    maps: dict[str, list[Tensor]] = {}
    first: dict[int, dict[str, Any]] = {}

    def answer(told: Outputs) -> Outputs:
        return judged(opened.recipe.predict(opened.objective, told))

    for sample in range(flags.samples):
        seeds = [derive(flags.seed, cases.ids[row], sample) for row in rows]
        told = {**batch, "seed": torch.tensor(seeds, device=opened.device)}
        outputs = answer(told) if cut is None else cut(answer, told)
        for key, value in outputs.items():
            if flags.samples > 1 and (value.is_floating_point() or value.is_complex()):
                sums.setdefault(key, Sums()).add(value.detach().cpu())
            elif flags.samples > 1 and value.dim() > 2:
                maps.setdefault(key, []).append(value.cpu())
        for place, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
            wanted = partial(asked_for, opened.recipe, batch, place)
            one = {key: value[place] for key, value in outputs.items() if wanted(key)}
            if fault := not_finite(one):
                bad.setdefault(row, fault)
            if row in bad:
                continue
            end = f"-{sample:02d}" if flags.samples > 1 else ""
            entry = {**_written(opened, cases, row, one, flags.out, end), "seed": seed}
            entry = entry if cut is None else cut.told(entry, batch)
            first.setdefault(row, entry)
            yield entry
    good = {place: row for place, row in enumerate(rows) if row not in bad}
    if CHAIN in outputs:  # chains have no mean: each lies as it likes
        return
    voted = {key: vote(torch.stack(several)) for key, several in maps.items()}
    for row, shown in strips(good, told, {**outputs, **voted}, sums).items():
        first[row].update(shown)
    if sums:
        yield from _summed(
            opened, cases, good, sums, flags, partial(asked_for, opened.recipe, batch)
        )
    if maps:
        yield from _fused(opened, cases, good, maps, sums, flags)


def _written(
    opened: Run, cases: Cases, row: int, outputs: Mapping[str, Tensor], out: Path, end: str
) -> dict[str, Any]:
    """Write the outputs of one draw of one case, and say what was written."""
    task = opened.recipe.task
    if CHAIN in outputs:
        file = write_chain(outputs, out / f"{cases.ids[row]}{end}-{CHAIN}{ending_like(cases)}")
        return {
            **_who(cases, row),
            "files": {CHAIN: file},
            "values": {"length": int(outputs["length"])},
        }
    like = _like(opened, cases, row)
    written = {
        key: write_output(
            value,
            _like(opened, cases, row, key),
            out / f"{cases.ids[row]}{end}-{key}",
            key in task.raw,
        )
        for key, value in outputs.items()
        if not key.startswith("_")
    }
    files = {key: item for key, item in written.items() if isinstance(item, str)}
    values = {key: item for key, item in written.items() if not isinstance(item, str)}
    return {**_who(cases, row), "files": files, "values": values, **said_of(outputs, like, task)}


def _who(cases: Cases, row: int) -> dict[str, Any]:
    """The case and its patient, and what the data call the case where that is no name of a file."""
    name = {"name": cases.names[row]} if cases.names[row] != cases.ids[row] else {}
    return {"case": cases.ids[row], **name, "patient": cases.patients[row]}


def _summed(
    opened: Run,
    cases: Cases,
    rows: Mapping[int, int],
    sums: Mapping[str, Sums],
    flags: Flags,
    wanted: Callable[[int, str], bool],
) -> Iterator[dict[str, Any]]:
    """Write CASE-KEY-mean like a draw, and CASE-KEY-std and the like as float NIfTI in stored units."""
    for place, row in rows.items():
        files: dict[str, Any] = {}
        for key in (key for key in sums if not key.startswith("_") and wanted(place, key)):
            like = _like(opened, cases, row, key)
            if sums[key].mean[place].dim() == len(like.size) + 1:
                name = flags.out / f"{cases.ids[row]}-{key}"
                files |= write_summary(opened, key, sums, place, like, name)
        if files:
            yield {
                **_who(cases, row),
                "samples": flags.samples,
                "files": files,
                "values": {},
            }


def _fused(
    opened: Run,
    cases: Cases,
    rows: Mapping[int, int],
    maps: Mapping[str, list[Tensor]],
    sums: Mapping[str, Sums],
    flags: Flags,
) -> Iterator[dict[str, Any]]:
    """Write one label map from the draws, CASE-KEY-vote and CASE-KEY-staple, like a draw.

    Where the draws say what to expect, CASE-mask-mean is the likeliest label of the mean of that.
    """
    fused = {}
    for key, several in maps.items():
        draws = torch.stack(several)
        fused[f"{key}-vote"], fused[f"{key}-staple"] = vote(draws), staple(draws)
    if "mask" in maps and "expected" in sums:
        fused["mask-mean"] = likeliest(sums["expected"].mean)
    for place, row in rows.items():
        one = {name: value[place] for name, value in fused.items()}
        yield {**_written(opened, cases, row, one, flags.out, ""), "samples": flags.samples}


def _like(opened: Run, cases: Cases, row: int, key: str = "") -> Image:
    """The stored image whose type, range and geometry the output `key` takes: its own if there."""
    task = opened.recipe.task
    if key in cases.image_keys:
        return in_units_of(opened, key, cases.image(row, key), key)
    if task.pictures:
        return volume_like(opened, cases, row)
    wanted = (*task.reads, *task.given, *cases.image_keys)
    keys = [key for key in wanted if key in cases.image_keys]
    if keys:
        return in_units_of(opened, key, cases.image(row, keys[0]), keys[0])
    given = cases.columns[task.given[0]].image(cases.rows[row])
    return Image(torch.zeros(1, *given.size), given.affine, range=(0.0, 1.0), format=".nii.gz")
