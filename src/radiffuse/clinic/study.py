"""All that is written of one case into the study that it came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..data.formats.dicom_values import text, whole
from ..data.image import Image, oriented
from ..data.made import Made
from .attributes import FILLED
from .derived import Series, write_derived
from .meanings import meaning
from .source import Identities, Identity, Source, kept, new_identities, read_source, without_remarks

__all__ = ["Study"]


@dataclass
class Study:
    """Writes the outputs of one case as DICOM: new series of its study, numbered one after the other.

    Attributes:
        sources: the series it was made of; the first one's place and attributes are those of the outputs.
        made: what made it; `what` is replaced by what each output is.
        notice: is told what was assumed.
        identities: new UIDs of the case.
    """

    sources: Sequence[Source]
    made: Made
    notice: Callable[[str], None] = lambda line: None
    identities: Identities = field(default_factory=new_identities)
    count: int = 0

    @classmethod
    def of(
        cls,
        images: Sequence[Image],
        made: Made,
        identity: Identity = kept,
        notice: Callable[[str], None] = lambda line: None,
    ) -> "Study":
        """The study of a case that was read from these images, of DICOM files (`Image.files`)."""
        new = new_identities()
        unique = {(image.files, image.frame): None for image in images if image.files}
        sources = [read_source(files, frame, identity, new) for files, frame in unique]
        study = cls(sources, made, notice, new)
        study._say_lacking()
        return study

    def image(self, image: Image, path: Path, key: str, draw: int | None = None) -> Path:
        """Write an image like the source; see `derived.write_derived`."""
        with without_remarks():
            series = self.series(key, draw, image.modality)
            return write_derived(as_stored(image), self.sources, series, path)

    def series(self, key: str, draw: int | None = None, modality: str | None = None) -> Series:
        """The next series of the study."""
        from pydicom.uid import generate_uid

        self.count += 1
        what = meaning(key, draw)
        made = replace(self.made, what=what.said)
        first = self.sources[0]
        number = whole(first.header, "SeriesNumber", 0, 10**6) or 0
        about = text(first.header, "SeriesDescription")
        said = f"{what.said} ({self.made.method})"
        return Series(
            uid=str(generate_uid(None)),
            number=1000 * (number or 1) + self.count,
            meaning=what,
            made=made,
            modality=modality or first.modality,
            description=f"{said}: {about}" if about else said,
        )

    def _say_lacking(self) -> None:
        """One line for UIDs and values of type 1 that the source lacks."""
        first = self.sources[0]
        filled = FILLED.get(first.modality, {})
        told = [f"{n} = {_said(v)}" for n, v in filled.items() if not text(first.header, n)]
        lacking = [f"a new {name}" for name in first.lacking]
        if told or lacking:
            self.notice(f"source series lack attributes; outputs have {', '.join(lacking + told)}")


def _said(value: object) -> str:
    return "\\".join(value) if isinstance(value, list) else str(value)


def as_stored(image: Image) -> Image:
    """A volume that was turned since it was read, turned back to its file's axes."""
    return oriented(replace(image, own=None), image.own) if image.own else image
