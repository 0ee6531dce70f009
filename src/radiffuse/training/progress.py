"""What a training says while it runs: log.jsonl, a progress bar, other places where they are wanted."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Protocol, TextIO

from ..data.files import told, write_text
from . import processes
from .boards import Board, boards, flat
from .options import TrainOptions

LOG = "log.jsonl"
_PLAIN_SECONDS = 30.0
_MEASURED = 5
"""Steps from which the time of a training is foretold."""
_LONG_SECONDS = 300.0


class Log:
    """log.jsonl, one JSON object a line, written by the main process alone.

    Args:
        run: run folder.
        step: lines after this step are cut off (they will be written again).
        options: say where the numbers go as well (`boards`).

    Raises:
        UserError: such a place is wanted but its package is not installed, or the disk is full.
    """

    def __init__(self, run: Path, step: int, options: TrainOptions) -> None:
        self._path = run / LOG
        self._file: TextIO | None = None
        self._boards: list[Board] = []
        if not processes.is_main():
            return
        self._boards = boards(run, options, step)
        write_text(self._path, "".join(_lines_until(self._path, step)))
        self._file = self._path.open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line. Not finite numbers become null (they are not JSON)."""
        if self._file is None:
            return
        with told(self._path, "go on with --resume"):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        for board in self._boards:
            board.write(flat(line), line["step"])

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        for board in self._boards:
            board.close()


def _lines_until(path: Path, step: int) -> list[str]:
    """The lines of the log up to `step`; a last line cut by a crash is dropped."""
    kept = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines(True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return kept


class Bar:
    """A progress bar on a terminal, else a line every half minute; on the main process alone.

    Args:
        share: of the budget that is done already.
        transient: the bar goes from the terminal at its end.
    """

    def __init__(self, share: float, transient: bool = False) -> None:
        self._share = self._first = share
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        if processes.is_main() and sys.stderr.isatty():
            self._bar = _rich_bar(transient)
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0, completed=share, text="")

    def update(self, share: float, text: str) -> None:
        """Show that `share` of the budget is done, and `text`."""
        self._share = share
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=min(share, 1.0), text=text)
        elif processes.is_main() and now - self._said >= _PLAIN_SECONDS:
            self._said = now
            done, line = share - self._first, f"{100 * min(share, 1.0):.0f} %  {text}"
            if done > 0:
                line += f"  {spelled((now - self._start) * max(1 - share, 0.0) / done)} left"
            say(line)

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _rich_bar(transient: bool) -> Any:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[text]}"),
        console=Console(stderr=True),
        speed_estimate_period=120,
        transient=transient,
    )


class Means(Protocol):
    """Where the numbers come from: `health.Meter`."""

    def read(self) -> None: ...
    def means(self) -> tuple[dict[str, float], dict[str, float]]: ...
    def beside(self, step: int, /) -> dict[str, float]: ...


class Reporter:
    """Log and progress bar of one training."""

    def __init__(
        self, run: Path, options: TrainOptions, meter: Means, step: int, seconds: float
    ) -> None:
        self._options, self._meter = options, meter
        self._log = Log(run, step, options)
        self._bar = Bar(options.share(step, seconds))
        self._text = ""
        self._since = (step, time.monotonic())
        self._begun: tuple[int, float] | None = None

    def step(self, step: int, seconds: float) -> None:
        """Report after a step; a line in the log every `log_every` steps."""
        self._foretell(step, seconds)
        if step % self._options.log_every == 0:
            self._line(step, seconds)
        self._bar.update(self._options.share(step, seconds), self._text)

    def _foretell(self, step: int, seconds: float) -> None:
        """Say once how long a budget in steps will take, measured from the first of them."""
        steps, limit = self._options.budget()
        if math.isinf(steps) or (self._begun and step != self._begun[0] + _MEASURED):
            return
        if self._begun is None:  # after the first step, which also sets things up
            self._begun = (step, seconds)
            return
        each = (seconds - self._begun[1]) / _MEASURED
        left = min((steps - step) * each, limit - seconds)
        if left >= _LONG_SECONDS:
            say(
                f"{spelled(left)} on this machine: {steps:,.0f} steps of {each:.3g} s; Ctrl-C stops, all "
                "saved, and --resume goes on"
            )

    def last(self, step: int, seconds: float) -> None:
        """Report what has come since the last line, at the end."""
        if step % self._options.log_every:
            self._line(step, seconds)

    def _line(self, step: int, seconds: float) -> None:
        self._meter.read()
        losses, norms = self._meter.means()
        batch, now = self._options.batch, time.monotonic()
        rate = (step - self._since[0]) * batch / max(now - self._since[1], 1e-9)
        self._since = (step, now)
        memory, beside = peak_memory_mb(), self._meter.beside(step)
        self._log.write(
            {
                "step": step,
                "images": step * batch,
                "seconds": round(seconds, 3),
                "loss": losses,
                "gradient_norm": norms,
                "learning_rate": self._options.rate(step - 1, seconds),
                "images_per_second": round(rate, 3),
                "memory_mb": memory and round(memory, 1),
                **beside,
            }
        )
        shown = " ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
        shown = f"loss {shown}" if losses else ""
        more = " ".join(f"{name} {value:.4g}" for name, value in beside.items())
        told = (f"step {step}", shown, more, f"{rate:.3g} images/s")
        self._text = "  ".join(filter(None, told))

    def close(self) -> None:
        """Close the log and the bar."""
        self._bar.close()
        self._log.close()


def spelled(seconds: float) -> str:
    """A duration in its largest fitting unit: 40 minutes, 7 hours, 12 days."""
    for unit, size in (("day", 86_400), ("hour", 3_600)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}s"
    return f"about {max(seconds / 60, 1):.0f} min"


def peak_memory_mb() -> float | None:
    """Most memory in use so far: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def say(line: str) -> None:
    """Print one line to the user, from the main process alone."""
    if processes.is_main():
        print(line, file=sys.stderr, flush=True)
