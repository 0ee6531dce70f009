"""Model files and checkpoints: what is written is read back, anything else is one clear line."""

import errno
import os
import resource
import warnings
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from radiffuse.errors import UserError
from radiffuse.training import tensorfile
from radiffuse.training.checkpoint import (
    load_model,
    model_tensors,
    newest,
    read_facts,
    read_tensors,
    save_model,
    started,
    write_checkpoint,
)
from radiffuse.training.tensorfile import named_tensors


def objective(seed=0, width=3):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width))
    return SimpleNamespace(players={"net": net, "critic": nn.Linear(2, 1)})


# --- models


def test_a_model_comes_back_as_it_was(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(objective(0), path, method="ddpm", step=7)
    other = objective(1)
    facts = load_model(other, path)
    assert facts == {"format": "radiffuse-model-1", "method": "ddpm", "step": "7"}
    expected = model_tensors(objective(0))
    assert {"net.0.weight", "net.1.running_mean", "critic.bias"} < set(expected)
    for name, tensor in model_tensors(other).items():
        assert torch.equal(tensor, expected[name])


def test_given_tensors_are_written_in_place_of_the_players_own(tmp_path):
    path = tmp_path / "m.safetensors"
    given = {"critic.bias": torch.tensor([42.0])}
    save_model(objective(), path, method="ddpm", step=1, tensors=given)
    assert load_file(path)["critic.bias"].item() == 42


def test_shared_and_channels_last_and_compiled_weights_keep_plain_names(tmp_path):
    shared = nn.Linear(2, 2)
    net = nn.ModuleDict({"a": shared, "b": shared, "c": nn.Conv2d(2, 2, 3)})
    net.to(memory_format=torch.channels_last)
    path = tmp_path / "m.safetensors"
    save_model(
        SimpleNamespace(players={"net": torch.compile(net, backend="eager")}),
        path,
        method="",
        step=0,
    )
    assert sorted(load_file(path)) == ["net.a.bias", "net.a.weight", "net.c.bias", "net.c.weight"]
    assert torch.equal(load_file(path)["net.c.weight"], net["c"].weight)


def test_buffers_that_are_not_stored_are_left_out():
    module = nn.Module()
    module.register_buffer("stored", torch.zeros(1))
    module.register_buffer("derived", torch.zeros(1), persistent=False)
    assert list(named_tensors(module)) == ["stored"]


def test_another_network_is_refused_with_expected_and_found(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(objective(width=3), path, method="ddpm", step=1)
    message = r"expected net\.0\.weight of shape \(5, 2, 3, 3\), found \(3, 2, 3, 3\)"
    with pytest.raises(UserError, match=message):
        load_model(objective(width=5), path)
    more = objective()
    more.players["extra"] = nn.Linear(1, 1)
    with pytest.raises(UserError, match=r"expected extra\.weight of shape \(1, 1\), found none"):
        load_model(more, path)
    less = objective()
    del less.players["critic"]
    with pytest.raises(UserError, match=r"found critic\.bias, which is not in this one"):
        load_model(less, path)


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="expected a radiffuse-model-1 file, found no format name"):
        load_model(objective(), path)
    path.write_text("not a model")
    with pytest.raises(UserError, match=r"m\.safetensors: truncated or not a safetensors file"):
        load_model(objective(), path)
    with pytest.raises(UserError, match="no such file"):
        load_model(objective(), tmp_path / "none")


# --- checkpoints


def test_a_run_is_started_when_it_holds_any_trace_of_training(tmp_path):
    (tmp_path / "config.toml").touch()
    assert not started(tmp_path)
    (tmp_path / "log.jsonl").touch()  # failed before its first line
    assert not started(tmp_path)
    (tmp_path / "log.jsonl").write_text("{}")
    assert started(tmp_path)


def test_the_newest_checkpoint_is_taken_and_older_ones_are_removed(tmp_path):
    for step in (5, 1000):
        write_checkpoint(tmp_path, step, {"weights/a": torch.ones(2) * step}, {"step": step})
    assert [p.name for p in (tmp_path / "checkpoint").iterdir()] == ["step-00001000"]
    assert read_facts(newest(tmp_path)).step == 1000


def read(folder):
    into = torch.zeros(2)
    read_tensors(folder, {"weights/a": into}, {"weights/a": "a"})
    return into


def calls_killed_at(number):
    """Make call `number` of those that change the disk the last one, as SIGKILL would."""
    left = number

    def dying(function):
        def call(*arguments, **keywords):
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return function(*arguments, **keywords)

        return call

    for name in ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir"):
        setattr(os, name, dying(getattr(os, name)))
    tensorfile.save_file = dying(tensorfile.save_file)


@pytest.mark.parametrize("next_step", [2, 1])
def test_killed_at_any_point_of_writing_a_whole_checkpoint_is_left(tmp_path, next_step):
    """Every call that changes the disk is once the last: either the old or the new one is whole.

    So it is where the step is saved already: resumed, and stopped before the next.
    """
    ends = set()
    for number in range(1, 100):
        run = tmp_path / str(number)
        write_checkpoint(run, 1, {"weights/a": torch.ones(2)}, {"step": 1})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
            child = os.fork()
        if child == 0:
            calls_killed_at(number)
            state = {"weights/a": next_step * torch.ones(2)}
            write_checkpoint(run, next_step, state, {"step": next_step})
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        folder = newest(run)
        step = read_facts(folder).step
        assert torch.equal(read(folder), step * torch.ones(2))
        ends.add((code, step))
        if code == 0:
            break
        write_checkpoint(run, 3, {"weights/a": torch.ones(2)}, {"step": 3})
        assert len(list((run / "checkpoint").iterdir())) == 1  # nothing half-written stays
    assert ends == ({(9, 1), (9, 2), (0, 2)} if next_step == 2 else {(0, 1)})


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, 1, {"weights/a": torch.ones(2)}, {"step": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensorfile, "save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        write_checkpoint(tmp_path, 2, {"weights/a": torch.ones(2)}, {"step": 2})
    assert [p.name for p in (tmp_path / "checkpoint").iterdir()] == ["step-00000001"]
    assert torch.equal(read(newest(tmp_path)), torch.ones(2))


def test_the_number_of_a_disk_error_is_found_in_the_text_of_safetensors(tmp_path):
    """A full disk cannot be made here, but a limit on the size of a file fails the same way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as caught, tensorfile._full_disk():
            save_file({"a": torch.zeros(2**16)}, tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG


def test_truncated_and_foreign_checkpoints_say_which_file_and_what_to_do(tmp_path):
    write_checkpoint(tmp_path, 1, {"weights/a": torch.ones(2)}, {"step": 1})
    folder = newest(tmp_path)
    with pytest.raises(UserError, match=r"expected b of shape \(2,\), found none"):
        read_tensors(folder, {"weights/b": torch.zeros(2)}, {"weights/b": "b"})
    path = folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"state\.safetensors: truncated.*; remove .*step-00000001"):
        read(folder)
    (folder / "state.json").write_text('{"format": "something else"}')
    with pytest.raises(UserError, match=r"state\.json: not a checkpoint of this version.*; remove"):
        read_facts(folder)
    (folder / "state.json").write_text('{"form')
    with pytest.raises(UserError, match=r"state\.json: not valid JSON.*; remove"):
        read_facts(folder)
    (folder / "state.json").unlink()
    with pytest.raises(UserError, match=r"state\.json: no such file; remove"):
        read_facts(folder)


def test_the_same_tensors_and_texts_are_the_same_file(tmp_path):
    """Twenty writings of five texts, whose order safetensors draws anew each time."""
    tensors = {f"network.{k}": torch.arange(k + 1.0) for k in range(4)}
    texts = {"format": "x", "method": "é", "step": "3", "quoted": '"', "line": "\n"}
    files = [tmp_path / f"{k}.safetensors" for k in range(20)]
    for file in files:
        tensorfile.save(file, tensors, texts)
    assert len({file.read_bytes() for file in files}) == 1
    with tensorfile.opened(files[0]) as file:
        assert tensorfile.metadata_of(file) == texts
        assert all(torch.equal(file.get_tensor(name), tensors[name]) for name in tensors)
