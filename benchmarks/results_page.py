"""docs/results.md from the JSON files of benchmarks/results. Nothing in that page is typed.

python benchmarks/results_page.py
"""

import json
from pathlib import Path

from radiffuse.data.files import write_json, write_text

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
METRICS = (
    ("fid", "FID, lower is better"),
    ("kid", "KID, lower"),
    ("precision", "precision, higher"),
    ("recall", "recall, higher"),
    ("density", "density, higher"),
    ("coverage", "coverage, higher"),
    ("ms_ssim", "MS-SSIM of random pairs, as the real ones"),
    ("copies", "share flagged as copies, as the real ones"),
    ("bits_per_dimension", "bits per dimension, lower"),
)

PAPERS = ("score-inverse", "score-mri", "diffuse-recon", "bayes-mri", "mcg", "r2d2")
"""The reconstruction papers, whose numbers `radiffuse show` prints."""
COLUMNS = {
    "anomaly": (
        *("auroc", "average_precision", "pixel_auroc", "pixel_average_precision"),
        *("dice_fitted", "dice_best", "psnr_healthy", "psnr_outside"),
    ),
    "segmentation": (
        *("dice", "hd95", "surface_dice", "generalised_energy", "ece"),
        "uncertainty_error_correlation",
    ),
    "classification": ("accuracy", "balanced_accuracy", "f1", "auroc", "ece"),
    "translation": (
        *("psnr", "ssim", "ms_ssim_to_target", "psnr_single", "detail", "fid", "kid", "shift"),
        *("deviation_correlation", "lesion_contrast", "lesion_contrast_error"),
    ),
    "denoising": ("psnr", "ssim", "cnr", "enl", "deviation_correlation"),
    "registration": (
        *("dice", "dice_1", "dice_2", "dice_3", "correlation", "end_point_error"),
        *("frames_psnr", "folded", "seconds_per_pair"),
    ),
}
"""Metrics that the table of a task shows; the JSON has them all."""
APPLICATIONS = {
    "segmentation": "Segmentation",
    "classification": "Classification",
    "translation": "Translation",
    "denoising": "Denoising",
    "anomaly": "Anomaly detection",
    "registration": "Registration",
}


def number(metric):
    if metric is None:
        return ""
    if "refused" in metric:
        return "refused: " + metric["refused"]
    if metric.get("mean") is None:
        return ""
    text = f"{metric['mean']:.4g}"
    if metric.get("ci95"):
        text += f" [{metric['ci95'][0]:.4g}, {metric['ci95'][1]:.4g}]"
    return f"{text}, n = {metric['n']}"


def generation(record, name):
    lines, data, trained = [f"### {name}", ""], record["data"], record["trained"]["method"]
    said = {
        "trained": f"{trained['minutes']:.0f} minutes, {trained['steps']} steps, "
        f"{trained['images']} images: `{record['trained_by']}`",
        "data": f"{data['source']}, {data['train']['n']} training images "
        f"(`{data['train']['fingerprint'][:12]}`) and {data['held_out']['n']} held out "
        f"({', '.join(data['held_out']['split'])}, `{data['held_out']['fingerprint'][:12]}`)",
        "features": f"`{record['features']['hash']}`",
        "evaluated": f"`{record.get('command', '')}`",
        "note": record["note"],
    }
    lines += [f"- {key}: {value}" for key, value in said.items() if value]
    lines += ["", "| | method | Gaussian baseline | real training images |", "|---|---|---|---|"]
    keys = [key for key, _ in METRICS]
    present = [k for k in record["method"] if k not in keys]
    for key, label in (*METRICS, *((k, k) for k in present)):
        cells = [
            number(record.get(who, {}).get(key)) for who in ("method", "baseline", "reference")
        ]
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def method_of(record):
    """The id in the command that trained it."""
    words = record["trained_by"].split()
    return words[words.index("train") + 1]


def reconstruction_ledgers(found):
    """The rows of the six papers in the tables of reconstruction, beside the best classical method."""
    keys, entries = ("psnr", "ssim", "nmse"), {}
    for name, record in found:
        for measurement, its in record["entries"].items():
            tables = its.get("classical", {}).get("metrics", {})
            if not tables:
                continue
            best = max(tables, key=lambda who: tables[who]["psnr"]["mean"])
            for method in PAPERS:
                if method not in its:
                    continue
                rows = {"method": its[method]["metrics"][method], "baseline": tables[best]}
                chosen = {
                    who: {key: {k: row[key][k] for k in ("mean", "ci95", "n")} for key in keys}
                    for who, row in rows.items()
                }
                entry = {
                    "name": f"{name}, {measurement}, beside {best}",
                    "command": record["command"],
                }
                entries.setdefault(method, []).append({**entry, **chosen})
    return entries


def ledgers(made, reconstructions):
    """What `radiffuse show METHOD` prints: the same numbers, packaged with the library."""
    entries = {}
    for name, record in made:
        task, _, rest = name.partition("-")
        tables = {
            who: {
                key: {k: record[who][key][k] for k in ("mean", "ci95", "n")}
                for key in columns(record, task)
                if "mean" in (record[who].get(key) or {})
            }
            for who in ("method", "baseline")
        }
        named = f"{rest}, {record['trained']['method']['minutes']:.0f} minutes"
        entry = {"name": named, "command": record["command"], **tables}
        entries.setdefault(method_of(record), []).append(entry)
    for method, its in reconstruction_ledgers(reconstructions).items():
        entries.setdefault(method, []).extend(its)
    for method, its in entries.items():
        write_json(HERE.parent / "src" / "radiffuse" / "results" / f"{method}.json", its)


def steps(record, name):
    counted = {point["evaluations"] for point in record["points"]}
    calls = sorted(count for count in counted if count + 1 not in counted)
    lines = [
        f"### {name}",
        "",
        f"n = {record['count']} images (Heun takes one call fewer), networks in "
        f"{record['precision']}; `{record['command']}`",
        "",
        f"![FID against network calls](steps-{name}.svg)",
        "",
        "| sampler | " + " | ".join(str(c) for c in calls) + " |",
        "|---|" + "---|" * len(calls),
    ]
    for sampler in dict.fromkeys(point["name"] for point in record["points"]):
        row = {p["evaluations"]: p for p in record["points"] if p["name"] == sampler}
        found = [row.get(c) or row.get(c - 1) for c in calls]
        cells = [f"{point['fid']['mean']:.4g}" if point else "" for point in found]
        lines.append(f"| {sampler} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def figure():
    """An empty figure and its axes, drawn the same on every machine."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "radiffuse"
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(7, 4.2))


def saved(drawn, axis, path):
    """Write the figure as SVG."""
    axis.grid(alpha=0.3, which="both")
    axis.legend(frameon=False)
    drawn.tight_layout()
    drawn.savefig(path, metadata={"Date": None})


def plot(record, path):
    drawn, axis = figure()
    for sampler in dict.fromkeys(point["name"] for point in record["points"]):
        points = [p for p in record["points"] if p["name"] == sampler]
        points.sort(key=lambda point: point["evaluations"])
        axis.plot(
            [p["evaluations"] for p in points],
            [p["fid"]["mean"] for p in points],
            marker="o",
            label=sampler,
        )
    axis.set(xscale="log", yscale="log", xlabel="network calls an image", ylabel="FID")
    saved(drawn, axis, path)


def peers(record):
    lines = [
        "### A training step and a sample, side by side",
        "",
        f"Batch {record['batch']}, 64 x 64, {record['rounds']} rounds in turn on the same machine; "
        f"`{record['command']}`. Ratios are medians within a round, Radiffuse = 1.",
        "",
        "| | parameters | s a step | ratio | s an image, 10 calls | ratio | peak MB | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in record["contestants"].items():
        ratio = row["ratio_to_radiffuse"]
        cells = [name, f"{row['parameters'] / 1e6:.2f} M"]
        for key in ("seconds_per_step", "seconds_per_image_10_calls", "peak_memory_mb"):
            cells += [f"{row[key]:.3g}", f"{ratio[key]:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def fid_against_minutes(record):
    lines = [
        "### FID against minutes of training",
        "",
        f"{record['data']}, n = {record['count']}, {record['cores']} core(s) for each contestant, "
        f"20 network calls an image; `{record['command']}`",
        "",
        "| | minutes | steps | FID | KID | s an image |",
        "|---|---|---|---|---|---|",
    ]
    for name, contestant in record["contestants"].items():
        for mark in contestant["marks"]:
            lines.append(
                f"| {name} | {mark['minutes']:g} | {mark['steps']} | {number(mark['fid'])} | "
                f"{number(mark['kid'])} | {mark['seconds_per_image']:.3g} |"
            )
    return [*lines, ""]


def by_default(record):
    lines = [
        "### Their default of 1000 steps",
        "",
        f"`{record['command']}`: the last weights of the table above. KID has no bias by the number of images.",
        "",
        "| | minutes | n | calls | KID | s an image |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in record["contestants"].items():
        lines.append(
            f"| {name} | {row['minutes']:g} | {row['count']} | {row['calls']} | {number(row['kid'])} | "
            f"{row['seconds_per_image']:.3g} |"
        )
    return [*lines, ""]


def operators(record):
    lines = [
        "### Operators of MRI and CT",
        "",
        f"{record['size']} x {record['size']}, {record['batch']} images, {record['views']} views, one "
        f"thread, medians of {record['rounds']} rounds in turn, ratios within a round, Radiffuse = 1; "
        f"`{record['command']}`. Error: relative, against explicit sums in double precision (Fourier) "
        "or analytic line integrals of Gaussians in each library's own convention (tomography). "
        "Mismatch: of <A x, y> and <x, A' y>. Set-up is paid once a geometry.",
        "",
        "| | | forward s | ratio | adjoint s | ratio | set-up s | error | mismatch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for problem, rows in record.items():
        if not isinstance(rows, dict) or problem == "versions":
            continue
        for name, row in rows.items():
            lines.append(
                f"| {problem} | {name} | {row['forward_seconds']:.3g} | {row['forward_ratio']:.2f} | "
                f"{row['adjoint_seconds']:.3g} | {row['adjoint_ratio']:.2f} | "
                f"{row['setup_seconds']:.2g} | {row['error']:.1e} | {row['adjoint_mismatch']:.0e} |"
            )
    return [*lines, ""]


def reconstruction(record, name):
    """One table a measurement: methods with their calls and seconds, then classical methods."""
    first = next(iter(next(iter(record["entries"].values())).values()))
    n = first["data"]["held_out"]
    lines = [
        f"### {name}",
        "",
        f"Prior: `{record['prior']['trained_by']}`. {n['n']} slices of {n['patients']} held-out patients; "
        f"`{record['command']}`. Images in [0, 1], means over patients. One draw: a single posterior "
        "sample, or (mean of draws) all of them; the first columns are of what their chains expect where "
        "the solver tells it, else of the mean of draws."
        + (f" {record['note']}" if record.get("note") else ""),
        "",
        *_reconstruction_overview(record["entries"]),
        "All methods share this one grey prior of single slices, so that they differ in their solver alone: "
        "`bayes-mri` and `diffuse-recon` have it in place of the complex prior (and the slice pairs) that "
        "they train themselves, and with it a real unknown; `score-mri` is its SENSE form, its coils joined "
        "at every step; chains are of the calls listed, not of the papers' thousands. Settings:",
        "",
        *_reconstruction_settings(record["entries"]),
    ]
    for measurement, entries in record["entries"].items():
        lines += [f"**{measurement}**", ""]
        lines += [
            "| | PSNR | SSIM | NMSE | PSNR of one draw | PSNR, mean of draws | CRPS | 90 % coverage | "
            "conformal | of the body | conformal | calls | s |"
        ]
        lines += ["|---" * 13 + "|"]
        for entry in entries.values():
            for who, table in entry["metrics"].items():
                lines.append(_reconstruction_row(who, table, entry["settings"]))
        lines += [""]
    return lines


def _reconstruction_overview(entries):
    """PSNR of every method on every measurement."""
    tables = {
        name: {who: table for one in its.values() for who, table in one["metrics"].items()}
        for name, its in entries.items()
    }
    methods = dict.fromkeys(who for found in tables.values() for who in found)
    lines = [f"| PSNR | {' | '.join(tables)} |", "|---" * (len(tables) + 1) + "|"]
    for who in methods:
        means = [found.get(who, {}).get("psnr", {}).get("mean") for found in tables.values()]
        cells = ["" if mean is None else f"{mean:.1f}" for mean in means]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return [*lines, ""]


def _reconstruction_settings(entries):
    """What was set of each method, once, where it is the same for all measurements."""
    plain = (
        "count",
        "samples",
        "seed",
        "baseline",
        "panels",
        "conformal_factors",
        "widen",
        "minutes",
    )
    counted = (
        "network_calls_per_draw",
        "backward_passes_per_draw",
        "seconds_per_draw",
        "acceleration",
    )
    found = {}
    for its in entries.values():
        for method, entry in its.items():
            chosen = {k: v for k, v in entry["settings"].items() if k not in (*plain, *counted)}
            if chosen:
                words = " ".join(f"{key}={value}" for key, value in chosen.items())
                found.setdefault(method, words)
    return [*(f"- `{method}`: {words}" for method, words in found.items()), ""]


def _reconstruction_row(who, table, settings):
    names = (
        *("psnr", "ssim", "nmse", "psnr_sample", "psnr_mean_of_draws"),
        *("crps", "coverage90", "coverage90_conformal"),
        *("coverage90_body", "coverage90_body_conformal"),
    )
    cells = [short(table.get(name, {})) for name in names]
    ours = "psnr_sample" in table
    calls = _calls(settings) if ours else ""
    seconds = f"{settings['seconds_per_draw']:.1f}" if ours else ""
    return f"| {who} | {' | '.join(cells)} | {calls} | {seconds} |"


def _calls(settings):
    """Network calls of a draw, backward passes where there are some, and the number of draws."""
    back = settings.get("backward_passes_per_draw", 0)
    calls = f"{settings['network_calls_per_draw']:.0f}" + (f" + {back:.0f} back" if back else "")
    return f"{calls} x {settings['samples']}"


def columns(record, task):
    """Names of the metrics that a table of a task shows, in order."""
    if task == "generation":
        return [key for key, _ in METRICS]
    chosen = COLUMNS[task]
    shown = [record["method"], *record["baselines"].values()]
    return [key for key in chosen if any(key in table for table in shown)]


def comparison(record, name, task):
    """One table: the method, what stands beside it, and the truth itself where that says something."""
    minutes = "; ".join(
        f"{who.removeprefix('baseline-')} {its['minutes']:.0f} min, {its['images']} images"
        for who, its in record["trained"].items()
    )
    held_out, settings = record["data"]["held_out"], record["settings"]
    lines = [
        f"### {name}",
        "",
        f"`{record['trained_by']}`. Held out: {settings.get('count') or held_out['n']} cases "
        f"of {held_out['patients']} patients ({', '.join(held_out['split'])}). "
        f"`{record['command']}`. Trained: {minutes}."
        + (f" {record['note']}" if record.get("note") else ""),
        "",
    ]
    tables = {"method": record["method"], **record["baselines"]}
    tables |= {"truth": record["reference"]} if record.get("reference") else {}
    metrics = columns(record, task)
    lines += [f"| | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for who, table in tables.items():
        cells = [short(table.get(metric, {})) for metric in metrics]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return [*lines, "", *level_lines(record), *referral(record)]


def short(metric):
    """A metric without its n: 0.742 [0.679, 0.8]."""
    if metric.get("mean") is None:
        return ""
    low, high = metric.get("ci95") or (None, None)
    return f"{metric['mean']:.3g}" + ("" if low is None else f" [{low:.3g}, {high:.3g}]")


def level_lines(record):
    """PSNR of a denoiser at every noise level."""
    levels = record.get("levels")
    if not levels:
        return []
    names = list(next(iter(levels.values())))
    lines = ["PSNR at several noise levels, one model:", "", f"| | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for level, table in levels.items():
        cells = [short(table[who].get("psnr", {})) for who in names]
        lines.append(f"| {level} | {' | '.join(cells)} |")
    return [*lines, ""]


def referral(record):
    """Accuracy of what remains when the doubtful share is referred."""
    curves = record.get("rejection")
    if not curves:
        return []
    shares = [point["referred"] for point in next(iter(curves.values()))["curve"]]
    lines = ["Accuracy of the cases that remain when a share is referred, the most doubtful first:"]
    lines += ["", f"| referred | {' | '.join(f'{share:.0%}' for share in shares)} |"]
    lines.append("|---" * (len(shares) + 1) + "|")
    for who, each in curves.items():
        cells = [f"{point['mean']:.3g}" if "mean" in point else "" for point in each["curve"]]
        lines.append(f"| {who} (by {each['by']}) | {' | '.join(cells)} |")
    return [*lines, ""]


def lesion_plot(record, path):
    """Voxel-wise average precision against contrast, one colour a radius; dashed: the best baseline."""
    drawn, axis = figure()
    for place, radius in enumerate(dict.fromkeys(p["radius_mm"] for p in record["points"])):
        points = [p for p in record["points"] if p["radius_mm"] == radius]
        contrasts = [p["contrast"] for p in points]
        best = [p["baselines"][p["settings"]["baseline"]] for p in points]
        for tables, style in (([p["method"] for p in points], "o-"), (best, "s--")):
            values = [table["pixel_average_precision"]["mean"] for table in tables]
            label = f"{radius:g} mm" + ("" if style == "o-" else ", best baseline")
            axis.plot(contrasts, values, style, color=f"C{place}", label=label)
    axis.set(xlabel="contrast of the lesions", ylabel="voxel-wise average precision", ylim=(0, 1))
    saved(drawn, axis, path)


def lesions(record, name):
    """Detection against size and contrast: the method, then its strongest baseline at that point."""
    lines = [f"### Lesions of {name}", "", f"`{record['trained_by']}`", ""]
    lines += [f"![Detection against contrast and size](lesions-{name}.svg)", ""]
    lines += [
        "| radius mm | contrast | AUROC | voxel AP | best Dice | strongest baseline | its AP |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for point in record["points"]:
        best = point["settings"]["baseline"]
        own = [
            short(point["method"].get(key, {}))
            for key in ("auroc", "pixel_average_precision", "dice_best")
        ]
        other = short(point["baselines"][best].get("pixel_average_precision", {}))
        place = f"{point['radius_mm']:g} | {point['contrast']:g}"
        lines.append(f"| {place} | {' | '.join(own)} | {best} | {other} |")
    return [*lines, ""]


def scans(record, name):
    unknown = (
        "real" if "--values real" in record["command"] else "complex (the prior on both parts)"
    )
    lines = [
        f"### Real k-space, {name}",
        "",
        f"Prior of other anatomy or scanners: `{record['prior']['trained_by']}`; the unknown image is "
        f"{unknown}. `{record['command']}`. "
        "Head: fully sampled, undersampled here, against the root of the sum of squares of the full "
        "scan, after the scale that fits best; weights of classical methods chosen on the truth itself, "
        "in their favour. PSNR (inside the head alone, as the reference's air is noise), SSIM. Brain: "
        "undersampled at the scanner, there is no truth. Deviation: where the magnitude reaches about 1. "
        "Pictures (scans, draws, deviation maps) are written by the command; data are not kept here.",
        "",
        "| | R | residual / noise | mean deviation of draws | zero-filled | L1-wavelet | TV | mean of draws | "
        "one draw |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for scan, row in record["scans"].items():
        methods = ("zero-filled", "l1_wavelet", "total_variation", "mean", "one draw")
        cells = [
            f"{row[who]['psnr']:.1f} ({row[who]['psnr_inside']:.1f}), {row[who]['ssim']:.3f}"
            if who in row
            else ""
            for who in methods
        ]
        lines.append(
            f"| {scan} | {row['acceleration']:.1f} | {row['residual_over_noise']:.2f} | "
            f"{row['mean_deviation']:.4f} | {' | '.join(cells)} |"
        )
    return [*lines, ""]


def reference(record, name):
    """PSNR of blurred noisy images against the blurred reference."""
    found = record["psnr_by_fwhm"]
    lines = [
        f"### What the reference of {name} allows",
        "",
        f"`{record['command']}`: PSNR of noisy images against their reference after both are blurred, "
        f"{record['n']} held-out images. White noise of one pixel falls as the width of the blur; what "
        "stays is a reference that is brighter or lies elsewhere, which nothing in the noisy image tells.",
        "",
        f"| width in pixels | {' | '.join(found)} |",
        "|---" * (len(found) + 1) + "|",
        f"| PSNR | {' | '.join(short(metric) for metric in found.values())} |",
    ]
    return [*lines, ""]


def simplex(record):
    size = " x ".join(map(str, record["size"]))
    compiled = "compiled by numba" if record["numba"] else "pure Python: numba was not installed"
    lines = ["### Simplex noise", ""]
    lines += [
        f"Fields of {size}, {record['octaves']} octaves, {record['threads']} thread; "
        f"`python benchmarks/simplex.py`. The opensimplex package here is {compiled}.",
        "",
    ]
    lines += ["| | milliseconds a field |", "|---|---|"]
    lines += [f"| {name} | {ms:.3g} |" for name, ms in record["milliseconds_per_field"].items()]
    return [*lines, ""]


def starting_point(record, name):
    levels = list(record["rows"][0]["rmse"])
    lines = [f"### {name}", ""]
    lines += [
        f"`{record['command']}`: root mean squared error of up to {record['count']} held-out images in "
        "[-1, 1] by the deviation of their noise; the same network, seed and steps.",
        "",
        "| start | steps | " + " | ".join(levels) + " |",
        "|---" * (len(levels) + 2) + "|",
    ]
    for row in record["rows"]:
        cells = " | ".join(f"{row['rmse'][level]:.4f}" for level in levels)
        lines.append(f"| {row['start']} | {row['steps']} | {cells} |")
    return [*lines, ""]


def startup(record):
    lines = ["### Start-up", "", f"Medians of {record['rounds']} rounds; `{record['command']}`", ""]
    lines += ["| | seconds |", "|---|---|"]
    lines += [f"| `{name}` | {value:.2f} |" for name, value in record["seconds"].items()]
    lines += [f"| `import radiffuse` beyond torch | {record['radiffuse_beyond_torch_s']:.2f} |"]
    return [*lines, ""]


def of_task(found, task):
    """Records whose file is named after a task, by what follows it."""
    return [(k.removeprefix(f"{task}-"), v) for k, v in found.items() if k.startswith(f"{task}-")]


def applications(found):
    """A section for each application that has records."""
    lines = []
    for task, title in APPLICATIONS.items():
        records = of_task(found, task)
        lines += [f"## {title}", ""] if records else []
        for name, record in records:
            lines += comparison(record, name, task)
        if task == "denoising":
            for name, record in of_task(found, "reference"):
                lines += reference(record, name)
        if task == "anomaly":
            for name, record in of_task(found, "lesions"):
                lines += lesions(record, name)
    return lines


def section(title, records, table):
    """A heading and a table for each record, or nothing."""
    lines = [f"## {title}", ""] if records else []
    for name, record in records:
        lines += table(record, name)
    return lines


def main():
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    lines = [
        "# Measured results",
        "",
        "Made by `python benchmarks/results_page.py` from the files of `benchmarks/results`; the",
        "command that made each number stands beside it. Intervals are 95 %.",
        "Errors of samplers on data whose answer is known: [samplers.md](samplers.md).",
        "",
    ]
    lines += section("Generation", of_task(found, "generation"), generation)
    lines += section("Quality against network calls", of_task(found, "steps"), steps)
    for name, record in of_task(found, "steps"):
        plot(record, HERE.parent / "docs" / f"steps-{name}.svg")
    for name, record in of_task(found, "lesions"):
        lesion_plot(record, HERE.parent / "docs" / f"lesions-{name}.svg")
    starts = of_task(found, "starting-point")
    lines += section("What a denoiser starts from", starts, starting_point)
    lines += section("Reconstruction", of_task(found, "reconstruction"), reconstruction)
    for name, record in of_task(found, "scans"):
        lines += scans(record, name)
    lines += applications(found)
    sections = {
        "peers_step": peers,
        "peers_fid": fid_against_minutes,
        "peers_default": by_default,
        "operators": operators,
        "simplex": simplex,
        "startup": startup,
    }
    if set(sections) & set(found):
        lines += ["## Against peers, and start-up", ""]
    for key, table in sections.items():
        if key in found:
            lines += table(found[key])
    write_text(HERE.parent / "docs" / "results.md", "\n".join(lines).rstrip() + "\n")
    tasks = ("generation", *APPLICATIONS)
    measured = [item for item in found.items() if item[0].partition("-")[0] in tasks]
    ledgers(measured, of_task(found, "reconstruction"))


if __name__ == "__main__":
    main()
