"""What several draws of a case say together: mean, deviation, interval, one label map, one class."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..applications.segmentation.fusion import staple, vote
from ..diffusion.label_maps import likeliest
from ..metrics.calibration import half_widths_per_std
from ..metrics.estimate import Sums
from .written import Writer

__all__ = ["Draws"]


@dataclass
class Draws:
    """The draws of a batch of cases so far.

    Attributes:
        samples: how many there will be; of one nothing is kept.
        sums: moments of images, maps and numbers, by key.
        maps: label maps, by key.
        classes: whole numbers, by key.
        seeds: of each draw, those of the cases.
    """

    samples: int
    sums: dict[str, Sums] = field(default_factory=dict)
    maps: dict[str, list[Tensor]] = field(default_factory=dict)
    classes: dict[str, list[Tensor]] = field(default_factory=dict)
    seeds: list[list[int]] = field(default_factory=list)

    def add(self, outputs: Mapping[str, Tensor], seeds: Sequence[int]) -> None:
        """One more draw of every case of the batch."""
        if self.samples == 1:
            return
        self.seeds.append(list(seeds))
        for key, value in outputs.items():
            if value.is_floating_point() or value.is_complex():
                self.sums.setdefault(key, Sums()).add(value.detach().cpu())
            elif value.dim() > 2:
                self.maps.setdefault(key, []).append(value.cpu())
            else:
                self.classes.setdefault(key, []).append(value.cpu())

    def differ(self, writer: Writer, row: int, place: int) -> bool:
        """Whether the images drawn of a case differ; classes and labels may be alike by chance."""
        told = [key for key in self.sums if not key.startswith("_")]
        images = [key for key in told if self._is_image(writer, row, key, place)]
        return not images or any(self.sums[key].varies(place) for key in images)

    def voted(self) -> dict[str, Tensor]:
        """The majority of each label map."""
        return {key: vote(torch.stack(several)) for key, several in self.maps.items()}

    def entries(
        self,
        writer: Writer,
        place: int,
        row: int,
        out: Path,
        all_: bool,
        wanted: Callable[[str], bool],
    ) -> Iterator[dict[str, Any]]:
        """Write what the draws of a case say together, and say what was written.

        One entry: the answer (mean of images; of label maps the likeliest label of the mean of "expected", else the
        majority), probability, uncertainty; of numbers mean and deviation, of classes the likeliest or most frequent.
        Where each draw is kept (`all_`), as well what else can be told, images and label maps in an entry each.

        Args:
            writer: of the command.
            place: of the case in the batch.
            row: of the case.
            out: folder.
            all_: every draw is kept.
            wanted: whether a key of this case is written.
        """
        if not self.differ(writer, row, place):
            writer.notice(
                f"{writer.opened.config.method} draws nothing of a case: its {self.samples} answers are equal, and no "
                "deviation is written; --samples 1 asks once"
            )
        entry = self._entry(writer, row)
        for key in (key for key in self.sums if not key.startswith("_") and wanted(key)):
            if self._is_image(writer, row, key, place) and (all_ or self._told(writer, key)):
                self._summarise(writer, entry, row, place, key, out, all_)
        if all_:
            if entry["files"]:
                yield entry
            entry = self._entry(writer, row)
        labels = (
            self.sums["probability"].mean[place].shape[0] if "probability" in self.sums else None
        )
        fused = self._fused(place, all_)
        for key, value in fused.items():
            writer.put(entry, row, key, value, out, labels=labels)
        if all_:
            if fused:
                yield entry
            return
        entry["values"] |= self._numbers(writer, row, place)
        yield {**entry, "seeds": [seeds[place] for seeds in self.seeds]}

    def _entry(self, writer: Writer, row: int) -> dict[str, Any]:
        empty: dict[str, Any] = {"files": {}, "values": {}, "written": []}
        return {**writer.who(row), "samples": self.samples, **empty}

    def _is_image(self, writer: Writer, row: int, key: str, place: int) -> bool:
        return self.sums[key].mean[place].dim() == len(writer.like(row, key).size) + 1

    def _told(self, writer: Writer, key: str) -> bool:
        """Whether a key belongs to the one result of a case: answers, and of probabilities the best."""
        if key == "probability" and "expected" in self.sums:
            return False
        return writer.meaning(key).role in ("answer", "probability")

    def _summarise(
        self,
        writer: Writer,
        entry: dict[str, Any],
        row: int,
        place: int,
        key: str,
        out: Path,
        all_: bool,
    ) -> None:
        """Write mean, deviation, interval and energy of one key (see `Task`), in stored units; of equal draws the mean
        alone."""
        task, recipe = writer.opened.recipe.task, writer.opened.recipe
        like, signed = writer.like(row, key), self.sums.get(f"_{key}")
        low, high = (like.range if key not in task.raw else None) or (-1.0, 1.0)
        std = self.sums[key].std()[place] * (high - low) / 2
        mean = self.sums[key].mean[place] if signed is None else signed.mean[place].abs()
        writer.put(entry, row, f"{key}-mean", mean.float(), out)
        if key == "displacement" or not self.differ(writer, row, place):
            return
        maps = {"std": std}
        if key in task.intervals:
            maps["interval90"] = recipe.widen * half_widths_per_std(self.sums[key].count) * std
        if signed is not None and all_:
            maps["energy"] = signed.std()[place] ** 2
        for end, map_ in maps.items():
            writer.put(entry, row, f"{key}-{end}", map_, out, raw=True)

    def _fused(self, place: int, all_: bool) -> dict[str, Tensor]:
        """One label map from the draws of a case."""
        found = {}
        for key, several in self.maps.items():
            draws = torch.stack([each[place : place + 1] for each in several])
            better = key == "mask" and "expected" in self.sums
            if all_ or not better:
                found[f"{key}-vote"] = vote(draws)[0]
            if all_:
                found[f"{key}-staple"] = staple(draws)[0]
            if better:
                found["mask-mean"] = likeliest(self.sums["expected"].mean[place : place + 1])[0]
        return found

    def _numbers(self, writer: Writer, row: int, place: int) -> dict[str, Any]:
        """Mean and deviation of numbers; of classes the likeliest, or without probabilities the most frequent."""
        found: dict[str, Any] = {}
        for key, sums in self.sums.items():
            if not key.startswith("_") and not self._is_image(writer, row, key, place):
                found[key] = sums.mean[place].tolist()
                if self.differ(writer, row, place):
                    found[f"{key}-std"] = sums.std()[place].tolist()
        for key, several in self.classes.items():
            likely = key == "label" and "probability" in self.sums
            most = torch.stack(several)[:, place].mode(0).values
            best = self.sums["probability"].mean[place].argmax(-1) if likely else most
            found[key] = best.tolist()
        return found
