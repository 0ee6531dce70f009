"""The memory of tensors that some work takes at once, counted while a small part of it is done."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import is_out_of_memory

__all__ = ["Beyond", "Footprint", "enough", "measured"]


class Beyond(Exception):
    """What is counted takes more than there is."""


class Footprint(TorchDispatchMode):
    """Counts the bytes of all tensors made inside that are there at the same time.

    What convolutions of a processor take beside is among them; what other kernels take is not.

    Args:
        most: work that takes more ends.

    Attributes:
        peak: bytes.

    Raises:
        Beyond: more than `most`.
    """

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._seen:
            return
        size = storage.nbytes()

        def gone(_: Any) -> None:
            self._seen.pop(key, None)
            self.now -= size

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self._pass(0)

    def _pass(self, more: int) -> None:
        """A moment with `more` bytes beside the tensors."""
        self.peak = max(self.peak, self.now + more)
        if self.now + more > self.most:
            raise Beyond


def _counting(
    self: Footprint, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    made = func(*args, **(kwargs or {}))
    if not _of_arguments(func):
        for tensor in _tensors(made):
            self._count(tensor.untyped_storage())
        self._pass(_reordered(func, args))
    return made


@cache
def _of_arguments(func: Any) -> bool:
    """Whether an operation gives back the memory of its arguments: views, and what works in place."""
    if func is torch.ops.aten._unsafe_view.default:  # which does not say so
        return True
    return any(each.alias_info is not None for each in func._schema.returns)


def _reordered(func: Any, args: Any) -> int:
    """Bytes that a convolution of a processor takes while it works: what it reads, in the order its kernel wants."""
    count = _convolved(func)
    if not count or args[0].is_cuda or all(side == 1 for side in args[count].shape[2:]):
        return 0
    return sum(image.numel() * image.element_size() for image in args[:count])


@cache
def _convolved(func: Any) -> int:
    """How many images a convolution is given before its weights; 0 of other operations."""
    aten = torch.ops.aten
    return {aten.convolution.default: 1, aten.convolution_backward.default: 2}.get(func, 0)


# Inside the class it would be wrapped by what imports all of torch's compiler, 90 MB and a second.
setattr(Footprint, "__torch_dispatch__", _counting)  # noqa: B010


def _tensors(tree: Any) -> Iterator[Tensor]:
    if type(tree) in (Tensor, nn.Parameter):
        yield tree
    elif isinstance(tree, tuple | list):
        for each in tree:
            yield from _tensors(each)


class _Enough(Exception):
    """The part that is measured is over."""


@contextmanager
def enough(modules: Mapping[str, nn.Module], calls: int) -> Iterator[None]:
    """Ends the work inside where a layer with weights is called for the time that follows `calls`.

    What chains take at once they take in their first steps, and to do all of them is not needed.
    """
    count: dict[nn.Module, int] = {}

    def counting(module: nn.Module, _: Any) -> None:
        count[module] = count.get(module, 0) + 1
        if count[module] > calls:
            raise _Enough

    layers = {
        layer
        for module in modules.values()
        for layer in module.modules()
        if any(True for _ in layer.parameters(recurse=False))
    }
    hooks = [layer.register_forward_pre_hook(counting) for layer in layers]
    try:
        yield
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()


def measured(work: Callable[[], object], most: float) -> int:
    """Bytes at once of `work`; 0 where it fails otherwise, which doing it in earnest will say.

    On a GPU torch's own count, with what kernels take; random generators are left as they were.

    Raises:
        Beyond: more than `most`, or the memory was not enough.
    """
    footprint = Footprint(most)
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    try:
        with torch.random.fork_rng(), footprint:
            work()
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, Beyond):
            raise Beyond from None
        return 0
    return torch.cuda.max_memory_allocated() - before if gpu else footprint.peak
