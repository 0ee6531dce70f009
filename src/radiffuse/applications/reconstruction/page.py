"""Recorded reconstructions as sections of docs/measured.md, and as numbers of the papers' methods."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...report.markdown import short, table
from ..evaluation.page import Record, comparison

__all__ = ["entries", "fits", "scans", "section"]

LABELS = {
    "psnr_sample": "PSNR of one draw",
    "psnr_mean_of_draws": "PSNR, mean of draws",
    "coverage90": "90 % coverage",
    "coverage90_conformal": "conformal",
    "coverage90_body": "of the body",
    "coverage90_body_conformal": "conformal",
}
UNTOLD = (
    *("count", "samples", "seed", "baseline", "panels", "conformal_factors", "widen", "minutes"),
    *("network_calls_per_draw", "backward_passes_per_draw", "seconds_per_draw", "acceleration"),
)
"""Settings that are the same for all methods, or stand in the table."""


def section(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """One table a measurement: methods with their calls and seconds, then classical methods.

    An evaluation of one method is shown as in other applications.
    """
    if "entries" not in record:
        return comparison(record, name, shown)
    first = next(iter(next(iter(record["entries"].values())).values()))
    n = first["data"]["held_out"]
    note = f" {record['note']}" if record.get("note") else ""
    lines = [
        f"### {name}",
        "",
        f"Prior: `{record['prior']['trained_by']}`. {n['n']} slices of {n['patients']} held-out "
        f"patients; `{record['command']}`. Images in [0, 1], means over patients. One draw: a single "
        "posterior sample, or (mean of draws) all of them; the first columns are of what their chains "
        f"expect where the solver tells it, else of the mean of draws.{note}",
        "",
        *_overview(record["entries"]),
        "All methods share this one grey prior of single slices, so that they differ in their solver "
        "alone: `bayes-mri` and `diffuse-recon` have it in place of the complex prior (and the slice "
        "pairs) that they train themselves, and with it a real unknown; `score-mri` is its SENSE form, "
        "its coils joined at every step; chains are of the calls listed, not of the papers' thousands: all "
        "are the methods' `small` presets. "
        "Settings:",
        "",
        *_settings(record["entries"]),
        "",
    ]
    for measurement, its in record["entries"].items():
        rows = [
            _row(who, metrics, entry["settings"], shown)
            for entry in its.values()
            for who, metrics in entry["metrics"].items()
        ]
        head = ["", *(LABELS.get(key, key.upper()) for key in shown), "calls", "s"]
        lines += [f"**{measurement}**", "", *table(head, rows)]
    return lines


def _overview(measured: Record) -> list[str]:
    """PSNR of every method on every measurement."""
    tables = {
        name: {who: its for one in methods.values() for who, its in one["metrics"].items()}
        for name, methods in measured.items()
    }
    names = dict.fromkeys(who for found in tables.values() for who in found)
    rows = []
    for who in names:
        means = [found.get(who, {}).get("psnr", {}).get("mean") for found in tables.values()]
        rows.append([who, *("" if mean is None else f"{mean:.1f}" for mean in means)])
    return table(["PSNR", *tables], rows)


def _settings(measured: Record) -> list[str]:
    """What was set of each method, once, where it is the same for all measurements."""
    found: dict[str, str] = {}
    for its in measured.values():
        for method, entry in its.items():
            chosen = {k: v for k, v in entry["settings"].items() if k not in UNTOLD}
            if chosen:
                words = " ".join(f"{key}={value}" for key, value in chosen.items())
                found.setdefault(method, words)
    return [f"- `{method}`: {words}" for method, words in found.items()]


def _row(who: str, metrics: Record, settings: Record, shown: Sequence[str]) -> list[str]:
    ours = "psnr_sample" in metrics
    calls = _calls(settings) if ours else ""
    seconds = f"{settings['seconds_per_draw']:.1f}" if ours else ""
    return [who, *(short(metrics.get(key)) for key in shown), calls, seconds]


def _calls(settings: Record) -> str:
    """Network calls of a draw, backward passes where there are some, and the number of draws."""
    back = settings.get("backward_passes_per_draw", 0)
    calls = f"{settings['network_calls_per_draw']:.0f}" + (f" + {back:.0f} back" if back else "")
    return f"{calls} x {settings['samples']}"


def entries(
    records: Iterable[tuple[str, Record]], methods: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The numbers of each of `methods` on each measurement, beside the best classical method."""
    for name, record in records:
        for measurement, its in record.get("entries", {}).items():
            tables = its.get("classical", {}).get("metrics", {})
            if not tables:
                continue
            best = max(tables, key=lambda who: tables[who]["psnr"]["mean"])
            for method in (method for method in methods if method in its):
                about = {
                    "name": f"{method} (small), {name}, {measurement}, beside {best}",
                    "command": record["command"],
                }
                rows = {"method": its[method]["metrics"][method], "baseline": tables[best]}
                chosen = {
                    who: {
                        key: {k: row[key][k] for k in ("mean", "ci95", "n")}
                        for key in ("psnr", "ssim", "nmse")
                    }
                    for who, row in rows.items()
                }
                yield method, {**about, **chosen}


SCANS = ("zero-filled", "l1_wavelet", "total_variation", "mean", "one draw")


def scans(record: Record, name: str) -> list[str]:
    """Scans of real scanners, by a prior of other anatomy."""
    real = "--values real" in record["command"]
    about = (
        f"Prior of other anatomy or scanners: `{record['prior']['trained_by']}`; the unknown image "
        f"is {'real' if real else 'complex (the prior on both parts)'}. `{record['command']}`. "
        "Head: fully sampled, undersampled here, against the root of the sum of squares of the full "
        "scan, after the scale that fits best; weights of classical methods chosen on the truth "
        "itself, in their favour. PSNR (inside the head alone, as the reference's air is noise), "
        "SSIM. Brain: undersampled at the scanner, there is no truth. Deviation: where the magnitude "
        "reaches about 1. Pictures (scans, draws, deviation maps) are written by the command; data "
        "are not kept here."
    )
    head = ["", "R", "residual / noise", "mean deviation of draws", "zero-filled", "L1-wavelet"]
    rows = [
        [
            scan,
            f"{its['acceleration']:.1f}",
            f"{its['residual_over_noise']:.2f}",
            f"{its['mean_deviation']:.4f}",
            *(_quality(its.get(who)) for who in SCANS),
        ]
        for scan, its in record["scans"].items()
    ]
    table_ = table([*head, "TV", "mean of draws", "one draw"], rows)
    return [f"### Real k-space, {name}", "", about, "", *table_]


def _quality(its: Record | None) -> str:
    return f"{its['psnr']:.1f} ({its['psnr_inside']:.1f}), {its['ssim']:.3f}" if its else ""


FITS = ("first", "prior", "classical", "chosen", "classical, best")


def unreferenced(record: Record, name: str) -> list[str]:
    """One scan that was undersampled at the scanner, its reference opened last."""
    runs = [
        f"`{who}`: `{its['trained_by']}`, {its['minutes']:.0f} minutes, {its['steps']} steps"
        for who, its in record["runs"].items()
    ]
    about = (
        f"`{record['command']}`. One scan; {record['samples']} draws of each run; classical methods at fixed weights, "
        "since nothing is known to choose them by. Images scaled to the reference by least squares, its 99.9 % "
        f"quantile as 1. {'; '.join(runs)}."
    )
    keys = ("psnr", "psnr_inside", "ssim", "nmse")
    rows = [[who, *(f"{its[key]:.3g}" for key in keys)] for who, its in record["methods"].items()]
    head = ["", "PSNR", "inside the head", "SSIM", "NMSE"]
    return [f"### Undersampled at the scanner, {name}", "", about, "", *table(head, rows)]


def draws(record: Record, name: str) -> list[str]:
    """Seconds and quality of one draw by its steps."""
    size = " x ".join(map(str, record["size"]))
    about = (
        f"Prior: `{record['prior']['trained_by']}`. `{record['command']}`. One draw of {size}, {record['coils']} "
        "coils, by `solver=probed highest=5`, two network calls a step and two at the end; `stein` and `stein-mean` "
        "are five calls in all (`steps=4 highest=1 lowest=0.06`). CPU seconds of one core, asked for alone and as "
        "one of four at once; PSNR of draws, of the mean that their chains tell, and of the mean of four."
    )
    rows = [
        [
            scan,
            steps,
            *(short(entry["psnr"][who]) for who in ("draw", "mean", "mean of four")),
            *(f"{entry['seconds'][how]:.2f}" for how in ("alone", "of four", "l1_wavelet")),
        ]
        for scan, its in record["scans"].items()
        for steps, entry in its.items()
    ]
    head = [
        "",
        "chain",
        "draw, dB",
        "mean, dB",
        "of four, dB",
        "alone, s",
        "of four, s",
        "L1 wavelets, s",
    ]
    return [f"### Seconds a draw, {name}", "", about, "", *table(head, rows)]


def fits(record: Record, name: str) -> list[str]:
    """A prior alone, classical methods, and what each scan chooses of both, where it fits and where it does not."""
    settings = " ".join(f"{key}={value}" for key, value in record["settings"].items())
    about = (
        f"Prior: `{record['prior']['trained_by']}`, {settings}. `{record['command']}`. PSNR of magnitudes, "
        "means over patients (measured scans are one each, undersampled here, against the root of the sum of "
        "squares of the full scan after the scale that fits best). Classical: L1 of wavelets or total variation "
        "with the weight that predicts the samples kept back best; the best: method and weight that the truth "
        "likes best, which no user can have. Chosen: the mean that the scan chooses, the prior among it with the "
        "weight shown."
    )
    rows = [
        [
            f"{kind}, {mask}",
            *(short(entry["psnr"][who]) for who in FITS),
            f"{entry['prior_weight']:.2f}",
        ]
        for kind, its in record["sets"].items()
        for mask, entry in its.items()
    ]
    head = ["", "zero-filled", "prior", "classical", "chosen", "best classical", "prior's weight"]
    return [
        f"### A prior that fits and one that does not, {name}",
        "",
        about,
        "",
        *table(head, rows),
    ]
