"""Who may import whom, where dimensions may be named, and what an import may cost."""

import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import radiffuse

ROOT = Path(radiffuse.__file__).parent

HOUSE: tuple[tuple[str, ...], ...] = (
    ("errors", "files", "names", "papers", "schedule", "noise", "simplex", "parametrization", "integrate",
     "ranges", "operators", "nn", "losses", "registration_losses", "metrics", "data.image", "config", "options",
     "processes", "interrupt", "label_maps", "tensorfile", "windows", "degrade", "fusion", "spectrum"),
    ("kernels", "denoise", "data", "tasks", "ema", "checkpoint"),
    ("sample", "objective", "likelihood", "counterfactual", "categorical", "averaging",
     "complex_images", "filtered", "residual"),
    ("inverse", "acquisition", "train", "baselines", "batches", "gradients", "health", "player", "progress"),
    ("recipes",),
    ("run", "evaluate", "report", "testing"),
    ("cli", "commands", "__main__"),
)  # fmt: skip
FLOORS = {name: floor for floor, names in enumerate(HOUSE) for name in names}
"""The floor of each module or package. A module may import from lower floors and from its own."""

SHARED = (
    *(
        "recipes.adversarial",
        "recipes.backbone",
        "recipes.base",
        "recipes.anomaly",
        "recipes.complex_prior",
        "recipes.conditional",
        "recipes.dual_guided",
    ),
    *("recipes.continuous", "recipes.denoising", "recipes.parts"),
    *("recipes.reconstruction", "recipes.registration", "recipes.solvers"),
)
"""Not recipes but what several recipes share."""
RECIPES_NEVER = ("train", "config", "report", "data.", "checkpoint", "files")
ALL_DIMENSIONS = (
    *("nn/blocks.py", "nn/warp.py", "operators/", "data/transforms.py"),
    *("metrics/inception.py", "metrics/resnet.py"),  # trained elsewhere, on pictures
)


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The longest entry of FLOORS that holds the module: data.image before data."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in FLOORS:
            return ".".join(parts[:length])
    raise AssertionError(f"{module} has no floor: name it in FLOORS")


def imports(path: Path) -> set[str]:
    """Modules of radiffuse that a file imports anywhere, also inside functions."""
    package = ["radiffuse", *path.relative_to(ROOT).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{stem}.{alias.name}" for alias in node.names}
    inside = {name.removeprefix("radiffuse.") for name in found if name.startswith("radiffuse.")}
    return {longest_module(name) for name in inside} - {""}


def longest_module(name: str) -> str:
    """The module part of `module.attribute`; "" for an attribute of the package itself."""
    parts = name.split(".")
    while parts:
        place = ROOT.joinpath(*parts)
        if place.with_suffix(".py").exists() or place.is_dir():
            return ".".join(parts)
        parts = parts[:-1]
    return ""


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_to_lower_floors(path):
    here = room(name_of(path))
    wrong = [
        other
        for other in imports(path)
        if room(other) != here and FLOORS[room(other)] > FLOORS[here]
    ]
    assert not wrong, f"{name_of(path)} (floor {FLOORS[here]}) imports {wrong}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if name_of(path).startswith("recipes.")], ids=name_of
)
def test_recipes_know_no_files_and_no_loops_and_not_each_other(path):
    known = imports(path)
    allowed = {"data.image", "data.dataset"}  # Image and Facts are plain data
    wrong = [name for name in known if name.startswith(RECIPES_NEVER) and name not in allowed]
    if path.stem not in ("base", "index"):
        wrong += [name for name in known if name.startswith("recipes.") and name not in SHARED]
    assert not wrong


@pytest.mark.parametrize("room_", ["report", "papers", "config", "names", "options", "ranges"])
def test_what_reads_only_files_never_imports_torch(room_):
    place = ROOT / room_
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for path in files:
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for node in tree:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "torch" for name in names), path


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
    "data/fastmri.py": "the format holds stacks of slices; whatever else comes is passed on as it is",
    "acquisition/kspace.py": "k-space has a coil axis, so fewer than four axes are not k-space",
    "commands/pictures.py": "a picture file holds two axes, a volume is shown by its middle slice",
    "commands/predict.py": "values with a spatial axis have a deviation map, labels have none",
    "data/arrays.py": "an array file says its axes by their number alone",
    "data/dicom.py": "a file of several frames has one axis more",
    "data/formats.py": "a file format holds pictures or volumes",
    "data/image.py": "an affine is of three axes",
    "data/memory.py": "tensors given as a dataset say their axes by their number alone",
    "data/neighbours.py": "slices that have neighbours are those of two axes",
    "data/pictures.py": "a picture in colour has one axis more",
    "evaluate/denoising.py": "sides of what is measured where a volume has as many voxels as a slice",
    "evaluate/judge.py": "the judge was trained on pictures elsewhere",
    "evaluate/panels.py": "a volume is shown by its middle slice",
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


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_the_number_of_axes_is_named_only_in_its_rooms(path):
    if path.relative_to(ROOT).as_posix().startswith(ALL_DIMENSIONS):
        pytest.skip("a room where 2-D and 3-D differ")
    assert not axes_named(path), f"{name_of(path)}: {axes_named(path)}"


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
        "radiffuse.diffusion.denoise, radiffuse.diffusion.kernels; print(time.perf_counter() - start)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(said.stdout) < 0.5


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


@pytest.mark.parametrize("name", [name for name in radiffuse.__all__ if name != "__version__"])
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
