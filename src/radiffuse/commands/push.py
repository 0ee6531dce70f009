"""`radiffuse push RUN hf://OWNER/NAME`: a packed model into a repository of the Hugging Face Hub."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UserError
from ..runs.named import hub_name
from .pack import Told, packed, say_what_is_missing
from .parsing import parse


@dataclass(frozen=True, kw_only=True)
class Flags(Told):
    """What to push, where to, and what the card says.

    Attributes:
        run: run folder of a finished training.
        to: hf://OWNER/NAME, made if need be; hf://OWNER/NAME@BRANCH for another branch than main.
        private: make a repository that others cannot see; one that is there stays as it is.
    """

    run: Annotated[Path, tyro.conf.Positional]
    to: Annotated[str, tyro.conf.Positional]
    private: bool = False


def run(arguments: Sequence[str]) -> None:
    """Pack, and put all files into one commit."""
    flags = parse(Flags, arguments, "radiffuse push")
    name, branch = hub_name(flags.to)
    about = flags.about(name.partition("/")[2])
    with tempfile.TemporaryDirectory(prefix="radiffuse-") as part:
        folder = Path(part) / "model"
        made = packed(flags.run, folder, about, flags.stored)
        say_what_is_missing(made)
        _upload(folder, name, branch, flags.private)
    print(f"{flags.to}: {made['method']}, {made['bytes'] / 1e6:.1f} MB")


def _upload(folder: Path, name: str, branch: str | None, private: bool) -> None:
    """One commit with all files of the folder.

    Raises:
        UserError: nobody is logged in, it is not allowed, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(
            folder_path=folder,
            repo_id=name,
            revision=branch,
            commit_message="Model packed by radiffuse",
        )
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", None)
        if code in (401, 403):
            raise UserError(
                f"hf://{name}: the Hub does not let you write there; log in with `hf auth login`, or name another"
            ) from None
        raise UserError(f"hf://{name}: the Hub refused it ({_short(error)})") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"hf://{name}: could not be sent ({_short(error)})") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
