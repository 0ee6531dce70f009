"""Gradients of one player, summed over processes.

Plain data-parallel training: every process holds all weights, the gradients are summed once per
update. It is done here and not by `DistributedDataParallel`, because that counts on one backward
pass through every parameter for each forward pass, which players that train against each other,
unused parameters and gradient penalties do not keep; and because the buckets here never change, so
the order of summation, and with it resuming, stays exact to the bit on any number of processes.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from . import processes

_BUCKET = 8 * 2**20  # numbers in one message


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its sum over the processes; absent ones count as zero.

    A parameter that has a gradient on no process keeps none.
    """
    if processes.world() == 1:
        return
    from torch import distributed

    sent = []
    for bucket in _buckets(parameters):
        flat = _flat(bucket)
        sent.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
    for bucket, flat, work in sent:
        work.wait()
        _put_back(bucket, flat)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(p.numel() for p in bucket) + parameter.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def _flat(bucket: Sequence[nn.Parameter]) -> Tensor:
    """All gradients in a row, then for each parameter whether there was one."""
    like = bucket[0]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
    present = [float(p.grad is not None) for p in bucket]
    return torch.cat([*(g.reshape(-1) for g in grads), like.new_tensor(present)])


def _put_back(bucket: Sequence[nn.Parameter], flat: Tensor) -> None:
    sizes = [p.numel() for p in bucket]
    sums = flat[: sum(sizes)].split(sizes)
    absent = any(p.grad is None for p in bucket)
    present: Iterator[float] = (
        iter(flat[sum(sizes) :].tolist()) if absent else itertools.repeat(1.0)
    )
    for parameter, value, somewhere in zip(bucket, sums, present, strict=False):
        if somewhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.copy_(value.view_as(parameter))
