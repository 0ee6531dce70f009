"""The section of a latent diffusion: is it the codes, the noise levels, the network or the decoder."""

from collections.abc import Sequence
from html import escape
from typing import Any

from .chart import Point, chart
from .sections import figure, table_of
from .source import Source, number

__all__ = ["latents"]


def latents(source: Source) -> str:
    """Diagnosis, numbers, errors by noise level, and decoded codes."""
    found = source.latents
    if not found:
        return ""
    verdict = "".join(f"<li>{escape(str(line))}</li>" for line in found.get("verdict", []))
    rising = "codes with noise of 0, 0.05, 0.1, 0.2, 0.5 and 1 of their deviation, decoded; two held-out cases"
    between = "places on a line between two held-out cases, decoded"
    return "".join(
        (
            f'<ul class="verdict">{verdict}</ul>',
            table_of(_facts(found)),
            _errors(found.get("levels", [])),
            figure(source, "latents-noise.png", "Noise on codes", rising),
            figure(source, "latents-path.png", "From code to code", between),
        )
    )


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    """The rows of the table."""
    codes = found.get("codes", {})
    values = {
        "deviation of codes as the network sees them": found.get("overall"),
        "of each channel": _joined(found.get("deviation", [])),
        "mean of each channel": _joined(found.get("mean", [])),
        "scale": _joined(found.get("scale", [])),
        "shift": _joined(found.get("shift", [])),
        "share of their variance that is the noise of their own laws": found.get("own_noise"),
        "largest correlation of two channels": _strongest(codes.get("correlation", [])),
        "correlation of neighbouring places, by channel": _joined(codes.get("neighbours", [])),
        "share of the codebook used": codes.get("used"),
        "PSNR of reconstructions, held out": codes.get("psnr", {}).get("mean"),
        "MS-SSIM of reconstructions, held out": codes.get("ms_ssim", {}).get("mean"),
        "share of the codes' variance a Gaussian knows where sampling starts": found.get("start"),
        "PSNR of images with noise on their codes": _joined(
            [f"{v.get('noise')}: {v.get('psnr')} dB" for v in found.get("decoder", [])]
        ),
    }
    return {name: value for name, value in values.items() if value is not None}


def _errors(levels: Sequence[dict[str, Any]]) -> str:
    """Error of the network and of a Gaussian of the same spectrum against noise."""
    series: dict[str, list[Point]] = {}
    for name, label in (
        ("network", "the network"),
        ("gaussian", "a Gaussian of the same spectrum"),
    ):
        for level in levels:
            x, y = number(level.get("noise")), number(level.get(name))
            if x is not None and y is not None and x > 0:
                series.setdefault(label, []).append(Point(x, y))
    return chart(series, "noise, sigma / alpha", "squared error of codes over their variance", log_x=True,
                 log_y=True, markers=True)  # fmt: skip


def _joined(values: Sequence[Any]) -> str | None:
    return ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in values) or None


def _strongest(rows: Sequence[Sequence[float]]) -> float | None:
    others = [abs(v) for i, row in enumerate(rows) for j, v in enumerate(row) if i != j]
    return max(others, default=None)
