"""All that is written of one case into the study that it came from."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..data.formats.dicom_values import text, whole
from ..data.image import Image, oriented
from ..data.made import Made
from ..data.transforms import resize
from ..errors import UserError
from .attributes import FILLED
from .codes import Naming, labels_of
from .derived import Series, write_derived
from .maps import write_map
from .meanings import Meaning
from .measured import Finding, write_report
from .segmentation import write_segmentation
from .source import Identities, Identity, Source, kept, new_identities, read_source, without_remarks

__all__ = ["NoObject", "Study"]

UNNAMED = Naming()


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
        unique = {(image.files, image.frames): None for image in images if image.files}
        sources = [read_source(files, frames, identity, new) for files, frames in unique]
        study = cls(sources, made, notice, new)
        study._say_lacking()
        return study

    def image(self, image: Image, path: Path, what: Meaning) -> Path:
        """Write an image like the source; see `derived.write_derived`."""
        with without_remarks(), told_why():
            series = self.series(what, image.modality)
            return write_derived(as_stored(image), self.sources, series, path)

    def labels(
        self,
        image: Image,
        path: Path,
        what: Meaning,
        naming: Naming = UNNAMED,
        count: int = 1,
    ) -> Path:
        """Write a label map as a binary segmentation of `count` labels at least."""
        image = self._onto_source(as_stored(image), what)
        top = max(int(image.data.max()), count)
        return self._segmented(image, range(1, top + 1), naming, path, what)

    def probabilities(
        self,
        image: Image,
        path: Path,
        what: Meaning,
        naming: Naming = UNNAMED,
    ) -> Path:
        """Write probabilities of the labels 1 to L, a channel each, as a fractional segmentation."""
        image = self._onto_source(as_stored(image), what)
        return self._segmented(image, range(1, len(image.data) + 1), naming, path, what)

    def map(self, image: Image, path: Path, what: Meaning) -> Path:
        """Write a map of one channel as a parametric map."""
        with without_remarks():
            series = self.series(what)
            with told_why():
                return write_map(as_stored(image), self.sources, series, path, self._unit(what))

    def report(self, findings: Sequence[Finding], path: Path, what: Meaning) -> Path:
        """Write classes and scores as a structured report."""
        with without_remarks(), told_why():
            return write_report(findings, self.sources, self.series(what), path)

    def _segmented(
        self,
        image: Image,
        values: Sequence[int],
        naming: Naming,
        path: Path,
        what: Meaning,
    ) -> Path:
        labels = labels_of(values, naming, self.notice)
        with without_remarks():
            series = self.series(what)
            with told_why():
                return write_segmentation(image, labels, self.sources, series, path)

    def _onto_source(self, image: Image, what: Meaning) -> Image:
        """A picture that does not lie in space, on the grid of its source: nothing else says where its pixels are."""
        header = self.sources[0].header
        size = (int(header.Rows), int(header.Columns))
        if image.affine is not None or image.size == size or not image.flat:
            return image
        self.notice(
            f"{what.said}: pictures do not lie in space, so that {_by(image.size)} pixels are brought back to the "
            f"{_by(size)} of the source"
        )
        nearest = not image.data.is_floating_point()
        return replace(image, data=resize(image.data, size, nearest=nearest))

    def _unit(self, what: Meaning) -> tuple[str, str, str]:
        """The unit of a map: of what draws of an image differ by, that of the image where DICOM names it."""
        first = self.sources[0]
        if what.in_source_units and first.modality == "CT":
            return ("[hnsf'U]", "UCUM", "Hounsfield unit")
        if what.in_source_units and text(first.header, "Units") == "BQML":
            return ("Bq/ml", "UCUM", "Becquerels/milliliter")
        return ("1", "UCUM", "no units")

    def series(self, what: Meaning, modality: str | None = None) -> Series:
        """The next series of the study."""
        from pydicom.uid import generate_uid

        self.count += 1
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


class NoObject(UserError):
    """A source is such that DICOM, or highdicom, has no object for what was made of it."""


@contextmanager
def told_why() -> Iterator[None]:
    """One line where no object can be made.

    Raises:
        NoObject: says why.
    """
    try:
        yield
    except OSError:
        raise
    except (UserError, ValueError, TypeError, AttributeError, KeyError) as error:
        if isinstance(error.__cause__, OSError):  # of the disk
            raise
        raise NoObject(f"no DICOM object can be made beside this source ({error})") from error


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _said(value: object) -> str:
    return "\\".join(value) if isinstance(value, list) else str(value)


def as_stored(image: Image) -> Image:
    """A volume that was turned since it was read, turned back to its file's axes."""
    return oriented(replace(image, own=None), image.own) if image.own else image
