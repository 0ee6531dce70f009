"""Sections of docs/results.md that belong to no application: peers, operators, noise, start-up."""

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
        f"20 network calls an image; `{record['command']}`"
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
    return section("FID against minutes of training", about, head, rows)


def peers_default(record):
    about = (
        f"`{record['command']}`: the last weights of the table above. "
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
