"""The way from noise to image, a state at a time under a slider."""

from html import escape

from .sections import figure
from .source import Source, size_of

__all__ = ["trajectory"]

FILE, GAP = "trajectory.png", 2
_NOTE = "States wider than the images are scaled to deviation 1."
_MOVE = "this.closest('.walk').style.setProperty('--at', this.value / (this.max || 1) * 100 + '%')"


def trajectory(source: Source) -> str:
    """The states of some cases, under a slider where the record says how many there are; "" without any."""
    path = source.picture_file(FILE)
    if path is None:
        return ""
    frames = source.metrics.get("settings", {}).get("frames") or []
    if len(frames) != 2 or min(frames) < 2:
        caption = "one row a case, equally spaced states of the chain from noise (left) to image"
        return figure(source, FILE, "Trajectory", caption) + f'<p class="note">{_NOTE}</p>'
    states, cases = frames
    wide, high = size_of(path)
    width, height = (wide + GAP) / states - GAP, (high + GAP) / cases - GAP
    size = f"{100 * wide / width:.4f}% {100 * high / height:.4f}%"
    shown = "".join(
        f'<span style="aspect-ratio: {width:g} / {height:g}; background-size: {size}; '
        f'background-position-y: {100 * case / (cases - 1):.4f}%"></span>'
        for case in range(cases)
    )
    uri = source.picture(FILE)
    return (
        f'<div class="walk" style="--sheet: url({uri}); --at: 100%"><label>noise <input type="range" '
        f'min="0" max="{states - 1}" value="{states - 1}" aria-label="state of the chain" '
        f'oninput="{escape(_MOVE)}"> image</label>'
        f'<div class="frames">{shown}</div></div>'
        f'<p class="note">The first seeds, none picked. {_NOTE}</p>'
    )
