"""Recorded generation as sections of docs/measured.md."""

import math
from collections.abc import Sequence

from ...report import trilemma
from ...report.markdown import number, short, table
from ..evaluation.page import Record

__all__ = [
    "audits",
    "covariates",
    "distilled",
    "families",
    "features",
    "kept_away",
    "privacy",
    "section",
    "slice_by_slice",
    "steps",
]

EYES = ("pixels", "features", "detector")
AWAY_BESIDE = ("fid", "recall", "coverage")
LABELS = {
    "fid": "FID, lower is better",
    "kid": "KID, lower",
    "fid_planes": "FID of slices in three planes, lower",
    "kid_planes": "KID of slices in three planes, lower",
    "mmd": "MMD of voxels, lower",
    "coherence": "coherence from slice to slice, as the real ones",
    "precision": "precision, higher",
    "recall": "recall, higher",
    "density": "density, higher",
    "coverage": "coverage, higher",
    "ms_ssim": "MS-SSIM of random pairs, as the real ones",
    "bits_per_dimension": "bits per dimension, lower",
}


def section(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """Generated images, the Gaussian baseline and real training images, metric by metric."""
    keys = [*shown, *(key for key in record["method"] if key not in shown)]
    others = record.get("baselines") or {}
    columns = [record["method"], record["baseline"], *others.values(), record["reference"]]
    rows = [[key, *(number(column.get(key)) for column in columns)] for key in keys]
    head = ["", record["name"], "Gaussian baseline", *others, "real training images"]
    found = [[_label(key), *cells] for key, *cells in rows if any(cells)]
    return [f"### {name}", "", *_about(record), "", *table(head, found)]


def _label(key: str) -> str:
    if key.startswith("told_"):
        return f"told {key.removeprefix('told_')} against read off, r"
    if key.startswith("taught_"):
        return f"{key.removeprefix('taught_')} on real images, learned from these"
    metric, _, name = key.partition("_of_")
    if name:
        return f"{LABELS.get(metric, metric).partition(',')[0]} of {name.replace('_', ' ')}"
    return LABELS.get(key, key)


def _about(record: Record) -> list[str]:
    data, trained = record["data"], record["trained"]["method"]
    train, held_out = data["train"], data["held_out"]
    said = {
        "trained": f"{trained['minutes']:.0f} minutes, {trained['steps']} steps, "
        f"{trained['images']} images: `{record['trained_by']}`",
        "data": f"{data['source']}, {train['n']} training images (`{train['fingerprint'][:12]}`) "
        f"and {held_out['n']} held out ({', '.join(held_out['split'])}, "
        f"`{held_out['fingerprint'][:12]}`)",
        "features": _features(record["features"]),
        "evaluated": f"`{record.get('command', '')}`",
        "note": record["note"],
    }
    return [f"- {key}: {value}" for key, value in said.items() if value]


def _features(named: Record) -> str:
    """The hashes of the feature networks: of images, and of slices of volumes."""
    slices = f", of slices `{named['slices']['hash']}`" if "slices" in named else ""
    return f"`{named['hash']}`{slices}"


def covariates(record: Record, name: str) -> list[str]:
    """Whether volumes follow what they are told, by the way it is told; how sharp the reading is, beside."""
    codes, first = record["codes"], record["trained"]["both"]
    real = record["real"]
    about = (
        f"`{record['command']}`: {first['steps']} steps each. Codes of {' x '.join(map(str, codes['code']))}, held-out "
        f"volumes come back with {short(codes['psnr'])} dB, MS-SSIM {short(codes['ms_ssim'])}. Correlations of what "
        f"was told with what is read off the volume; the last row: of the true numbers of held-out volumes, the most "
        f"that can be reached. {record['note']}"
    )
    keys = list(real)
    rows = [[way, *(short(its[key]) for key in keys)] for way, its in record["ways"].items()]
    head = ["told by", *(_label(key) for key in keys)]
    return [
        f"### {name}",
        "",
        about.strip(),
        "",
        *table(head, [*rows, ["real", *(short(real[key]) for key in keys)]]),
    ]


def privacy(record: Record, name: str) -> list[str]:
    """FID of private trainings by their budget, and of training without; what an audit finds of each."""
    loosest = sorted(
        record["budgets"].values(),
        key=lambda its: -its["private"]["epsilon"] if its["private"] else -math.inf,
    )
    metrics = ("fid", "precision", "recall")
    rows, found = [], []
    for its in loosest:
        plan = its["private"] or {}
        noise = f"{plan['noise_multiplier']:.3g}" if plan else "none"
        spent = f"{plan['epsilon_spent']:.3g}" if plan else "not private"
        rows.append([spent, str(its["steps"]), noise, *(short(its[key]) for key in metrics)])
        audit = its["audit"]
        copies = [short(audit["copies"][eye]["share"]) for eye in EYES]
        found.append([*rows[-1][:2], short(audit["auc"]), short(audit["found"]), *copies])
    rows += [
        [who, "", "", *(short(its[key]) for key in metrics)]
        for who, its in record["beside"].items()
    ]
    plan = next(its["private"] for its in record["budgets"].values() if its["private"])
    data, (first, *_) = record["data"], record["budgets"].values()
    about = (
        f"`{record['command']}`: {data['source']} at {data['size']} x {data['size']}, {data['n']} training images, "
        f"each protected for itself (delta {plan['delta']:g}); steps of {plan['batch']} images, "
        f"{plan['draws']} draws of noise each where private, a network of {first['parameters']:,} parameters. "
        f"FID of {record['count']} images against {data['held_out']} held out. Without privacy the recipe is fitted to "
        "the images (deviation, spectrum), with it to constants."
    )
    audits_said = (
        "What `radiffuse audit` says of each: membership by the denoising error of "
        f"{first['audit']['members']} members and as many others (0.5: by guessing), members found where 1 % of others "
        f"are taken for members, and the share of {first['audit']['samples']} samples that lie nearer to a training "
        "image than 99 % of held-out images do."
    )
    head = ["epsilon", "steps", "noise multiplier", *(_label(key) for key in metrics)]
    of_audit = ["epsilon", "steps", "membership, AUC", "found at 1 %", *EYES]
    return [
        *(f"### {name}", "", about, "", *table(head, rows), "", audits_said, ""),
        *table(of_audit, found),
    ]


def slice_by_slice(record: Record, name: str) -> list[str]:
    """A network of volumes beside one of slices, applied slice by slice."""
    rows = {"whole volumes": "volumes", "slice by slice": "slices", "real": "real"}
    trained = "; ".join(
        f"{who}: {its['minutes']:.0f} minutes, {its['steps']} steps"
        for who, its in record["trained"].items()
    )
    keys = list(record["real"])
    head = ["", *(_label(key) for key in keys)]
    body = [
        [label, *(short(record[key][metric]) for metric in keys)] for label, key in rows.items()
    ]
    return [
        f"### {name}",
        "",
        f"`{record['command']}`. Trained: {trained}.",
        "",
        *table(head, body),
    ]


def steps(record: Record, name: str) -> list[str]:
    """FID of every sampler by the number of network calls."""
    counted = {point["evaluations"] for point in record["points"]}
    calls = sorted(count for count in counted if count + 1 not in counted)
    rows = []
    for sampler in dict.fromkeys(point["name"] for point in record["points"]):
        its = {p["evaluations"]: p for p in record["points"] if p["name"] == sampler}
        found = [its.get(call) or its.get(call - 1) for call in calls]
        rows.append([sampler, *(f"{p['fid']['mean']:.4g}" if p else "" for p in found)])
    about = (
        f"n = {record['count']} images (Heun takes one call fewer), networks in "
        f"{record['precision']}; `{record['command']}`"
    )
    picture = f"![FID against network calls](steps-{name}.svg)"
    begin = [f"### {name}", "", about, "", picture, ""]
    return [*begin, *table(["sampler", *calls], rows)]


def families(record: Record, name: str) -> list[str]:
    """Families of generative models trained as long as each other."""
    about = (
        f"`{record['command']}`: {record['minutes']:g} minutes each, {record['train']} training images, "
        f"{record['count']} drawn against {record['held_out']} held out. [How the axes are computed](trilemma.md)."
    )
    picture = f"![Quality, coverage and speed of each family](trilemma-{name}.svg)"
    return [f"### {name}", "", about, "", picture, "", *table(*trilemma.table(record))]


def audits(record: Record, name: str) -> list[str]:
    """What audits say of models where it is known what they should say."""
    rows = []
    for planted, its in record.items():
        eyes = its["memorisation"]["eyes"]
        people = its["memorisation"]["people"]
        most = f"{people[0]['patient']} ({people[0]['samples']})" if people else ""
        rows.append(
            [
                *(planted, f"{its['train']['images']} of {its['train']['people']}"),
                *(f"{eyes[eye]['share']['mean']:.1%} (p {eyes[eye]['p']:.2g})" for eye in EYES),
                *(most, short(its["membership"]["loss"]["auc"]), its["verdict"][0]),
            ]
        )
    first = next(iter(record.values()))
    about = (
        f"`python benchmarks/audit.py --data ../shared/data/{name}.npz`: {first['samples']} samples of each, against "
        f"{first['held_out']['images']} "
        "held-out images; shares of samples nearer to a training image than 99 % of new images are, and "
        "the chance of as many."
    )
    head = ["planted", "images of people", *EYES, "copied most", "membership, AUC", "verdict"]
    return [f"### {name}", "", about, "", *table(head, rows)]


def kept_away(record: Record, name: str) -> list[str]:
    """What keeping samples away from training images costs, by the share of the usual distance."""
    rows = []
    for model, its in record["models"].items():
        for share, found in its.items():
            if "refused" in found:
                rows.append([model, share, f"refused: {found['refused']}", *[""] * 6])
                continue
            rows.append(
                [
                    *(model, share, short(found["drawn_again"]), str(found["draws"])),
                    f"{found['seconds']:.0f}",
                    *(short(found[key]) for key in ("copies", *AWAY_BESIDE)),
                ]
            )
    rows.append(["training images", *[""] * 5, *(short(record["beside"][k]) for k in AWAY_BESIDE)])
    count = max(
        each["samples"]
        for its in record["models"].values()
        for each in its.values()
        if "samples" in each
    )
    about = (
        f"`{record['command']}`: {count} samples of each model by `radiffuse sample --away SHARE` against "
        f"{record['held_out']} held-out images, in the features of a network trained on the thousands; the models are "
        'those of "What audits find". Copies: samples nearer to a training image of the model, in grey values, than '
        "99 % of held-out images are."
    )
    head = ["model", "away", "drawn again", "draws", "seconds", "copies"]
    return [
        f"### {name}",
        "",
        about,
        "",
        *table([*head, *(_label(key) for key in AWAY_BESIDE)], rows),
    ]


def distilled(record: Record, name: str) -> list[str]:
    """FID and seconds of distilled runs and of their teacher, by the number of network calls."""
    rows = [
        [
            *(
                point["name"],
                str(point["evaluations"]),
                f"{point['minutes']:g}",
                short(point["fid"]),
            ),
            f"{point['seconds_per_image']:.3f}",
        ]
        for point in sorted(record["points"], key=lambda each: (each["evaluations"], each["name"]))
    ]
    about = (
        f"n = {record['count']} images, networks in {record['precision']}; `{record['command']}`"
    )
    picture = f"![FID against seconds an image](distill-{name}.svg)"
    head = ["", "calls", "minutes of training", _label("fid"), "seconds an image"]
    return [f"### {name}", "", about, "", picture, "", *table(head, rows)]


def features(record: Record, name: str) -> list[str]:
    """What the features of FID see: faults by degrees, Gaussians and half-trained models beside the floor."""
    data, floor = record["data"], record["floor"]["fid"]["mean"]
    n = data["n"]
    about = (
        f"{data['source']}, split {data['split']} (`{data['fingerprint'][:12]}`): {n['real']} real images against "
        f"{n['compared']} of other patients, where patients are known, none of which the network has seen; it learned "
        f"from {n['learned']} more. Seed {record['seed']}, features `{record['features']['hash']}`; "
        f"`{record['command']}`. In pixels: FID on 32 principal components."
    )
    rows = [
        [
            *(_shown(its), "" if its["strength"] is None else f"{its['strength']:g}"),
            *(short(its[key]) for key in ("fid", "kid", "precision")),
            f"{its['fid']['mean'] / floor:.3g}",
            f"{its['pixels']['fid']['mean'] / record['floor']['pixels']['fid']['mean']:.3g}",
        ]
        for its in (record["floor"], *record["faults"], *record["gaussians"], *record["models"])
    ]
    metrics = ["FID", "KID", "precision", "FID over the floor", "the same in pixels"]
    return [
        *(f"### {name}", "", about, "", *table(["", "degree", *metrics], rows)),
        *("Rising, or falling for precision, with every degree:", ""),
        *table(
            ["", "FID", "KID", "precision"],
            [
                [fault, *("yes" if found[key] else "no" for key in ("fid", "kid", "precision"))]
                for fault, found in record["in_order"].items()
            ],
        ),
        *(f"Against the {n['held_out']} images of the held-out split:", ""),
        *table(
            ["", "FID", "KID", "precision"],
            [
                [its["fault"], *(short(its[key]) for key in ("fid", "kid", "precision"))]
                for its in record["against_held_out"]
            ],
        ),
    ]


def _shown(row: Record) -> str:
    """What was compared; of a model, how many samples, its degree being steps of training."""
    if "method" not in row:
        return str(row["fault"])
    return f"{row['method']} by steps of training, n = {row['fid']['n']}"
