"""Line charts as inline SVG: no script, readable in print, in light and in dark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 44
_MOST = 600


@dataclass(frozen=True)
class Point:
    """One point, with an interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis over the data."""

    label: str
    log: bool
    low: float
    high: float

    @classmethod
    def over(cls, label: str, values: Sequence[float], log: bool) -> "Axis":
        """The axis that just holds `values`; logarithmic only where all are positive."""
        log = log and min(values) > 0
        low, high = min(values), max(values)
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        return cls(label, log, low, high)

    def share(self, value: float) -> float:
        """Where `value` lies, 0 at the low end and 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) <= 4 else (1,)
            marks = [step * 10.0**decade for decade in decades for step in steps]
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
            first = math.ceil(self.low / step)
            marks = [step * k for k in range(first, math.floor(self.high / step) + 1)]
        return [mark for mark in marks if self.low <= mark <= self.high * (1 + 1e-9)]


def chart(
    series: Mapping[str, Sequence[Point]],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = False,
) -> str:
    """An SVG of one line per name; "" where there is nothing to draw."""
    lines = {name: _thinned(points) for name, points in series.items() if points}
    every = [point for points in lines.values() for point in points]
    if not every:
        return ""
    heights = [p.y for p in every] + [v for p in every for v in (p.low, p.high) if v is not None]
    x = Axis.over(x_label, [point.x for point in every], log_x)
    y = Axis.over(y_label, heights, log_y)
    parts = [*_frame(x, y), *(_line(p, x, y, k, markers) for k, p in enumerate(lines.values()))]
    legend = "".join(
        f'<span class="key k{k % 6}">{escape(name)}</span>' for k, name in enumerate(lines)
    )
    title = escape(f"{y_label} against {x_label}")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f'{"".join(parts)}</svg><p class="legend">{legend}</p>'
    )


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most 600 points in order of x: means of neighbours where there are more."""
    ordered = sorted(points, key=lambda point: point.x)
    size = -(-len(ordered) // _MOST)
    groups = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    if size == 1:
        return ordered
    return [Point(group[-1].x, sum(p.y for p in group) / len(group)) for group in groups]


def _at(x: Axis, y: Axis, px: float, py: float) -> tuple[float, float]:
    across = _LEFT + x.share(px) * (_WIDTH - _LEFT - _RIGHT)
    down = _HEIGHT - _BOTTOM - y.share(py) * (_HEIGHT - _TOP - _BOTTOM)
    return round(across, 1), round(down, 1)


def _frame(x: Axis, y: Axis) -> list[str]:
    parts = []
    for mark in x.ticks():
        across, base = _at(x, y, mark, y.low)
        parts.append(f'<line class="grid" x1="{across}" x2="{across}" y1="{_TOP}" y2="{base}"/>')
        parts.append(
            f'<text x="{across}" y="{base + 16}" text-anchor="middle">{_number(mark)}</text>'
        )
    for mark in y.ticks():
        left, down = _at(x, y, x.low, mark)
        right = _WIDTH - _RIGHT
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{down}" y2="{down}"/>')
        parts.append(
            f'<text x="{left - 6}" y="{down + 4}" text-anchor="end">{_number(mark)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>'
    )
    halfway = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text transform="translate(14 {halfway}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    return parts


def _line(points: Sequence[Point], x: Axis, y: Axis, number: int, markers: bool) -> str:
    places = [_at(x, y, point.x, point.y) for point in points]
    path = " ".join(f"{across},{down}" for across, down in places)
    parts = [f'<polyline class="line k{number % 6}" points="{path}"/>']
    for point, (across, down) in zip(points, places, strict=True):
        if point.low is not None and point.high is not None:
            top, bottom = _at(x, y, point.x, point.high)[1], _at(x, y, point.x, point.low)[1]
            parts.append(
                f'<line class="bar k{number % 6}" x1="{across}" x2="{across}" '
                f'y1="{top}" y2="{bottom}"/>'
            )
        if markers or len(points) == 1:
            parts.append(f'<circle class="dot k{number % 6}" cx="{across}" cy="{down}" r="3.5"/>')
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:.6g}"
