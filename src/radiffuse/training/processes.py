"""Several processes of one command (`torchrun`, `accelerate launch`): who am I, which part is mine.

Nothing here starts anything unless the command was launched on several processes; on one, every
function is the identity.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

_control: Any = None


def rank() -> int:
    """Number of this process, 0 for the main one."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """Number of processes of this command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def warning() -> str | None:
    """What to tell where `accelerate launch` was asked for several processes and started one.

    On a CPU it does so unless MPI is set up; that several were asked for shows in an address to
    meet at, without a number of processes.
    """
    asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if not asked or "WORLD_SIZE" in os.environ:
        return None
    return (
        "accelerate launch has started one process only, as it does on a CPU; for several use "
        "`torchrun --nproc-per-node N -m radiffuse ...`"
    )


def share(n: int, rank: int, world: int) -> range:
    """The part of 0 .. n-1 that process `rank` of `world` does.

    Contiguous; the parts differ by at most one in length and together are everything once.
    """
    return range(n * rank // world, n * (rank + 1) // world)


def start() -> None:
    """Join the other processes, if there are any. Safe to call more than once."""
    if world() == 1:
        return
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "cpu:gloo,cuda:nccl"
        # Processes that torchrun starts again after a failure share a store with the failed ones,
        # and would find their addresses in it.
        store = next(distributed.rendezvous("env://"))[0]
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = distributed.PrefixStore(f"radiffuse-{attempt}", store)
        distributed.init_process_group(backend, store=store, rank=rank(), world_size=world())


def leave() -> None:
    """Part from the other processes, if there are any.

    The threads that talk to them hold tensors. Python aborts where one is let go while it shuts
    down (https://github.com/pytorch/pytorch/pull/179291), so they end before.
    """
    global _control
    if world() == 1:
        return
    from torch import distributed

    _control = None
    if distributed.is_initialized():
        distributed.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here, e.g. until all have written their predictions."""
    agree([0.0])


def _group() -> Any:
    """A group of processes that talks through the CPU, whatever the gradients go through."""
    global _control
    from torch import distributed

    start()
    if _control is None:
        # Others may wait for the main process to write or to read for long.
        _control = distributed.new_group(backend="gloo", timeout=timedelta(hours=12))
    return _control


def agree(values: Sequence[float]) -> list[float]:
    """The largest of each value over the processes, the same on every one."""
    if world() == 1:
        return list(values)
    import torch
    from torch import distributed

    largest = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=_group())
    return largest.tolist()


def sum_(tensor: Any) -> None:
    """Replace `tensor` by its sum over the processes, in place, on its own device."""
    if world() > 1:
        from torch import distributed

        distributed.all_reduce(tensor)


def copy_from_main(tensors: Iterable[Any]) -> None:
    """Overwrite each tensor by that of the main process, in place, on its own device."""
    if world() > 1:
        from torch import distributed

        for tensor in tensors:
            distributed.broadcast(tensor.detach(), src=0)
