"""Memory: estimated before a training begins, told in one line where it runs out, and never asked for in vain."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from radiffuse import cli
from radiffuse.data import columns, host, splits
from radiffuse.data.names import PLAIN, safe_names, sanitize_filename
from radiffuse.data.table import listener
from radiffuse.errors import UserError
from radiffuse.training import memory
from radiffuse.training.footprint import Beyond, enough, measured
from radiffuse.training.memory import check_memory, check_prediction, check_weights, free_bytes
from radiffuse.training.options import TrainOptions
from training_standins import Regression, Table


class Chain:
    """A loss whose backward pass keeps known tensors: the input of each of two squares, `wide` long."""

    def __init__(self, wide=1000):
        self.players = {"net": nn.Linear(4, wide)}
        self.players["net"].register_buffer("seen", torch.zeros(1))

    def losses(self, batch):
        self.players["net"].seen += 1
        out = self.players["net"](batch["x"]) + torch.randn(1)
        yield "net", out.square().square().mean()


def test_tensors_are_counted_while_they_are_there():
    """a, then a and b, then b and the one that its square makes of it; views and old tensors take nothing."""
    old = torch.zeros(10**6)

    def work():
        a = torch.zeros(1000) + old[:1000]
        b = a.exp()
        del a
        b.view(10, 100).add_(1)
        b.square()

    assert measured(work, 1e9) == 2 * 4000
    assert measured(lambda: torch.zeros(5) / old[:5], 1e9) == 2 * 20


def test_what_the_backward_pass_keeps_is_counted():
    """Of ten layers of tanh each keeps its output; without a gradient there are two at a time."""

    def chain(x):
        for _ in range(10):
            x = x.tanh()
        return x.sum()

    x = torch.zeros(1000, requires_grad=True)
    with torch.no_grad():
        assert measured(lambda: chain(x), 1e9) == 2 * 4000
    kept = measured(lambda: chain(x), 1e9)
    assert 10 * 4000 <= kept <= 10 * 4000 + 100
    assert 11 * 4000 <= measured(lambda: chain(x).backward(), 1e9) <= 14 * 4000


def test_work_ends_where_it_takes_more_than_there_is():
    done = []

    def work():
        kept = [torch.zeros(1000) for _ in range(10)]
        done.append(kept)

    with pytest.raises(Beyond):
        measured(work, 9 * 4000)
    assert not done and measured(work, 10 * 4000) == 40_000 and done


def test_only_the_first_calls_of_a_chain_are_measured():
    layer, calls = nn.Linear(2, 2), []
    with enough({"net": nn.Sequential(layer)}, calls=2):
        for _ in range(100):
            calls.append(layer(torch.zeros(1, 2)))
    assert len(calls) == 2
    calls.append(layer(torch.zeros(1, 2)))
    assert len(calls) == 3, "no hook stays"


def test_what_a_step_takes_is_a_line_in_its_cases():
    """Two float32 of 1000 a case and their gradients, beside weights that do not grow."""
    sizes = [
        measured(lambda many=many: memory._of_a_step(Chain(), Table(), many, TrainOptions()), 1e9)
        for many in (1, 2, 4, 8)
    ]
    assert sizes[3] - sizes[2] == pytest.approx(2 * (sizes[2] - sizes[1]), rel=0.02)
    assert 2 * 4000 <= (sizes[3] - sizes[2]) / 4 <= 6 * 4000 + 100


def test_measuring_leaves_no_trace():
    objective = Chain()
    before = {name: value.clone() for name, value in objective.players["net"].state_dict().items()}
    torch.manual_seed(3)
    check_memory(objective, Table(), TrainOptions())
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    after = objective.players["net"].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is None for p in objective.players["net"].parameters())


def test_batches_that_do_not_fit_are_refused_and_the_rest_is_said(monkeypatch):
    objective, options = Chain(wide=10**5), TrainOptions(batch=64)
    line = check_memory(objective, Table(), options)
    needed = float(re.search(r"takes about ([\d.]+) GiB", line)[1]) * 2**30
    for free, kind in ((0.9, "refused"), (1.1, "tight"), (1.5, "")):
        monkeypatch.setattr(memory, "free_bytes", lambda free=free: free * needed)
        if kind == "refused":
            with pytest.raises(
                UserError, match=r"for a step with 64 of 64 cases .*--train\.accumulate"
            ):
                check_memory(objective, Table(), options)
            assert check_memory(objective, Table(), dataclasses.replace(options, accumulate=2))
        else:
            line = check_memory(objective, Table(), options)
            assert ("if it does not suffice" in line) == bool(kind) and "\n" not in line
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"a training step takes more than the .* that are free"):
        check_memory(objective, Table(), options)


def test_predictions_that_do_not_fit_are_refused(monkeypatch):
    net = nn.Linear(10, 10**4)
    monkeypatch.setattr(memory, "LIBRARIES", 1000)

    def work(many):
        return net(torch.zeros(many, 10))

    line = check_prediction({"net": net}, work, 1000, "less")
    assert line.startswith("1000 cases at a time take about 0.0597 GiB") and "less" not in line
    monkeypatch.setattr(memory, "free_bytes", lambda: 5 * 10**7)
    with pytest.raises(UserError, match=r"1000 cases at a time take .* are free; less"):
        check_prediction({"net": net}, work, 1000, "less")
    with pytest.raises(UserError, match=r"a prediction takes more than the 9\.31e-05 GiB that are"):
        monkeypatch.setattr(memory, "free_bytes", lambda: 10**5)
        check_prediction({"net": nn.Linear(10, 10**5)}, lambda n: torch.zeros(n, 10**5), 1, "less")


def test_networks_that_do_not_fit_are_refused_before_they_are_made():
    asked = []

    def build():
        asked.append(1)
        return Regression(hidden=10**12)

    with pytest.raises(UserError, match=r"6e\+06 million weights, which need .* lower --width"):
        check_weights(build, TrainOptions())
    check_weights(Regression, TrainOptions())
    assert asked and nn.Linear(2, 2).weight.device.type == "cpu"


def test_an_objective_that_cannot_be_measured_is_left_to_the_training():
    class Wrong(Regression):
        def losses(self, batch):
            raise ValueError("wrong")

    assert check_memory(Wrong(), Table(), TrainOptions()) == ""


def test_what_is_free_is_what_the_container_has(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "CGROUP", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    whole = free_bytes()
    assert whole > 1 << 20
    for most, free in (("max", None), (str(10 << 20), 7 << 20), (str(1 << 20), 0)):
        (tmp_path / "memory.max").write_text(most)
        (tmp_path / "memory.current").write_text(str(5 << 20))
        (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2 << 20}\n")
        assert free_bytes() == free if free is not None else free_bytes() > 1 << 20


# --- the command line -------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", image=rng.integers(0, 256, (8, 16, 16)).astype(np.uint8))
    return tmp_path / "a.npz"


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--train.batch", 10**9), 2, "--train.batch must be at most 1000000"),
        (("--train.steps", 10**12), 2, "--train.steps must be at most 1000000000"),
        (("--train.accumulate", 10**9), 2, "--train.accumulate must be at most"),
        (("--width", 10**6), 2, "--width must be between 1 and 65535"),
        (("--multiples", 10**6), 2, "--multiples must be between 1 and 1000"),
        (("--blocks", 10**20), 2, "--blocks must be between 1 and 1000, not 1e+20"),
        (("--timesteps", 10**9), 2, "--timesteps must be at most 1000000"),
        (("--size", 10**5, 10**5), 2, "--size must be between 1 and 65535"),
        (("--size", 60000, 60000), 1, "8 images of it take"),
        (("--width", 40000), 1, "million weights, which need"),
        (("--train.batch", 10**6, "--size", 256, 256), 1, "of 1000000 cases at a time)"),
    ],
)
def test_what_is_beyond_reason_is_refused_before_anything_is_made(
    tmp_path, data, capsys, flags, code, said
):
    words = ["train", "ddpm", "--data", data, "--out", tmp_path / "run", "--preset", "tiny", *flags]
    assert cli.main([str(word) for word in words]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1 and said in lines[0]
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "run", "--count", 10**12, "--out", "o"),
        ("sample", "run", "--count", 1, "--batch", 10**9, "--out", "o"),
        ("predict", "run", "--samples", 10**9, "--out", "o"),
        ("predict", "run", "--steps", 10**9, "--out", "o"),
        ("evaluate", "run", "--count", 10**12),
    ],
)
def test_counts_beyond_reason(refused, words):
    assert "must be at most 10000000, not 1" in refused(*words, code=2)


OUT = [
    (MemoryError(), "the memory does not suffice; lower"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes."),
     "the memory does not suffice (4 GiB were asked for at once); lower"),
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"),
        "the memory of the GPU does not suffice (20 GiB",
    ),
    (np._core._exceptions._ArrayMemoryError((1 << 30,), np.dtype("f8")), "the memory does not suffice (8 GiB"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "said"), OUT, ids=[type(error).__name__ for error, _ in OUT])
def test_memory_that_runs_out_is_one_line(refused, monkeypatch, tmp_path, error, said):
    def stop(*words):
        raise error

    monkeypatch.setattr(cli, "_dispatch", stop)
    line = refused("report", tmp_path)
    assert said in line and "internal error" not in line


def test_a_file_that_does_not_fit_is_named(refused, monkeypatch, tmp_path, data):
    def stop(*words, **options):
        raise MemoryError

    monkeypatch.setattr("radiffuse.data.formats.arrays._load", stop)
    said = refused("train", "ddpm", "--data", data, "--out", tmp_path / "run")
    assert f"{data}: does not fit into memory" in said
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    monkeypatch.setattr(columns, "read_image", stop)
    said = refused("train", "ddpm", "--data", tmp_path / "a.png", "--out", tmp_path / "run")
    assert "a.png: does not fit into memory" in said


WORKER = Path(__file__).resolve().parent.parent / "benchmarks" / "volumes_worker.py"


def test_what_is_said_is_what_is_taken(tmp_path):
    """Of a training, by the kernel's count of this process, which differs by a tenth and more from run to run:
    a third is left here, and `benchmarks/volumes.py` records where 25 % hold."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", image=rng.integers(0, 256, (8, 40, 40, 40)).astype(np.uint8))
    words = ["train", "ddpm", "--preset", "tiny", "--width", 32, "--data", tmp_path / "a.npz"]
    words += ["--train.steps", 1, "--train.batch", 4, "--out", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, WORKER, "command", *map(str, words)],
        check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["said"] == pytest.approx(told["bytes"], rel=0.35), told


# --- many rows --------------------------------------------------------------------------------------

MANY = 30_000


def test_many_names_that_are_one_as_files_are_told_apart():
    """In a time that grows with their number, not with its square: that would be minutes."""
    made = safe_names(["CASE" if n % 2 else "case" for n in range(MANY)])
    assert len(set(made)) == MANY and made[:3] == ("case", "CASE-2", "case-3")


def test_plain_names_are_what_the_library_leaves_alone():
    for name in (
        "a",
        "p01_slice003",
        "x.y-z",
        "con",
        "nul.txt",
        "COM1",
        "com12",
        "a.",
        ".a",
        "a..b",
        "-a",
        "lpt",
        "Aux.x.y",
    ):
        if PLAIN.fullmatch(name):
            assert sanitize_filename(name, replacement_text="_", platform="universal") == name
    assert PLAIN.fullmatch("x.y-z") and not PLAIN.fullmatch("nul.txt") and not PLAIN.fullmatch("a.")


def test_names_that_are_no_text_become_names_of_files():
    made = safe_names(["a\udcff", "a\udcfe", "\udc80"])
    assert len(set(made)) == 3 and all(name.encode() and name.isprintable() for name in made)


def test_many_patients_who_share_pictures_go_together():
    people = [f"p{MANY - n:05d}" for n in range(MANY)]
    shared = [frozenset((f"h{n // 2}", f"g{(n + 1) // 2}")) for n in range(MANY)]
    assert len(set(splits.assign(people, shared, 0))) == 1


def test_many_remarks_are_kept_once():
    notices = ["first"]
    hear = listener(notices)
    for n in range(2 * MANY):
        hear(f"{n % MANY}")
    hear("first")
    assert len(notices) == MANY + 1


def test_a_table_of_many_doubles_is_refused_at_once(tmp_path, refused):
    rows = "\n".join(f"c{n % (MANY // 2)},i.png" for n in range(MANY))
    (tmp_path / "cases.csv").write_text(f"case,image\n{rows}\n")
    said = refused("train", "ddpm", "--data", tmp_path, "--out", tmp_path / "run")
    assert f"case c0 stands twice ({MANY // 2} such)" in said


def test_a_file_that_many_rows_name_is_read_once(tmp_path, monkeypatch):
    from PIL import Image

    from radiffuse.data.dataset import open_cases

    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "i.png")
    (tmp_path / "cases.csv").write_text(
        "case,image\n" + "".join(f"c{n},i.png\n" for n in range(500))
    )
    reads = []
    read = columns.read_image
    monkeypatch.setattr(columns, "read_image", lambda *a, **o: reads.append(1) or read(*a, **o))
    cases = open_cases(tmp_path)
    assert cases.batch(range(500))["image"].shape == (500, 1, 16, 16) and len(reads) <= 9
    assert dataclasses.replace(cases).fingerprint
