"""The pictures of an evaluation: what each shows, and the heads of its columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from .scales import bar
from .sections import figure, missing
from .source import Source

__all__ = ["FIGURES", "Figure", "images"]

NONE = "none picked"
HALVES = ("deviation", "error")
_PIXELS = (
    "One grey window, [-1, 1] of the scaled images, for all, and the same units for deviations and errors unless said; "
    "pixels are not smoothed."
)
_CHAINS = (
    "C-alpha traces, each chain from three sides and none picked. There is no Ramachandran plot without N and "
    "C atoms, and a network that cannot tell left from right makes left-handed helices as often as others."
)


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        file: its name.
        title: of the figure.
        caption: what it shows.
        heads: of its columns; () without any.
        panels: whether `settings.panels` of metrics.json names the columns, where it is there.
        half: whether its deviations and errors go up to 0.5, where the grey range is 2.
    """

    file: str
    title: str
    caption: str = NONE
    heads: tuple[str, ...] = ()
    panels: bool = False
    half: bool = False

    def columns(self, source: Source) -> tuple[str, ...]:
        """Their heads."""
        named = source.metrics.get("settings", {}).get("panels", ()) if self.panels else ()
        return tuple(map(str, named)) or self.heads

    def scales(self, source: Source) -> dict[str, float]:
        """What is white in columns of maps, by their heads; black is 0."""
        if self.half:
            return {head: 0.5 for head in self.columns(source) if head in HALVES}
        known = source.metrics.get("settings", {}).get("scales") or {} if self.panels else {}
        quarters = {head: 0.25 for head in self.columns(source) if head.startswith("4 x ")}
        return {**quarters, **{str(head): float(most) for head, most in known.items()}}


FIGURES = (
    Figure("real.png", "Real, held out", "drawn at random"),
    Figure("generated.png", "Generated", "the first seeds, none picked"),
    Figure(
        "translation.png",
        "Translated",
        heads=("source", "target", "mean", "deviation", "error"),
        half=True,
    ),
    Figure(
        "completion.png",
        "Completed",
        "grey where a contrast was not given; a row a missing contrast, the first case, none picked",
        panels=True,
        half=True,
    ),
    Figure(
        "reconstructions.png",
        "Reconstructed",
        "none picked; deviation and error as parts of the grey range",
        panels=True,
    ),
    Figure(
        "denoised.png",
        "Denoised",
        "noisy, the method, with tuned strength where it differs, baselines, reference",
    ),
    Figure("baseline.png", "Baseline"),
    Figure(
        "anomalies.png",
        "Anomalies",
        "image, healthy counterpart, anomaly map, mask and, where known, the true mask; none picked",
        panels=True,
    ),
    Figure(
        "registration.png",
        "Registration",
        "none picked; differences are halved",
        ("moving", "fixed", "warped", "difference before", "and after", "deformed grid"),
    ),
    Figure(
        "classification.png",
        "Classification",
        "image, saliency of the guiding classifier, and the patches it chose; none picked",
    ),
    Figure(
        "segmentation.png",
        "Segmentation",
        heads=("image", "true labels", "one draw", "another", "likeliest of the mean", "deviation"),
        half=True,
    ),
    Figure("vessels.png", "Vessels", heads=("picture", "probability", "answer", "truth")),
    Figure(
        "painted.png",
        "Painted",
        "windows of training cases; none picked",
        ("vessels", "none", "drawn mask", "painted", "segmented again"),
    ),
    Figure(
        "shapes.png",
        "Shapes",
        "the thickness that is seen, then three planes each of the truth, two draws and the baselines; none picked",
    ),
    Figure(
        "segmenters.png",
        "Segmentation",
        "images, true labels, those of the method, of the same network on real pairs, on both, on wrong labels",
    ),
    Figure(
        "pairs.png",
        "Made pairs",
        "a row is one seed: map and images without the labels, and with them; none picked",
    ),
    Figure(
        "styles.png",
        "Styles",
        "of each modality: real images that give a style, and below two maps painted in each",
    ),
    Figure(
        "scaffolds.png",
        "Scaffolds",
        "a chain from three sides, the motif in black; C-alpha atoms alone, from blue (first) to red (last)",
    ),
    Figure(
        "purification.png",
        "Purification",
        "clean, attacked by PGD, purified; what the attack added, and by what the purified image differs from the "
        "clean one, the attack's reach at full scale; none picked",
    ),
    Figure("path.png", "Path", "one row a pair, from moving to warped; none picked"),
)


def images(source: Source) -> str:
    """Real beside generated, then the baseline; whatever the application draws."""
    shown = "".join(_drawn(source))
    if not shown:
        return missing("no pictures", source)
    note = _CHAINS if source.picture("scaffolds.png") else _PIXELS
    return f'<div class="panels">{shown}</div><p class="note">{note}</p>'


def _drawn(source: Source) -> Iterator[str]:
    """The HTML of each that is there."""
    for each in FIGURES:
        caption = _baseline(source) if each.file == "baseline.png" else each.caption
        made = figure(source, each.file, each.title, caption, each.columns(source))
        bars = "".join(
            f'<div class="legend-of">{escape(head.replace("_", " "))}{bar("grey", 0, most)}</div>'
            for head, most in each.scales(source).items()
        )
        yield made.replace("</figure>", f"{bars}</figure>")


def _baseline(source: Source) -> str:
    """What stands beside what was generated."""
    chains = source.metrics.get("task") == "backbones"
    return "chains of training angles" if chains else "Gaussian (probabilistic PCA), first seeds"
