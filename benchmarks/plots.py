"""Pictures of docs/measured.md."""


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
    if axis.get_legend() is None:
        axis.legend(frameon=False)
    drawn.tight_layout()
    drawn.savefig(path, metadata={"Date": None})


def steps(record, path):
    """FID against network calls, a curve a sampler."""
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


def distill(record, path):
    """FID against seconds an image, a curve a way of drawing."""
    drawn, axis = figure()
    for name in dict.fromkeys(point["name"] for point in record["points"]):
        points = [p for p in record["points"] if p["name"] == name]
        points.sort(key=lambda point: point["seconds_per_image"])
        seconds = [p["seconds_per_image"] for p in points]
        axis.plot(seconds, [p["fid"]["mean"] for p in points], marker="o", label=name)
    axis.set(xscale="log", yscale="log", xlabel="seconds an image, one core", ylabel="FID")
    saved(drawn, axis, path)


PEERS = {"monai": "MONAI", "diffusers": "diffusers"}


def speed(distilled, peers, families, path):
    """FID against seconds an image of all that has both, each trained as long as its label says."""
    drawn, axis = figure()
    minutes = distilled["minutes"]
    for name in dict.fromkeys(point["name"] for point in distilled["points"]):
        points = [p for p in distilled["points"] if p["name"] == name]
        points.sort(key=lambda point: point["seconds_per_image"])
        plain = name.replace("teacher", f"ddpm, {minutes:g} min")
        title = plain if plain != name else f"distilled: {name}"
        spots = [(p["seconds_per_image"], p["fid"]["mean"]) for p in points]
        axis.plot(*zip(*spots, strict=True), marker="o", label=title)
    for key, title in PEERS.items():
        its = peers["contestants"][key]
        last = its["marks"][-1]
        label = f"{title}, {last['minutes']:g} min, {its['calls']} calls"
        axis.plot(last["seconds_per_image"], last["fid"]["mean"], "s", label=label)
    for key in ("gan", "vae", "flow", "ebm"):
        method = families["families"][key]["method"]
        spot = method["seconds_batch_64"]["mean"], method["fid"]["mean"]
        axis.plot(*spot, "^", label=f"{key} of compare, {families['minutes']:g} min")
    axis.set(xscale="log", yscale="log", xlabel="seconds an image, one core", ylabel="FID")
    axis.legend(frameon=False, fontsize=7)
    saved(drawn, axis, path)


def lesions(record, path):
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
