"""`radiffuse view FOLDER`: runs and predictions in a browser, on this machine alone, behind a token."""

import contextlib
import secrets
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UserError
from .parsing import parse


@dataclass(frozen=True)
class Flags:
    """What to show.

    Attributes:
        folder: with runs and predictions, or one of them; nothing outside of it can be seen.
        port: of 127.0.0.1; 0 takes one that is free.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    port: int = 0


def run(arguments: Sequence[str]) -> None:
    """Serve until Ctrl-C."""
    flags = parse(Flags, arguments, "radiffuse view")
    if not flags.folder.is_dir():
        raise UserError(f"{flags.folder}: there is no such folder")
    try:
        import uvicorn

        from .viewing import application
    except ImportError:
        raise UserError("radiffuse view needs FastAPI: pip install 'radiffuse[view]'") from None
    token = secrets.token_urlsafe(24)
    with socket.socket() as here:
        try:
            here.bind(("127.0.0.1", flags.port))
            here.listen()  # who opens the address at once waits, and is not refused
        except OSError as error:
            raise UserError(
                f"--port {flags.port}: cannot be taken ({error.strerror}); leave it out, or name another"
            ) from None
        address = f"http://127.0.0.1:{here.getsockname()[1]}/?token={token}"
        print(f"open {address}\n(Ctrl-C ends it; whoever has this address can read {flags.folder})")
        sys.stdout.flush()
        config = uvicorn.Config(application(flags.folder, token), log_level="warning")
        with contextlib.suppress(KeyboardInterrupt):  # as it is ended
            uvicorn.Server(config).run(sockets=[here])
