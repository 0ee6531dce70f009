"""What an audit says in words, by rules that stand here, each with the numbers behind it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["SURE", "TELLS", "verdict"]

SURE = 0.001
"""Copies are found where chance alone would make as many in fewer than so many audits, in one eye."""
TELLS = 0.5
"""Members are told apart where the interval of the area under the curve lies above it."""


def verdict(record: Mapping[str, Any]) -> list[str]:
    """Sentences: copies, groups, membership, attributes, each only where it was measured or says why not."""
    return [
        *_copies(record["memorisation"]),
        *_groups(record["extraction"]),
        *_membership(record["membership"]),
        *_attributes(record["attributes"]),
    ]


def _copies(found: Mapping[str, Any]) -> list[str]:
    if "refused" in found:
        return [f"copies: not measured, {found['refused']}"]
    eyes = {name: eye for name, eye in found["eyes"].items() if "p" in eye}
    if not eyes:
        return [f"copies: not measured, {found['eyes']['pixels']['share']['refused']}"]
    caught = {name: eye for name, eye in eyes.items() if eye["p"] < SURE}
    if not caught:
        n = next(iter(eyes.values()))["share"]["n"]
        most = max(eye["share"]["ci95"][1] for eye in eyes.values())
        return [
            f"no copies found among {n} samples; a share above {_percent(most)} is excluded at 95 % "
            f"({', '.join(eyes)})"
        ]
    name, eye = max(caught.items(), key=lambda item: item[1]["beyond_chance"]["mean"])
    low, high = eye["beyond_chance"]["ci95"]
    hits = round(eye["share"]["mean"] * eye["share"]["n"])
    lines = [
        f"copies found: {hits} of {eye['share']['n']} samples lie nearer to a training image than new real images do "
        f"({name}); beyond chance ({_percent(eye['chance'])}) that is {_percent(eye['beyond_chance']['mean'])} "
        f"[{_percent(low)}, {_percent(high)}] of the samples"
    ]
    people = found.get("people", [])
    if people:
        most = ", ".join(f"{each['patient']} ({each['samples']})" for each in people[:5])
        more = f" and {len(people) - 5} more" if len(people) > 5 else ""
        lines.append(f"the people copied most: {most}{more}")
    return lines


def _groups(found: Mapping[str, Any]) -> list[str]:
    if "refused" in found:
        return [f"extraction: not measured, {found['refused']}"]
    if not found["groups"]:
        return [
            f"extraction: no image was drawn three times or more among {found['samples']} samples"
        ]
    line = (
        f"extraction: {found['groups']} images were drawn three times or more, one {found['largest']} times, "
        f"among {found['samples']} samples"
    )
    if "extracted" not in found:
        return [line]
    return [f"{line}; {found['extracted']} of them are training images"]


def _membership(found: Mapping[str, Any]) -> list[str]:
    if "refused" in found:
        return [f"membership: not measured, {found['refused']}"]
    known = {name: found[name] for name in ("loss", "online", "offline") if name in found}
    given = {name: each for name, each in known.items() if "mean" in each["auc"]}
    if not given:
        return [f"membership: not measured, {known['loss']['auc']['refused']}"]
    name, best = max(given.items(), key=lambda item: item[1]["auc"]["ci95"][0])
    low, high = best["auc"]["ci95"]
    tells = low > TELLS
    rate = best["found"]
    said = (
        f", {_percent(rate['mean'])} of members are found at 1 % false positives"
        if "mean" in rate
        else ""
    )
    word = "can be told from others" if tells else "cannot be told from others"
    return [
        f"members {word}: area under the curve {best['auc']['mean']:.2f} [{low:.2f}, {high:.2f}] ({name}){said}"
    ]


def _attributes(found: Mapping[str, Any]) -> list[str]:
    if "refused" in found:
        return [f"attributes: not measured, {found['refused']}"]
    given = {name: each for name, each in found.items() if "mean" in each["advantage"]}
    if not given:
        return [f"attributes: not measured, {next(iter(found.values()))['advantage']['refused']}"]
    name, each = max(given.items(), key=lambda item: item[1]["advantage"]["ci95"][0])
    low, high = each["advantage"]["ci95"]
    word = "labels of members leak" if low > 0 else "no leak of labels found"
    return [
        f"{word}: guessed right for {_percent(each['members']['mean'])} of members and "
        f"{_percent(each['others']['mean'])} of others, a difference of {100 * each['advantage']['mean']:.1f} points "
        f"[{100 * low:.1f}, {100 * high:.1f}] ({name})"
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
