"""A progress bar on stderr with the time left, on the main process only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from ...training import processes


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[float], None]]:
    """Yield a function that says how many of `total` are done."""
    console = Console(stderr=True)
    shown = processes.is_main() and console.is_terminal
    with Progress(console=console, disable=not shown, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
