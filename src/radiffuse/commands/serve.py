"""`radiffuse serve RUN --watch IN --out OUT`: each study that arrives is predicted once, and its results sent on."""

import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..clinic.ledger import Ledger
from ..clinic.nodes import Access, read_access
from ..data.files import sweep
from ..errors import UsageError, UserError
from ..runs.named import found_run
from . import parsing, predict
from .lock import writing
from .nodes import target
from .ready import ready
from .serving import Serving

PROG = "radiffuse serve"


@dataclass(frozen=True, kw_only=True)
class Flags(predict.Flags):
    """What arrives where, and what is made of it; flags of `predict` apply to each study.

    Attributes:
        watch: folder that studies arrive in, made if need be; DICOM files in whatever sub-folders.
        listen: AET:PORT, where studies are received by C-STORE too, into the folder that is watched.
        settle: seconds that a study has to be quiet before it counts as whole.
        port: of the page at 127.0.0.1; 0 takes one that is free.
        once: end when everything that is there has been predicted and sent.
        remove_after: days after which files of studies that are done, and sent where they have to be, are removed from
            the folder that is watched; they stay where left out.
    """

    watch: Path
    listen: str | None = None
    settle: float = 30.0
    port: int = 0
    once: bool = False
    remove_after: float | None = None


OWN = (
    *("--out", "--watch", "--listen", "--settle", "--port", "--push", "--node"),
    "--remove-after",
)
SWITCHES = ("--once", "--no-once")


def run(arguments: Sequence[str]) -> None:
    """Serve until Ctrl-C or SIGTERM, which let the study in hand be finished."""
    flags = parsing.parse(Flags, arguments, PROG)
    parsing.positive({"--samples": flags.samples, "--steps": flags.steps, "--batch": flags.batch})
    if flags.data is not None or flags.split is not None:
        raise UsageError("--data and --split: what is predicted is what arrives in --watch")
    if not 0 < flags.settle <= 86400:
        raise UsageError(f"--settle {flags.settle:g}: name seconds, more than 0 and at most a day")
    if flags.remove_after is not None and not 0 < flags.remove_after < float("inf"):
        raise UsageError(f"--remove-after {flags.remove_after:g}: name days, more than 0")
    _apart(flags.watch, flags.out)
    flags = replace(flags, run=found_run(flags.run))
    address = target(flags.push, flags.node)
    with ExitStack() as held:
        held.enter_context(writing(flags.out, PROG))
        opened = ready(flags)
        flags.watch.mkdir(parents=True, exist_ok=True)
        for folder in (flags.watch, *(path for path in flags.watch.rglob("*") if path.is_dir())):
            sweep(folder)
        ledger = Ledger(flags.out)
        held.callback(ledger.close)
        ledger.bind({"model": str(opened.run.model_sha256), "folder": str(flags.watch.resolve())})
        if flags.listen:
            held.enter_context(_listening(flags.listen, flags.watch, read_access(flags.node)))
        held.enter_context(_page(flags.out, flags.port))
        serving = Serving(flags, words_of(arguments), opened, ledger, address)
        serving.run()


def _apart(watch: Path, out: Path) -> None:
    """Refuse folders of which one lies in the other: results would arrive as studies."""
    one, other = watch.resolve(), out.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UsageError(f"--watch {watch} and --out {out}: one lies in the other; name two apart")


def words_of(arguments: Sequence[str]) -> list[str]:
    """The words that `predict` is told: all but the flags of this command."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        name = name.replace("_", "-")
        if name in OWN:
            if not equals:
                next(words, None)
            kept.append("--data=.")  # ends a flag of several words; the study's own comes behind
        elif name not in SWITCHES:
            kept.append(word)
    return kept


@contextmanager
def _listening(text: str, folder: Path, access: Access) -> Iterator[None]:
    try:
        from ..clinic.listener import listening, title_and_port
    except ImportError:
        raise UserError("--listen needs pynetdicom: pip install 'radiffuse[node]'") from None
    title, port = title_and_port(text)
    with listening(title, port, folder, access):
        who = ", ".join(access.callers) or "whoever reaches it"
        print(f"listening as {title} at port {port}, for {who}", flush=True)
        yield


@contextmanager
def _page(out: Path, port: int) -> Iterator[None]:
    """The page, beside the work, where FastAPI is installed."""
    try:
        import uvicorn

        from .queue import application
    except ImportError:
        print("note: no page: pip install 'radiffuse[view]'", file=sys.stderr)
        yield
        return
    token = secrets.token_urlsafe(24)
    with socket.socket() as here:
        try:
            here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            here.bind(("127.0.0.1", port))
            here.listen()
        except OSError as error:
            raise UserError(
                f"--port {port}: cannot be taken ({error.strerror}); leave it out, or name another"
            ) from None
        print(f"open http://127.0.0.1:{here.getsockname()[1]}/?token={token}", flush=True)
        server = uvicorn.Server(uvicorn.Config(application(out, token), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([here],), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(10)
