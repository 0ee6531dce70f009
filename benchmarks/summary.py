"""docs/results.md: what was measured of each application, beside the best baseline, in a row each."""

from radiffuse.applications.task import tasks
from radiffuse.report.card import compared
from radiffuse.report.wording import wording

HEAD = r"""# Results

One row a measurement: the main number of the application beside the **best** of all baselines at it, on held-out
people, with 95 % intervals. Trainings took minutes of one processor core, where papers took days of GPUs, so these
numbers say what a method does with little, not what its paper reports. Made by `python benchmarks/results_page.py`;
every number of every baseline, with data, command and notes, stands in [measured.md](measured.md).
"""
VERDICTS = {
    (None, False): "even",
    (True, True): "ahead",
    (True, False): "ahead, within the intervals",
    (False, False): "behind, within the intervals",
    (False, True): "**behind**",
}


MAIN = {"purification": "accuracy_pgd", "backbones": "joint_error"}
"""The metric that is shown, where it is not the first of the task."""
SOLVER = "probed"
"""Of the tables of many solvers with one prior, the one that the page of reconstruction recommends."""


def summary(found, pictures):
    """The text of the page.

    Args:
        found: records by the name of their file.
        pictures: name of a model that ships -> its card, whose pictures are shown.
    """
    lines = [HEAD]
    for name, task in tasks().items():
        rows = [
            row
            for key, record in found.items()
            if key.startswith(f"{name}-")
            for row in rows_of(key.removeprefix(f"{name}-"), record, task)
        ]
        shown = [card for card in pictures.values() if card["task"] == name]
        if not rows and not shown:
            continue
        lines += [f"## {task.title or name.capitalize()}", ""]
        for card in shown:
            lines += [f"![{card['title']}](pictures/{card['name']}.png)", ""]
            lines += [f"*{card['title']} (`{card['name']}`, made brains, cases not picked.)*", ""]
            rows += shipped_rows(card)
        if rows:
            lines += [
                "| data | method | n | measured | method | best baseline |  |",
                "|---|---|---|---|---|---|---|",
            ]
            lines += [*rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def rows_of(name, record, task):
    """The rows of a record: of the first metric that method and baselines have."""
    if "entries" in record:
        return list(solved(name, record))
    if "method" not in record or "trained_by" not in record:
        return []
    return [
        row(name, record["name"], each, minutes(record))
        for each in compared(record, [MAIN[task.name]] if task.name in MAIN else task.shown)[:1]
    ]


def solved(name, record):
    """Of many solvers with one prior a row a measurement."""
    for measurement, its in record["entries"].items():
        parts = {who: part["metrics"] for who, part in its.items()}
        ours = next((m[SOLVER] for m in parts.values() if SOLVER in m), None)
        if ours and "classical" in parts:
            metrics = {"method": ours, "baselines": parts["classical"]}
            for each in compared(metrics, ["psnr"]):
                yield row(
                    f"{name}, {measurement}",
                    f"`sde` (small), `solver={SOLVER}`",
                    each,
                    long(record),
                )


def shipped_rows(card):
    """The first two numbers of a model that ships."""
    where = f"made brains (`{card['name']}`)"
    return [row(where, card["method"], each, minutes_of(card)) for each in card["numbers"][:2]]


def minutes_of(card):
    return card["training"]["seconds"] / 60


def minutes(record):
    parts = [
        record["trained"][who] for who in ("first stage", "method") if who in record["trained"]
    ]
    return sum(each["minutes"] for each in parts)


def row(data, method, each, spent):
    """A row of the table."""
    ours, theirs = each["method"], each["baseline"]
    words = wording(each["metric"])
    verdict = VERDICTS[judged(ours, theirs, each["better"])]
    return (
        f"| {data} | {method}, {spent:.0f} min | {ours.get('n', '')} | {words.label}, {each['better']} "
        f"| {said(ours)} | {said(theirs)} {theirs['name']} | {verdict} |"
    )


def judged(ours, theirs, better):
    """Whether the method is ahead, and whether the intervals are apart."""
    sign = 1 if better == "higher" else -1
    if ours["mean"] == theirs["mean"]:
        return None, False
    ahead = sign * (ours["mean"] - theirs["mean"]) > 0
    first, second = (ours, theirs) if (sign > 0) == ahead else (theirs, ours)
    known = all(None not in (value.get("ci95") or (None, None)) for value in (ours, theirs))
    return ahead, known and first["ci95"][0] > second["ci95"][1]


def said(value):
    low, high = value.get("ci95") or (None, None)
    spread = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return f"{value['mean']:.3g}{spread}"


def long(record):
    """Minutes of training of a prior, of the command that trained it."""
    words = record["prior"]["trained_by"].split()
    return float(words[words.index("--train.minutes") + 1])
