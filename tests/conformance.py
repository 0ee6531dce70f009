"""Tables of docs/conformance.md, made from what the writers use."""

import re

from radiffuse.clinic import attributes
from radiffuse.clinic.meanings import MEANINGS
from radiffuse.commands.findings import REPORTED

TABLE = re.compile(
    r"(<!-- (classes|outputs|attributes): made by tests/lists\.py -->\n).*?(<!-- end of \2 -->)",
    re.S,
)
OBJECTS = {
    "image": "derived series",
    "labels": "segmentation, binary",
    "probabilities": "segmentation, fractional",
    "map": "parametric map",
    "report": "structured report, TID 1500",
}
_MODULES = {
    "patient": "every object",
    "study": "every object",
    "series": "derived series; BodyPartExamined and FrameOfReferenceUID of every object",
    "image": "derived series",
    "window": "derived series whose values mean what those of the source do",
}


def classes() -> list[str]:
    """A row a storage class."""
    rows = [
        *(
            (f"{modality} that lies in space, grey", of)
            for modality, of in attributes.CLASSES.items()
        ),
        ("any other picture", attributes.SECONDARY),
        ("any other volume, grey", attributes.GREY_STACK),
        ("any volume in colour", attributes.COLOUR_STACK),
    ]
    rows = [
        ("US picture of 8 bits, grey or colour" if "US " in who else who, of) for who, of in rows
    ]
    cells = [f"| {who} | {name} | `{uid}` |" for who, (uid, name) in rows]
    return ["| source | class of a derived series | UID |", "|---|---|---|", *cells]


def outputs() -> list[str]:
    """A row a key of predictions."""
    rows = []
    for key, what in MEANINGS.items():
        code = " ".join(what.code[:2]) if what.code else "99RADIFFUSE"
        of = f"`{', '.join(REPORTED)}` of values" if key == "report" else f"`{key.split(':')[-1]}`"
        more = " (reconstruction)" if ":" in key else ""
        shown = "yes" if what.generated else ""
        rows.append(f"| {of}{more} | {what.said} | {OBJECTS[what.form]} | {code} | {shown} |")
    head = ["| output | said in SeriesDescription | object | code | SYNTHETIC content |"]
    return [*head, "|---|---|---|---|---|", *rows]


def carried() -> list[str]:
    """A row a module: attributes of the source, and what stands where it lacks them."""
    lines = [
        "| of | attributes carried from the source | empty, or else, where the source lacks them |"
    ]
    lines.append("|---|---|---|")
    for module, names in attributes.CARRIED.items():
        filled = [
            f"{name} = {_said(value)}" for name, value in attributes.FILLED.get(module, {}).items()
        ]
        rest = [*attributes.EMPTY.get(module, ()), *filled]
        where = _MODULES.get(module, f"derived series of {module}")
        lines.append(f"| {where} | {' '.join(names)} | {', '.join(rest)} |")
    return lines


def _said(value: object) -> str:
    return "\\\\".join(value) if isinstance(value, list) else str(value)


def with_tables(text: str) -> str:
    """A page with its tables as the code has them."""
    made = {"classes": classes, "outputs": outputs, "attributes": carried}

    def one(match: re.Match[str]) -> str:
        return match[1] + "\n" + "\n".join(made[match[2]]()) + "\n\n" + match[3]

    return TABLE.sub(one, text)
