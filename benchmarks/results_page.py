"""docs/results.md from the JSON files of benchmarks/results. Nothing in that page is typed.

python benchmarks/results_page.py
"""

import json
from pathlib import Path

from radiffuse.files import write_json, write_text

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
    lines, data = [f"### {name}", ""], record["data"]
    said = {
        "trained": f"{record['trained']['minutes']:.0f} minutes, {record['trained']['steps']} steps, "
        f"{record['trained']['images']} images: `{record['trained_by']}`",
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


def ledgers(made):
    """What `radiffuse show METHOD` prints: the same numbers, packaged with the library."""
    for method in sorted({name.rpartition("-")[2] for name, _ in made}):
        entries = [
            {
                "name": f"{name.partition('-')[2]}, {record['trained']['minutes']:.0f} minutes",
                "command": record["command"],
                **{
                    who: {
                        key: {k: record[who][key][k] for k in ("mean", "ci95", "n")}
                        for key, _ in METRICS
                        if (record[who].get(key) or {}).get("ci95")
                    }
                    for who in ("method", "baseline")
                },
            }
            for name, record in made
            if name.endswith("-" + method)
        ]
        write_json(HERE.parent / "src" / "radiffuse" / "results" / f"{method}.json", entries)


def steps(record, name):
    calls = sorted({point["evaluations"] for point in record["points"]})
    lines = [
        f"### {name}",
        "",
        f"n = {record['count']} images; `{record['command']}`",
        "",
        "![FID against network calls](" + name + ".svg)",
        "",
        "| sampler | " + " | ".join(str(c) for c in calls) + " |",
        "|---|" + "---|" * len(calls),
    ]
    for sampler in dict.fromkeys(point["name"] for point in record["points"]):
        row = {p["evaluations"]: p for p in record["points"] if p["name"] == sampler}
        cells = [f"{row[c]['fid']['mean']:.4g}" if c in row else "" for c in calls]
        lines.append(f"| {sampler} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def plot(record, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "radiffuse"
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.2))
    for sampler in dict.fromkeys(point["name"] for point in record["points"]):
        points = [p for p in record["points"] if p["name"] == sampler]
        axis.plot(
            [p["evaluations"] for p in points],
            [p["fid"]["mean"] for p in points],
            marker="o",
            label=sampler,
        )
    axis.set(xscale="log", yscale="log", xlabel="network calls an image", ylabel="FID")
    axis.grid(alpha=0.3, which="both")
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


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
        f"{record['data']}, n = {record['count']}; `{record['command']}`",
        "",
        "| | minutes | steps | FID | s an image |",
        "|---|---|---|---|---|",
    ]
    for name, contestant in record["contestants"].items():
        for mark in contestant["marks"]:
            lines.append(
                f"| {name} | {mark['minutes']:g} | {mark['steps']} | {number(mark['fid'])} | "
                f"{mark['seconds_per_image']:.3g} |"
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
        "sample; the other columns are of the mean of all draws.",
        "",
    ]
    for measurement, entries in record["entries"].items():
        lines += [f"**{measurement}**", ""]
        lines += [
            "| | PSNR | SSIM | NMSE | PSNR of one draw | 90 % coverage | conformal | calls | s |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for entry in entries.values():
            for who, table in entry["metrics"].items():
                lines.append(_reconstruction_row(who, table, entry["settings"]))
        lines += [""]
    return lines


def _reconstruction_row(who, table, settings):
    names = ("psnr", "ssim", "nmse", "psnr_sample", "coverage90", "coverage90_conformal")
    cells = []
    for name in names:
        metric = table.get(name, {})
        low, high = metric.get("ci95", (0, 0))
        cells.append(f"{metric['mean']:.3g} [{low:.3g}, {high:.3g}]" if "mean" in metric else "")
    ours = "psnr_sample" in table
    calls = f"{settings['network_calls_per_draw']:.0f} x {settings['samples']}" if ours else ""
    seconds = f"{settings['seconds_per_draw']:.1f}" if ours else ""
    return f"| {who} | {' | '.join(cells)} | {calls} | {seconds} |"


def registration(record, name):
    """One table: the method, then what stands beside it."""
    trained = record["trained"]
    minutes = {who: f"{t['minutes']:.0f} min, {t['images']} images" for who, t in trained.items()}
    tables = {"method": record["method"], **record["baselines"]}
    metrics = [m for m in record["method"] if m != "mse"]
    lines = [
        f"### {name}",
        "",
        f"`{record['trained_by']}`. Held out: {record['settings']['count']} pairs of "
        f"{record['data']['held_out']['patients']} patients. `{record['command']}`. Trained: "
        + "; ".join(f"{who} {what}" for who, what in minutes.items())
        + ".",
        "",
        f"| | {' | '.join(metrics)} |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for who, table in tables.items():
        cells = []
        for name_of in metrics:
            metric = table.get(name_of, {})
            low, high = metric.get("ci95", (0, 0))
            shown = f"{metric.get('mean', 0):.3g} [{low:.3g}, {high:.3g}]"
            cells.append(shown if "mean" in metric else "")
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return [*lines, ""]


def scans(record):
    lines = [
        "### Real k-space",
        "",
        f"Prior of other anatomy and scanners: `{record['prior']['trained_by']}`. `{record['command']}`. "
        "Head: fully sampled, undersampled here, against the root of the sum of squares of the full "
        "scan, after the scale that fits best; weights of classical methods chosen on the truth itself, "
        "in their favour. Brain: undersampled at the scanner, there is no truth.",
        "",
        "| | R | residual / noise | zero-filled | L1-wavelet | TV | mean of draws | one draw |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in record["scans"].items():
        methods = ("zero-filled", "l1_wavelet", "total_variation", "mean", "one draw")
        cells = [
            f"{row[who]['psnr']:.1f} dB, {row[who]['ssim']:.3f}" if who in row else ""
            for who in methods
        ]
        lines.append(
            f"| {name} | {row['acceleration']:.1f} | {row['residual_over_noise']:.2f} | "
            f"{' | '.join(cells)} |"
        )
    return [*lines, ""]


def startup(record):
    lines = ["### Start-up", "", f"Medians of {record['rounds']} rounds; `{record['command']}`", ""]
    lines += ["| | seconds |", "|---|---|"]
    lines += [f"| `{name}` | {value:.2f} |" for name, value in record["seconds"].items()]
    lines += [f"| `import radiffuse` beyond torch | {record['radiffuse_beyond_torch_s']:.2f} |"]
    return [*lines, ""]


def main():
    lines = [
        "# Measured results",
        "",
        "Made by `python benchmarks/results_page.py` from the files of `benchmarks/results`; the",
        "command that made each number stands beside it. Intervals are 95 %.",
        "Errors of samplers on data whose answer is known: [samplers.md](samplers.md).",
        "",
    ]
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    rebuilt = [(k, v) for k, v in found.items() if k.startswith("reconstruction-")]
    made = [(k, v) for k, v in found.items() if k.startswith("generation-")]
    if made:
        lines += ["## Generation", ""]
        for name, record in made:
            lines += generation(record, name.removeprefix("generation-"))
        ledgers(made)
    if rebuilt:
        lines += ["## Reconstruction", ""]
        for name, record in rebuilt:
            lines += reconstruction(record, name.removeprefix("reconstruction-"))
    if "scans" in found:
        lines += scans(found["scans"])
    registered = [(k, v) for k, v in found.items() if k.startswith("registration-")]
    if registered:
        lines += ["## Registration", ""]
        for name, record in registered:
            lines += registration(record, name.removeprefix("registration-"))
    curves = [(k, v) for k, v in found.items() if k.startswith("steps-")]
    if curves:
        lines += ["## Quality against network calls", ""]
        for name, record in curves:
            lines += steps(record, name)
            plot(record, HERE.parent / "docs" / f"{name}.svg")
    sections = {
        "peers_step": peers,
        "peers_fid": fid_against_minutes,
        "operators": operators,
        "startup": startup,
    }
    if set(sections) & set(found):
        lines += ["## Against peers, and start-up", ""]
    for key, section in sections.items():
        if key in found:
            lines += section(found[key])
    write_text(HERE.parent / "docs" / "results.md", "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
