"""How much memory a training takes, estimated before it begins.

Weights come with a gradient, two moments, averages, and copies of all of these while a checkpoint is
written. What the backward pass keeps of a case is measured on one or two of them. Both are less than what
is taken in the end: kernels need room of their own.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..data import host
from ..errors import UserError, is_out_of_memory
from . import processes
from .batches import Batch, Readable, place
from .loop import Trainable
from .options import TrainOptions

__all__ = ["check_memory", "check_weights", "free_bytes"]

T = TypeVar("T", bound=Trainable)
FLOAT = 4
TIGHT = 0.8
"""Of what is free; an estimate beyond is said."""
AHEAD = 3
"""Batches that are read before they are used."""


class _Unwritten(TorchFunctionMode):
    """Weights without memory behind them: layers make theirs by `torch.empty`."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        return func(*args, **{**kwargs, "device": "meta"} if func is torch.empty else kwargs)


def check_weights(build: Callable[[], Trainable], options: TrainOptions) -> None:
    """Refuse networks whose weights alone do not fit into memory, before they are made.

    Args:
        build: makes the objective.
        options: of the loop.

    Raises:
        UserError: says how many weights there are and what they need.
    """
    with _Unwritten():
        count = _weights(build())
    needed, free = _needed(count, options), free_bytes()
    if needed > free:
        raise UserError(
            f"the network has {count / 1e6:.4g} million weights, which need {_gib(needed)} in training with their "
            f"gradients, moments and averages, and {_gib(free)} are free; lower --width, --multiples or --blocks"
        )


def check_memory(objective: Trainable, cases: Readable, options: TrainOptions) -> str:
    """Measure what one case takes in a training step, and refuse batches that do not fit.

    Args:
        objective: to be trained; it is left as it was.
        cases: to train on.
        options: of the loop.

    Returns:
        A line to tell where memory will be tight; "" where it will not.

    Raises:
        UserError: says what is needed, what is free and what to lower.
    """
    part = -(-options.batch // (options.accumulate * processes.world()))
    data, kept = _of_a_case(objective, cases, min(2, part), options)
    weights = _needed(_weights(objective), options)
    images = part * kept + AHEAD * part * options.accumulate * data
    needed, free = weights + images, free_bytes()
    told = (
        f"the training takes {_gib(needed)} or more ({_gib(weights)} for weights, gradients, moments and "
        f"averages, {_gib(images)} for {part} of {options.batch} cases at a time), and {_gib(free)} are free"
    )
    less = "raise --train.accumulate (the same gradient), or lower --train.batch, --size or --width"
    if needed > free:
        raise UserError(f"{told}; {less}")
    return f"{told}: if it does not suffice, {less}" if needed > TIGHT * free else ""


def free_bytes() -> int:
    """Memory that is free where training will run: of the GPU, or of the machine and its container."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return host.free_bytes()


def _weights(objective: Trainable) -> int:
    every = {id(p): p for module in objective.players.values() for p in module.parameters()}
    return sum(math.prod(parameter.shape) for parameter in every.values())


def _needed(count: int, options: TrainOptions) -> int:
    """Bytes of so many weights in training: themselves, gradient, moments, averages, and copies to save."""
    kept = 3 + len(options.ema)
    copies = 0 if torch.cuda.is_available() else kept
    parts = processes.world() if options.shard else 1
    return FLOAT * count * (1 + kept + copies) // parts


def _of_a_case(
    objective: Trainable, cases: Readable, count: int, options: TrainOptions
) -> tuple[int, int]:
    """Bytes of a case as it is read, and of what a step keeps for its backward pass."""
    batch = cases.batch([row % len(cases) for row in range(count)])
    data = sum(value.numel() * value.element_size() for value in batch.values())
    buffers = [b for module in objective.players.values() for b in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        with torch.random.fork_rng():
            kept = _kept(objective, batch)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        kept = 0  # training will say what is wrong, and where
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value.to(buffer.device))
    half = 1 if options.precision == "fp32" else 2
    return data // count, kept // (count * half)


def _kept(objective: Trainable, batch: Batch) -> int:
    """Bytes that the turn that keeps most of a step keeps, beside weights and the batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for module in objective.players.values():
        module.to(device)
    batch = place(batch, device, channels_last=False)
    own = [*batch.values(), *(p for m in objective.players.values() for p in m.parameters())]
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    most = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for _ in objective.losses(batch):
            most = max(most, sum(found.values()))
            found.clear()
    return most


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
