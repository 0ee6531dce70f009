"""How far a work on many cases is: a bar on a terminal, else a line every half minute."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from ...training.progress import Bar

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(
    title: str, total: int, networks: Iterable[nn.Module] = ()
) -> Iterator[Callable[[float], None]]:
    """Yield a function that says how many of `total` are done, on stderr and on the main process alone.

    Args:
        title: of the work.
        total: how many there are to do.
        networks: their calls are counted, so that a long case shows that it goes on.
    """
    bar, begun, calls, last = Bar(0.0, transient=True), time.monotonic(), 0, 0.0

    def show() -> None:
        seconds = max(time.monotonic() - begun, 1e-9)
        said = [f"{title} {last:.0f} of {total}" if total > 1 else title]
        if calls:
            said.append(f"{calls} network calls, {calls / seconds:.3g} a second")
        elif last and total > 1:
            said.append(f"{last / seconds:.3g} a second")
        bar.update(last / max(total, 1), "  ".join(said))

    def done(count: float) -> None:
        nonlocal last
        last = count
        show()

    def called(*_: Any) -> None:
        nonlocal calls
        calls += 1
        show()

    with ExitStack() as stack:
        stack.callback(bar.close)
        for network in networks:
            stack.callback(network.register_forward_hook(called).remove)
        show()
        yield done
