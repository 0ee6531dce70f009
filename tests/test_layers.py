"""Who may import whom, how large a file may be, where dimensions may be named, what an import costs."""

import ast
import io
import json
import re
import subprocess
import sys
import time
import tokenize
from functools import cache
from pathlib import Path

import pytest

import house
import radiffuse
from house import ROOT, imports, modules, name_of
from radiffuse import papers

HOUSE: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("papers", "operators", "nn", "diffusion"),
    ("data", "inverse", "testing"),
    ("training", "acquisition", "report", "clinic"),
    ("metrics", "cli"),
    ("applications", "__main__"),
    ("runs",),
    ("commands",),
    ("api",),
)
"""The rooms from the ground up. A module imports from lower floors and from its own room."""
FLOORS = {name: floor for floor, names in enumerate(HOUSE) for name in names}

MOST_ROOMS, MOST_LINES, MOST_CODE = 20, 400, 150

APPLICATIONS = (
    *("anomaly", "classification", "denoising", "generation", "other"),
    *("reconstruction", "registration", "segmentation", "translation"),
)
NEIGHBOURS: tuple[tuple[str, str, str], ...] = (
    ("anomaly", "segmentation", "a supervised U-Net stands beside guidance by segmentation"),
    (
        "generation",
        "classification",
        "a classifier that learned from drawn tiles says what they teach",
    ),
    ("reconstruction", "generation", "a prior of images is a generative model"),
    ("segmentation", "generation", "label maps of brainspade are drawn by a latent diffusion"),
    ("other", "reconstruction", "r2d2 measures and solves as the reconstructions do"),
    ("other", "classification", "behind mdda stands the plain classifier"),
)
"""Applications that import another one, and why."""

RECIPES_NEVER = (
    *("commands", "runs", "report", "data", "training.loop", "training.checkpoint"),
    *("training.options", "training.tensorfile"),
)
"""Recipes know no files and no loops; `data.image` and `data.dataset` are plain data (Image, Facts)."""

ALL_DIMENSIONS = (
    *("nn/blocks.py", "nn/convolution.py", "nn/warp.py", "operators/", "data/transforms.py"),
    *("metrics/inception.py", "metrics/resnet.py"),  # trained elsewhere, on pictures
)


def offenders(found):
    """What is wrong with each module where something is, by its name."""
    wrong = {name_of(path): found(path) for path in modules()}
    return {name: what for name, what in wrong.items() if what}


def not_lower(path):
    """Imports of other rooms that are on no lower floor."""
    here = house.room(name_of(path))
    others = {other for other in imports(path) if house.room(other) != here}
    return {other for other in others if FLOORS[house.room(other)] >= FLOORS[here]}


def test_imports_point_to_lower_floors():
    assert offenders(not_lower) == {}


def test_no_files_import_each_other_in_a_circle():
    known = {name: set(others) for name, others in house.graph().items()}
    packages = {name_of(path) for path in modules() if path.stem == "__init__"}
    for name in packages:
        known[name] |= set()
    assert house.floors(known)


def test_the_house_is_small_enough_to_know():
    inside = [path for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()]
    assert len([path for path in inside if path.stem != "__pycache__"]) <= MOST_ROOMS
    assert {house.room(name) for name in house.graph()} == FLOORS.keys()


def lines_too_many(path):
    return max(0, len(path.read_text(encoding="utf-8").splitlines()) - MOST_LINES)


def test_no_file_is_too_long():
    assert offenders(lines_too_many) == {}


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in ROOT.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_drawing_shows_the_house():
    written = house.DRAWING.read_text(encoding="utf-8")
    assert written == house.drawing(), "python tests/house.py draws it anew"


# ---------------------------------------------------------------------------------- applications
def application(module: str) -> str:
    """The room of a module of an application; "" for what they share and for all else."""
    parts = module.split(".")
    named = parts[0] == "applications" and len(parts) > 1 and parts[1] in APPLICATIONS
    return parts[1] if named else ""


def recipes() -> list[Path]:
    """The files of the methods, and what the recipes of a room share."""
    named = {paper.recipe.partition(":")[0] for paper in papers.rows() if paper.recipe}
    methods = {ROOT.parent / (name.replace(".", "/") + ".py") for name in named}
    return sorted(methods | set(ROOT.glob("applications/*/base.py")))


def strangers(path):
    """Applications that a module of another one imports and may not."""
    if not name_of(path).startswith("applications."):
        return set()
    here = application(name_of(path))
    allowed = {there for room, there, _ in NEIGHBOURS if room == here}
    return {application(other) for other in imports(path)} - {"", here} - allowed


def test_no_application_imports_another():
    assert offenders(strangers) == {}


@pytest.mark.parametrize("here, there, why", NEIGHBOURS)
def test_every_neighbour_is_still_needed(here, there, why):
    assert why
    assert any(
        application(module) == here and there in map(application, known)
        for module, known in house.graph().items()
    )


def kind(module: str) -> int:
    """Inside an application: 0 the task, 1 recipes and helpers, 2 baselines, 3 evaluation."""
    order = {"task": 0, "baselines": 2, "evaluate": 3}
    return order.get(module.rpartition(".")[2], 1)


def known_too_early(path):
    """Of a recipe, what it imports of baselines and evaluation; of a task, all but tasks in general."""
    here, known = name_of(path), imports(path)
    if not application(here) or kind(here) >= 2:
        return set()
    inside = {other for other in known if application(other) == application(here)}
    wrong = {other for other in inside if kind(other) >= 2}
    return wrong if kind(here) else wrong | (known - {"applications.task"})


def test_recipes_know_neither_baselines_nor_evaluation():
    assert offenders(known_too_early) == {}


@pytest.mark.parametrize("path", recipes(), ids=name_of)
def test_recipes_know_no_files_and_no_loops(path):
    allowed = {"data.image", "data.dataset"}
    assert not {n for n in imports(path) - allowed if n.startswith(RECIPES_NEVER)}


@pytest.mark.parametrize("path", recipes(), ids=name_of)
def test_no_recipe_is_too_long(path):
    assert code_lines(path.read_text(encoding="utf-8")) <= MOST_CODE


def code_lines(text: str) -> int:
    """Lines of code: no comments, docstrings or blank lines."""
    quiet = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (*quiet, tokenize.ENDMARKER):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_lines_of_code_are_counted_without_words():
    text = '"""Words,\nmore."""\n\nx = 1  # one\n# alone\ny = (\n    2\n)\n"""About y."""\n'
    assert code_lines(text) == 4


# ------------------------------------------------------------------------------------ what costs
@pytest.mark.parametrize(
    "room_",
    [
        "report",
        "papers",
        "errors",
        "runs/config",
        "training/options",
        "applications/ranges",
        "applications/fields",
    ],
)
def test_what_reads_only_files_never_imports_torch(room_):
    place = ROOT / room_
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for path in files:
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for node in tree:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "torch" for name in names), path


@cache
def code_without_text(path: Path) -> str:
    """The source with docstrings, other texts and comments taken out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree)


FORBIDDEN = (
    "Conv1d", "Conv2d", "Conv3d", "Pool2d", "Pool3d", "ConvTranspose", "BatchNorm2d",
    "None, None, None]", "None, None, None, None]", "view(-1, 1, 1, 1)", "reshape(-1, 1, 1, 1)",
)  # fmt: skip
COUNTED = re.compile(
    r"(?:\.ndim|\.dim\(\)|\blen\([\w.]*size\))(?: - [12])? (?:[=!]=|[<>]=?|(?:not )?in) [(\[{]?[2-9]"
)
"""A number of axes compared with two or more; with 0 or 1 it tells images from numbers."""
TWO_OR_THREE = ("bilinear", "trilinear", "bicubic")
"""Interpolations that torch names by the number of axes."""

COUNTED_ALLOWED = {
    "data/formats/fastmri.py": "the format holds stacks of slices; whatever else comes is passed on as it is",
    "data/formats/sampling.py": "arrays of k-space are told apart by how many axes they have",
    "acquisition/kspace.py": "k-space has a coil axis, so fewer than four axes are not k-space",
    "commands/pictures.py": "a picture file holds two axes, a volume is shown by three planes",
    "commands/draws.py": "values with a spatial axis have a deviation map, labels have none",
    "data/formats/arrays.py": "an array file says its axes by their number alone",
    "data/formats/by_ending.py": "a file format holds pictures or volumes",
    "data/image.py": "an affine is of three axes",
    "data/memory.py": "tensors given as a dataset say their axes by their number alone",
    "data/neighbours.py": "slices that have neighbours are those of two axes",
    "data/slices.py": "slices of two axes are cut from volumes of three",
    "data/formats/pictures.py": "a picture in colour has one axis more",
    "applications/denoising/evaluate.py": "sides of what is measured where a volume has as many voxels as a slice",
    "applications/evaluation/judge.py": "the judge was trained on pictures elsewhere",
    "applications/generation/volumes.py": "volumes are measured by their slices too",
    "applications/sizes.py": "a method of whole volumes takes no pictures; volumes have short axes and thick slices",
    "nn/augment.py": "what has spatial axes is an image, all else stays as it is",
}
"""Modules outside ALL_DIMENSIONS where a number of axes is compared, and why."""
NAMED_ALLOWED = {
    "nn/augment.py": "grid_sample says bilinear for volumes too",
}
"""Modules outside ALL_DIMENSIONS that name such an interpolation, and why."""


def axes_named(path: Path) -> list[str]:
    """Where the code of a module says the number of axes."""
    where, code = path.relative_to(ROOT).as_posix(), code_without_text(path)
    found = [word for word in FORBIDDEN if word in code]
    if where not in COUNTED_ALLOWED:
        found += COUNTED.findall(code)
    if where not in NAMED_ALLOWED:
        texts = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found += [n.value for n in texts if isinstance(n, ast.Constant) and n.value in TWO_OR_THREE]
    return found


def axes_named_elsewhere(path):
    """Where a module names the number of axes that is in no room where 2-D and 3-D differ."""
    differ = path.relative_to(ROOT).as_posix().startswith(ALL_DIMENSIONS)
    return [] if differ else axes_named(path)


def test_the_number_of_axes_is_named_only_in_its_rooms():
    assert offenders(axes_named_elsewhere) == {}


@pytest.mark.parametrize(
    "line",
    [
        "images.dim() != 4",
        "x.ndim < 4",
        "x.ndim - 2 == 3",
        "x.ndim in (4, 5)",
        "len(self.size) == 2",
        "resize(x, mode='bilinear')",
        "torch.nn.Conv2d(1, 1, 1)",
    ],
)
def test_the_number_of_axes_is_found_however_it_is_named(line, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "module.py").write_text(f"{line}\n")
    assert axes_named(tmp_path / "module.py")


@pytest.mark.parametrize("line", ["x.ndim > 1", "x.ndim - 2", "x.ndim == y.ndim", "# x.ndim == 4"])
def test_what_counts_no_axes_is_let_be(line, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "module.py").write_text(f"{line}\n")
    assert not axes_named(tmp_path / "module.py")


def test_every_exception_is_still_needed():
    for where in COUNTED_ALLOWED:
        assert COUNTED.search(code_without_text(ROOT / where)), where
    for where in NAMED_ALLOWED:
        assert any(word in (ROOT / where).read_text() for word in TWO_OR_THREE), where


def test_no_pickle_is_read_or_written():
    for path in modules():
        code = code_without_text(path)
        assert "pickle" not in code.replace("allow_pickle=False", ""), path
        assert "torch.load(" not in code and "torch.save(" not in code, path


def loaded_after(code: str) -> set[str]:
    said = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(said.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["methods"], ["methods", "--json"]])
def test_help_and_methods_import_no_torch(words):
    loaded = loaded_after(f"from radiffuse.cli import main; assert main({words!r}) == 0")
    assert "torch" not in loaded and "numpy" not in loaded


def test_help_needs_no_parser():
    assert "tyro" not in loaded_after("from radiffuse.cli import main; main(['--help'])")


def test_help_answers_within_a_second():
    best = min(timed([sys.executable, "-m", "radiffuse", "--help"]) for _ in range(3))
    assert best < 1.0


def test_importing_the_package_imports_no_torch():
    loaded = loaded_after("import radiffuse")
    assert "torch" not in loaded and len({name for name in loaded if "radiffuse." in name}) == 0


def test_importing_the_core_costs_little_beyond_torch():
    code = (
        "import time, torch; start = time.perf_counter(); import radiffuse, radiffuse.diffusion.schedule, "
        "radiffuse.diffusion.denoiser, radiffuse.diffusion.kernels; print(time.perf_counter() - start)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(said.stdout) < 0.5


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


@pytest.mark.parametrize("name", sorted(radiffuse._HOMES))
def test_every_public_name_is_there(name):
    assert getattr(radiffuse, name) is not None


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        radiffuse.nothing  # noqa: B018


def test_the_version_is_the_projects():
    import tomllib

    project = ROOT.parents[1] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("installed without its project file")
    assert tomllib.loads(project.read_text())["project"]["version"] == radiffuse.__version__
