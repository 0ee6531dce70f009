"""Training and sharing out on several processes."""

import json
import os
import subprocess
import sys

import torch
from safetensors.torch import load_file

import training_standins
from radiffuse.training import processes
from radiffuse.training.checkpoint import newest
from radiffuse.training.loop import TrainOptions, train
from training_standins import Duel, Table


def test_shares_are_everything_once_and_even():
    for n in (0, 1, 7, 16):
        for world in (1, 2, 3, 20):
            parts = [processes.share(n, rank, world) for rank in range(world)]
            assert [i for part in parts for i in part] == list(range(n))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_there_is_nothing_to_agree_on():
    assert (processes.rank(), processes.world(), processes.is_main()) == (0, 1, True)
    assert processes.agree([3.0, 0.0]) == [3.0, 0.0]
    processes.barrier()
    assert not torch.distributed.is_initialized()


def test_accelerate_that_starts_one_process_of_two_is_told_of_in_one_line():
    """`accelerate launch` does so on a CPU."""
    launch = ["accelerate.commands.accelerate_cli", "launch", "--cpu", "--num-processes", "2"]
    alone = ["--num-machines", "1", "--mixed-precision", "no", "--dynamo-backend", "no"]
    words = ["-m", *launch, *alone, "-m", "radiffuse", "methods"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "radiffuse" in line)
    assert line.startswith("radiffuse: warning: accelerate launch has started one process only")
    assert "torchrun --nproc-per-node N -m radiffuse" in line


def test_one_process_that_nobody_launched_is_not_warned_of(monkeypatch):
    for name in ("ACCELERATE_MIXED_PRECISION", "MASTER_ADDR", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert processes.warning() is None
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # accelerate launch --num-processes 1
    assert processes.warning() is None
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("WORLD_SIZE", "2")):  # and on two GPUs
        monkeypatch.setenv(name, value)
    assert processes.warning() is None


def test_under_torchrun_killed_or_sharded_it_is_the_same_as_on_one_process(tmp_path):
    """Process 1 of 2 is killed; torchrun starts both again with the same command.

    Two processes of one micro-batch draw and sum as one process of two does.
    """
    values = {"steps": 60, "batch": 8, "learning_rate": 1e-2, "checkpoint_minutes": 1e-9}
    arguments = {
        "out": str(tmp_path / "two"),
        "options": values,
        "resume": True,
        "kill_after": (9, 0.0071),
    }
    values_sharded = {**values, "shard": True, "checkpoint_minutes": 60.0}
    sharded = {"out": str(tmp_path / "sharded"), "options": values_sharded, "resume": False}
    arguments["objective"] = sharded["objective"] = "Duel"
    program = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "--max-restarts=1", training_standins.__file__, json.dumps([arguments, sharded]),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Signal 9" in done.stderr or "exitcode: -9" in done.stderr  # it was killed
    one = TrainOptions(**{**values, "accumulate": 2, "checkpoint_minutes": 60.0})
    train(Duel(), Table(), one, tmp_path / "one")
    a, b = (load_file(newest(tmp_path / name) / "state.safetensors") for name in ("one", "two"))
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    c = load_file(newest(tmp_path / "sharded") / "state.safetensors")
    assert a.keys() == c.keys()
    for name in a:
        torch.testing.assert_close(c[name], a[name], rtol=1e-4, atol=1e-5)
