"""Writing what was predicted of a case: in the format of its input, each file with its role and hash.

A case that came as DICOM goes back as DICOM, into its own study (`clinic.study`): images as derived series, label
maps and probabilities as segmentations, maps as parametric maps, classes and scores as a structured report. What
DICOM has no object for (a displacement, a map of a picture without a place) is written as NIfTI.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..clinic.codes import Label, Naming
from ..clinic.meanings import Meaning, meaning
from ..clinic.source import Identity, kept
from ..clinic.study import NoObject, Study
from ..data.dataset import Cases
from ..data.formats.by_ending import natural_ending, read_image
from ..data.image import Image, orientation_of
from ..data.made import Made
from ..errors import printable
from ..report.layer import write_volume
from ..report.strip import FOLDER
from ..runs.run import Run
from ..training import processes
from .backbones import CHAIN, ending_like, write_chain
from .findings import findings
from .grid import on_own_grid
from .pictures import as_output, displaced, said_of, volume_like, write_output
from .subset import in_units_of

__all__ = ["REPORT", "Writer", "listed", "made_by"]

REPORT = "report"
"""The key of a structured report."""


def made_by(opened: Run, kind: Any = "derived") -> Made:
    """What makes an image, but for what it is."""
    config = opened.config
    return Made(
        "",
        kind,
        config.method,
        config.preset,
        opened.path.resolve().name,
        opened.model_sha256,
        __version__,
    )


def listed(folder: Path, name: str, key: str, role: str, made: Made) -> list[dict[str, Any]]:
    """What `predictions.json` says of a file, or of every file of a folder."""
    path = folder / name
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    about = {"kind": made.kind, "method": made.method, "run": made.run, "version": made.version}
    return [
        {
            "file": file.relative_to(folder).as_posix(),
            "key": key,
            "role": role,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            **about,
        }
        for file in files
    ]


@dataclass
class Writer:
    """Writes what was predicted of some cases.

    Attributes:
        opened: the run.
        cases: all that are predicted.
        codes: what the labels of a map are; None: their names say it.
        identity: what of a DICOM header outputs may carry.
        own: the cases on the grids that outputs are brought to, where these are others.
        made: what makes them.
        studies: of cases that came as DICOM, by row.
        said: notices so far.
    """

    opened: Run
    cases: Cases
    codes: Mapping[int, Label] | None = None
    identity: Identity = kept
    own: Cases | None = None
    made: Made = field(init=False)
    studies: dict[int, Study | None] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.made = made_by(self.opened)

    def who(self, row: int) -> dict[str, Any]:
        """The case and its patient, and what the data call the case where that is no name of a file."""
        cases = self.cases
        name = {"name": cases.names[row]} if cases.names[row] != cases.ids[row] else {}
        return {"case": cases.ids[row], **name, "patient": cases.patients[row]}

    def draw(
        self, row: int, outputs: Mapping[str, Tensor], out: Path, draw: int | None = None
    ) -> dict[str, Any]:
        """Write the outputs of one draw of one case, and say what was written.

        Args:
            row: of the case.
            outputs: by key; of a method's own ("_KEY") none is written.
            out: folder.
            draw: its number where there are several.
        """
        end = "" if draw is None else f"-{draw:02d}"
        if CHAIN in outputs:
            name = f"{self.cases.ids[row]}{end}-{CHAIN}{ending_like(self.cases)}"
            file = write_chain(outputs, out / name)
            return {
                **self.who(row),
                "files": {CHAIN: file},
                "values": {"length": int(outputs["length"])},
                "written": listed(
                    out, file, CHAIN, "answer" if draw is None else "draw", self.made
                ),
            }
        entry: dict[str, Any] = {**self.who(row), "files": {}, "values": {}, "written": []}
        labels = outputs["probability"].shape[0] if "probability" in outputs else None
        for key, value in outputs.items():
            if not key.startswith("_"):
                self.put(entry, row, key, value, out, draw, labels)
        return {**entry, **said_of(outputs, self.like(row), self.opened.recipe.task)}

    def put(
        self,
        entry: dict[str, Any],
        row: int,
        key: str,
        value: Tensor,
        out: Path,
        draw: int | None = None,
        labels: int | None = None,
        raw: bool | None = None,
    ) -> None:
        """Write one output and note it in the entry of its case; numbers go into its values.

        Args:
            entry: to add to.
            row: of the case.
            key: of the output, "denoised" or "denoised-std".
            value: image, label map, map or numbers.
            out: folder.
            draw: its number where several are kept.
            labels: of a label map, how many there are beside the background.
            raw: it is stored as the numbers it is; None: as the task says of the key.
        """
        base = key.partition("-")[0]
        raw = base in self.opened.recipe.task.raw if raw is None else raw
        like = self.like(row, base)
        if self.own is not None:
            value, like = on_own_grid(value, key, like, self.like(row, base, self.own))
        end = "" if draw is None else f"-{draw:02d}"
        name = out / f"{self.cases.ids[row]}{end}-{key}"
        made = replace(self.made, what=self.meaning(key, draw).said)
        try:
            dicom = self._dicom(row, key, value, like, name, draw, labels, raw)
        except NoObject as error:
            self.notice(f"{key}: {error}; written as NIfTI")
            dicom = None
        if like.files:
            like = replace(like, format=".nii.gz")
        written = dicom or write_output(value, like, name, raw, made)
        if isinstance(written, str):
            entry["files"][key] = written
            entry["written"] += listed(out, written, key, self.meaning(key, draw).role, made)
        else:
            entry["values"][key] = written

    def report(
        self, entry: dict[str, Any], row: int, out: Path, draw: int | None = None, axis: int = 0
    ) -> None:
        """Write the classes and scores of a case that came as DICOM as a structured report.

        Args:
            entry: what is there of the case, values among it.
            row: of the case.
            out: folder.
            draw: its number where several are kept.
            axis: that numbers the slices of a volume whose values are one a slice.
        """
        facts = self.opened.manifest.get("data", {}).get("facts", {})
        study = self.study(row)
        found = (
            []
            if study is None
            else findings(entry, facts.get("class_names") or (), self.like(row), axis)
        )
        if study is None or not found:
            return
        end = "" if draw is None else f"-{draw:02d}"
        what = self.meaning(REPORT, draw)
        try:
            path = study.report(found, out / f"{self.cases.ids[row]}{end}-{REPORT}.dcm", what)
        except NoObject as error:
            self.notice(f"{REPORT}: {error}; classes and scores stand in predictions.json alone")
            return
        made = replace(self.made, what=what.said)
        entry["files"][REPORT] = path.name
        entry["written"] += listed(out, path.name, REPORT, what.role, made)

    def viewed(self, row: int, entry: Mapping[str, Any], out: Path, folder: Path) -> dict[str, Any]:
        """Copies as NIfTI of the volumes that were written of a DICOM case, for the viewer of the report."""
        made: dict[str, str] = {}
        if self.study(row) is not None:
            for key, file in entry["files"].items():
                image = None if key == REPORT else read_image(out / file)
                if image is not None and orientation_of(image) and image.affine is not None:
                    made[key] = f"{FOLDER}/{self.cases.ids[row]}-{key}.nii.gz"
                    array = image.data[0].double().numpy()
                    write_volume(folder / made[key], array, image.affine.numpy())
        return {"made": made} if made else {}

    def pictures(self, folder: Path, shown: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What `predictions.json` says of the pictures of a case, and of copies for the viewer."""
        given = {**shown.get("given", {}), **shown.get("made", {})}
        found = listed(folder, shown["file"], "shown", "picture", self.made)
        return found + [
            one
            for key, file in given.items()
            for one in listed(folder, file, key, "picture", self.made)
        ]

    def meaning(self, key: str, draw: int | None = None) -> Meaning:
        """What an output of this method is."""
        return meaning(key, draw, self.opened.recipe.task.name)

    def study(self, row: int) -> Study | None:
        """The study of a case that came as DICOM; None of others."""
        if row not in self.studies:
            images = list(self._given(row))
            there = bool(images) and all(image.files for image in images[:1])
            self.studies[row] = (
                Study.of(images, self.made, self.identity, self.notice) if there else None
            )
        return self.studies[row]

    def forget(self, row: int) -> None:
        """Done with a case."""
        self.studies.pop(row, None)

    def _given(self, row: int) -> Iterator[Image]:
        """The images that a prediction of the case was made of."""
        task = self.opened.recipe.task
        keys = [key for key in self.cases.image_keys if key in (*task.given, *task.reads)]
        if task.given and (found := [key for key in task.given if key in keys]):
            keys = found
        for key in keys or self.cases.image_keys:
            yield (self.own or self.cases).image(row, key)

    def notice(self, line: str) -> None:
        """Say a line once, whichever case it is of."""
        if line not in self.said and processes.is_main():
            print(f"note: {printable(line)}", file=sys.stderr)
        self.said.add(line)

    def _dicom(
        self,
        row: int,
        key: str,
        value: Tensor,
        like: Image,
        name: Path,
        draw: int | None,
        labels: int | None,
        raw: bool,
    ) -> str | None:
        """Write an output as a DICOM object, and return its name; None where it is no image or DICOM has no object."""
        what, study = self.meaning(key, draw), self.study(row)
        flat = value.dim() != len(like.size) + 1
        several = what.form == "map" and not flat and len(value) > 1
        if study is None or flat or several or displaced(key):
            return None
        path = name.with_name(f"{name.name}.dcm")
        if not value.is_floating_point():
            image = as_output(value, like, labels=True)
            return study.labels(image, path, what, self._naming(), labels or 1).name
        if what.form == "probabilities" and raw:
            image = as_output(value, like, raw=True)
            return study.probabilities(image, path, what, self._naming()).name
        if raw or what.form == "map":
            if like.affine is None:
                self.notice(
                    f"{key}: maps of pictures that do not lie in space are no DICOM objects; written as NIfTI"
                )
                return None
            return study.map(as_output(value, like, raw=True), path, what).name
        image = as_output(value, like)
        if natural_ending(replace(image, format=".dcm")) != ".dcm":
            return None
        return study.image(replace(image, modality=self._modality(key, like)), path, what).name

    def _modality(self, key: str, like: Image) -> str | None:
        """Of what an output shows: its source's, or of another contrast that of the training's images."""
        base = key.partition("-")[0]
        if self.meaning(key).same_units or base in self.cases.image_keys:
            return like.modality
        known = self.opened.manifest.get("data", {}).get("stored", {}).get("modality") or {}
        found: str = known.get(base) or "OT"
        return found

    def _naming(self) -> Naming:
        """What labels are: a lone one without a code is called as the column that it was learned from."""
        source = self.opened.config.data.map.get("mask", "")
        names = {1: source} if source and source != "mask" else {}
        return Naming(self.codes, names, self.opened.recipe.task.name == "anomaly")

    def like(self, row: int, key: str = "", of: Cases | None = None) -> Image:
        """The stored image whose type, range and geometry the output `key` takes: its own if there.

        Args:
            row, key: of the case and the output.
            of: the cases; None: those that are predicted.
        """
        opened, cases, task = self.opened, of or self.cases, self.opened.recipe.task
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
