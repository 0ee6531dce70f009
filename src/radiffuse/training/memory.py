"""How much memory a training or a prediction takes, estimated before it begins.

Weights come with a gradient, two moments, averages, and copies of all of these while a checkpoint is
written. What a step takes beside them is counted while it is done with two cases and with three
(`footprint`), and is a straight line in the number of cases.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..data import host
from ..errors import UserError
from . import processes
from .batches import Batch, Readable, place
from .footprint import Beyond, enough, measured
from .loop import Trainable, Who
from .options import TrainOptions

__all__ = ["check_memory", "check_prediction", "check_weights", "free_bytes"]

T = TypeVar("T", bound=Trainable)
FLOAT = 4
TIGHT = 0.8
"""Of what is free; an estimate beyond is said."""
AHEAD = 3
"""Batches that are read before they are used."""
KEPT, SHARE = 80 << 20, 0.6
"""What the allocator of a processor keeps of memory that was given back, at most, and of what is counted."""
LIBRARIES = 140 << 20
"""What is loaded into the machine's memory while a command works: optimisers, kernels, writers of files."""


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
    """Measure what a training step takes, and refuse batches that do not fit.

    Args:
        objective: to be trained; it is left as it was.
        cases: to train on.
        options: of the loop.

    Returns:
        A line that says what the training will take, and what to lower where it is tight; "" where a step
        fails, as the training will say.

    Raises:
        UserError: says what is needed, what is free and what to lower.
    """
    part = -(-options.batch // (options.accumulate * processes.world()))
    free, count = free_bytes(), _weights(objective)
    less = "raise --train.accumulate (the same gradient), or lower --train.batch, --size or --width, or --recompute"
    held = _held(count, options)
    step = _Line(lambda many: _of_a_step(objective, cases, many, options), part, free)
    if step.beyond:
        raise UserError(f"a training step takes more than the {_gib(free)} that are free; {less}")
    if not step.bytes:
        return ""
    data = _size(cases.batch([0]))
    read = AHEAD * part * options.accumulate * data
    here = 0 if torch.cuda.is_available() else read
    needed = held + max(step.bytes + here, _copies(count, options)) + _libraries()
    told = (
        f"the training takes about {_gib(needed)} ({_gib(held)} for weights, moments and averages, "
        f"{_gib(needed - held)} for a step with {part} of {options.batch} cases at a time), and {_gib(free)} are free"
    )
    if needed > free:
        raise UserError(f"{told}; {less}")
    if torch.cuda.is_available():
        _check_host(read, "--train.batch or --size")
    return f"{told}: if it does not suffice, {less}" if needed > TIGHT * free else told


def check_prediction(
    modules: Mapping[str, nn.Module],
    work: Callable[[int], object],
    at_once: int,
    less: str,
    last: Callable[[int], object] | None = None,
) -> str:
    """Measure the first steps of a prediction, and its last, and refuse batches that do not fit.

    Args:
        modules: that predict.
        work: predicts so many cases.
        at_once: cases of a batch.
        less: what to do where memory does not suffice.
        last: what follows the chain, of so many cases (decoding, in a latent diffusion).

    Returns:
        A line that says what the prediction will take; "" where it fails, as it will say itself.

    Raises:
        UserError: says what is needed and what is free.
    """
    free = free_bytes()

    def begun(many: int) -> None:
        with enough(modules, calls=2):
            work(many)
        if last is not None:
            last(many)

    line = _Line(begun, at_once, free)
    if line.beyond:
        raise UserError(f"a prediction takes more than the {_gib(free)} that are free; {less}")
    if not line.bytes:
        return ""
    # the larger part of the libraries is that of writers of files, after the first batch
    needed = max(line.bytes + _libraries() // 2, _libraries())
    cases = f"{at_once} cases at a time take" if at_once > 1 else "one case at a time takes"
    told = f"{cases} about {_gib(needed)} beside the network, and {_gib(free)} are free"
    if needed > free:
        raise UserError(f"{told}; {less}")
    return f"{told}: if it does not suffice, {less}" if needed > TIGHT * free else told


class _Line:
    """What work takes with `many` cases: measured up to two, from what it takes with two and with three beyond.

    One case alone may take other kernels than several do.

    Attributes:
        bytes: of so many; 0 where the work fails.
        beyond: even as few take more than is free.
    """

    def __init__(self, work: Callable[[int], object], many: int, free: int) -> None:
        self.bytes, self.beyond, few = 0, False, min(many, 2)
        try:
            counted = measured(lambda: work(few), free)
            if many > few and counted:
                more = measured(lambda: work(few + 1), free)
                counted += max(more - counted, 0) * (many - few)
        except Beyond:
            self.beyond = True
            return
        kept = 0 if torch.cuda.is_available() else min(KEPT, round(SHARE * counted))
        self.bytes = counted + kept


def _check_host(needed: int, less: str) -> None:
    free = host.free_bytes()
    if needed > free:
        raise UserError(
            f"batches that are read ahead take {_gib(needed)}, and {_gib(free)} of the machine's memory are free; "
            f"lower {less}"
        )


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
    gradient = FLOAT * count // _parts(options)
    return _held(count, options) + max(gradient, _copies(count, options))


def _held(count: int, options: TrainOptions) -> int:
    """Weights, two moments, averages."""
    return FLOAT * count * (3 + len(options.ema)) // _parts(options)


def _copies(count: int, options: TrainOptions) -> int:
    """Of all that is held, in the machine's memory while a checkpoint is written."""
    return 0 if torch.cuda.is_available() else _held(count, options)


def _libraries() -> int:
    return 0 if torch.cuda.is_available() else LIBRARIES


def _parts(options: TrainOptions) -> int:
    return processes.world() if options.shard else 1


def _size(batch: Batch) -> int:
    return sum(value.numel() * value.element_size() for value in batch.values())


def _of_a_step(objective: Trainable, cases: Readable, many: int, options: TrainOptions) -> None:
    """All turns of a step with so many cases; gradients are dropped, buffers left as they were."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for module in objective.players.values():
        module.to(device)
    buffers = [b for module in objective.players.values() for b in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    batch = place(cases.batch([row % len(cases) for row in range(many)]), device, False)
    half = options.precision != "fp32"
    kind = torch.float16 if options.precision == "fp16" else torch.bfloat16
    try:
        with torch.autocast(device.type, kind, enabled=half):
            for who, loss in objective.losses(batch):
                _differentiated(loss, objective, who)
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value.to(buffer.device))


def _differentiated(loss: Tensor, objective: Trainable, who: Who) -> None:
    """The gradient of a turn, dropped at once."""
    names = (who,) if isinstance(who, str) else who
    wanted = [p for n in names for p in objective.players[n].parameters() if p.requires_grad]
    with torch.autocast(loss.device.type, enabled=False):
        torch.autograd.grad(loss, wanted, allow_unused=True)


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
