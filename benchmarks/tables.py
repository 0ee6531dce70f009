"""Sections of docs/measured.md that belong to no application: peers, operators, noise, start-up."""

from pathlib import Path

from radiffuse.report.markdown import number, table


def section(title, about, head, rows):
    """A heading, a paragraph and a table."""
    return [f"### {title}", "", about, "", *table(head, rows)]


def peers_step(record):
    about = (
        f"Batch {record['batch']}, 64 x 64, {record['rounds']} rounds in turn on the same machine; "
        f"`{record['command']}`. Ratios are medians within a round, Radiffuse = 1."
    )
    measured = ("seconds_per_step", "seconds_per_image_10_calls", "peak_memory_mb")
    rows = []
    for name, its in record["contestants"].items():
        ratio = its["ratio_to_radiffuse"]
        cells = [cell for key in measured for cell in (f"{its[key]:.3g}", f"{ratio[key]:.2f}")]
        rows.append([name, f"{its['parameters'] / 1e6:.2f} M", *cells])
    head = [
        "",
        "parameters",
        "s a step",
        "ratio",
        "s an image, 10 calls",
        "ratio",
        "peak MB",
        "ratio",
    ]
    return section("A training step and a sample, side by side", about, head, rows)


def peers_fid(record):
    about = (
        f"{record['data']}, n = {record['count']}, {record['cores']} core(s) for each contestant, "
        f"20 network calls an image; `{record['command']}`. {record.get('note', '')}"
    )
    rows = [
        [
            *(name, f"{mark['minutes']:g}", mark["steps"], number(mark["fid"])),
            *(number(mark["kid"]), f"{mark['seconds_per_image']:.3g}"),
        ]
        for name, contestant in record["contestants"].items()
        for mark in contestant["marks"]
    ]
    head = ["", "minutes", "steps", "FID", "KID", "s an image"]
    picture = f"![FID against seconds an image](speed-{Path(record['data']).stem}.svg)"
    beside = "Beside our own calls and distilled networks, and other families; each trained as long as it says."
    return [*section("FID against minutes of training", about, head, rows), picture, "", beside, ""]


def peers_default(record):
    about = (
        f"`{record['command']}`: weights of an earlier run of that table, features of then. "
        "KID has no bias by the number of images."
    )
    rows = [
        [
            *(name, f"{its['minutes']:g}", its["count"], its["calls"], number(its["kid"])),
            f"{its['seconds_per_image']:.3g}",
        ]
        for name, its in record["contestants"].items()
    ]
    head = ["", "minutes", "n", "calls", "KID", "s an image"]
    return section("Their default of 1000 steps", about, head, rows)


def operators(record):
    about = (
        f"{record['size']} x {record['size']}, {record['batch']} images, {record['views']} views, one "
        f"thread, medians of {record['rounds']} rounds in turn, ratios within a round, Radiffuse = 1; "
        f"`{record['command']}`. Error: relative, against explicit sums in double precision (Fourier) "
        "or analytic line integrals of Gaussians in each library's own convention (tomography). "
        "Mismatch: of <A x, y> and <x, A' y>. Set-up is paid once a geometry."
    )
    rows = [
        [
            *(problem, name, f"{its['forward_seconds']:.3g}", f"{its['forward_ratio']:.2f}"),
            *(f"{its['adjoint_seconds']:.3g}", f"{its['adjoint_ratio']:.2f}"),
            *(f"{its['setup_seconds']:.2g}", f"{its['error']:.1e}"),
            f"{its['adjoint_mismatch']:.0e}",
        ]
        for problem, found in record.items()
        if isinstance(found, dict) and problem != "versions"
        for name, its in found.items()
    ]
    timed = ["forward s", "ratio", "adjoint s", "ratio", "set-up s"]
    head = ["", "", *timed, "error", "mismatch"]
    return section("Operators of MRI and CT", about, head, rows)


def simplex(record):
    compiled = "compiled by numba" if record["numba"] else "pure Python: numba was not installed"
    about = (
        f"Fields of {' x '.join(map(str, record['size']))}, {record['octaves']} octaves, "
        f"{record['threads']} thread; `python benchmarks/simplex.py`. The opensimplex package here is "
        f"{compiled}."
    )
    rows = [[name, f"{ms:.3g}"] for name, ms in record["milliseconds_per_field"].items()]
    return section("Simplex noise", about, ["", "milliseconds a field"], rows)


def startup(record):
    rows = [[f"`{name}`", f"{value:.2f}"] for name, value in record["seconds"].items()]
    rows.append(["`import radiffuse` beyond torch", f"{record['radiffuse_beyond_torch_s']:.2f}"])
    about = f"Medians of {record['rounds']} rounds; `{record['command']}`"
    return section("Start-up", about, ["", "seconds"], rows)


PARTS = {
    "step": "a training step of the network of voxels",
    "call": "a call of it on the whole volume",
    "tiles": "the same by tiles of 48, a quarter overlapping",
    "coder": "a training step of the auto-encoder",
    "drawn": "a volume of the latent diffusion, 10 calls and decoding",
}
MIB = 2**20


def volumes_sides(record):
    ours, theirs = ({each["side"]: each for each in record[who]} for who in ("radiffuse", "monai"))
    few = {
        who: ", ".join(f"{n / 1e6:.2f} M" for n in each[0]["parameters"].values())
        for who, each in (("radiffuse", record["radiffuse"]), ("MONAI", record["monai"]))
    }
    about = (
        "Batch of one, fp32, one thread; seconds of the processor and MiB above what the process held, each side in a "
        f"process of its own, in turns; `{record['command']}`. MONAI 1.6.1: DiffusionModelUNet, AutoencoderKL, sliding "
        "window. Parameters of network, auto-encoder and network of codes: "
        f"{'; '.join(f'{who} {told}' for who, told in few.items())}. Ratios: MONAI's over ours; the goal was 3 in "
        "time and 2 in memory. What ours has less is arithmetic (blocks of 2 voxels a side are folded into channels, "
        "in the auto-encoder too), and small volumes alone get oneDNN's kernel on a CPU, which torch keeps for batches "
        "and large ones: matrices unfolded in its place are most of the memory of MONAI's step. Networks of codes see "
        "codes of one size, so that their arithmetic is alike, and most volumes of the latent diffusion miss the "
        "goal in time (1.9 to 3.1). MONAI was not tried beyond 96: it took 16 GiB there."
    )
    rows = []
    for part, name in PARTS.items():
        for side, its in ours.items():
            mine, other = its.get(part), theirs.get(side, {}).get(part)
            if not mine:
                continue
            beside = (
                [
                    *(f"{other['seconds']:.3g}", f"{other['bytes'] / MIB:.0f}"),
                    f"{other['seconds'] / mine['seconds']:.1f}",
                    f"{other['bytes'] / mine['bytes']:.1f}",
                ]
                if other
                else [""] * 4
            )
            row = [f"{mine['seconds']:.3g}", f"{mine['bytes'] / MIB:.0f}", *beside]
            rows.append([name if side == min(ours) else "", side, *row])
    head = ["", "side", "s", "MiB", "MONAI s", "MiB", "time ratio", "memory ratio"]
    return section("Volumes by their side", about, head, rows)


def volumes_data(record):
    about = (
        "Training on volumes of 96^3, int16 in a packed npz, of which 64 MiB may be held; a network of two numbers, so "
        "that its data are what a training takes: MiB above what the process held, the set measured (mean, range, "
        f"spectrum) and read for 20 steps of 2. `{record['command']}`"
    )
    rows = [
        [its["cases"], f"{its['cases'] * 96**3 * 2 / MIB:.0f}", f"{its['bytes'] / MIB:.0f}"]
        for its in record["sets"]
    ]
    head = ["volumes", "MiB of voxels", "MiB taken"]
    return section("Data larger than what is held", about, head, rows)


def volumes_estimates(record):
    about = (
        "What `train` and `sample` say before they begin that they will take, and what they take from then on, by the "
        "kernel's count, on a CPU, whose allocator keeps more or less from run to run (a fifth, in two of the same). "
        f"`{record['command']}`"
    )
    rows = [
        [
            *(its["command"], " x ".join(map(str, its["size"])), its["cases"], its["flags"]),
            *(f"{its['said'] / MIB:.0f}", f"{its['bytes'] / MIB:.0f}"),
            f"{its['said'] / its['bytes']:.2f}",
        ]
        for its in record["commands"]
    ]
    head = ["", "size", "cases", "network", "MiB said", "MiB taken", "ratio"]
    return section("Memory said and taken", about, head, rows)


def starting_point(record, name):
    levels = list(record["rows"][0]["rmse"])
    about = (
        f"`{record['command']}`: root mean squared error of up to {record['count']} held-out images "
        "in [-1, 1] by the deviation of their noise; the same network, seed and steps."
    )
    rows = [
        [its["start"], its["steps"], *(f"{its['rmse'][level]:.4f}" for level in levels)]
        for its in record["rows"]
    ]
    return section(name, about, ["start", "steps", *levels], rows)


def fuzz(record):
    about = (
        f"`{record['command']}`: seeded malformed inputs through train, evaluate and predict. Refused: one line "
        "that names what is wrong; read: values as other libraries read them; broken: anything else."
    )
    kept = ("refused", "wrong usage", "read")
    rows = []
    for name, its in record["forms"].items():
        refused = its.get("refused", 0) + its.get("wrong usage", 0)
        broken = sum(count for kind, count in its.items() if kind not in kept)
        rows.append([name, refused, its.get("read", 0), broken])
    rows.append(["all", *(sum(row[k] for row in rows) for k in (1, 2, 3))])
    return section("Malformed inputs", about, ["", "refused", "read", "broken"], rows)


def watch(record):
    about = (
        f"`{record['command']}`: studies of three objects arrive in a watched folder while `radiffuse serve` works, "
        f"every fourth twice; SIGKILL after {record['killed_after']} results were sent, then the same command again. "
        "Results go to Orthanc by STOW-RS."
    )
    words = ("lost", "predicted_twice", "sent_twice")
    heads = ["studies", "done", *(word.replace("_", " ") for word in words), "seconds a study"]
    row = [record["studies"], record["states"]["done"], *(record[word] for word in words)]
    return section(
        "Studies that arrive", about, heads, [[*row, f"{record['seconds_a_study']:.2f}"]]
    )
