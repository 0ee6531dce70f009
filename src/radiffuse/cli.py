"""The command line: `radiffuse COMMAND ...`.

Exit codes: 0 done, 1 failed (one line says why and what to do), 2 wrong usage. Neither torch nor
tyro is imported here; a command imports what it needs when it is named.
"""

import errno
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from .errors import (
    UsageError,
    UserError,
    did_you_mean,
    is_out_of_memory,
    out_of_memory,
    printable,
)
from .training import processes

COMMANDS: dict[str, str] = {
    "methods": "the survey's papers by task, modality, organ and formulation",
    "show": "one method: paper, configuration, keys in and out, reproduced numbers",
    "inspect": "what a data set holds, and what of it would be refused",
    "train": "train a method on your data",
    "distill": "teach a generative run to draw in few calls of its network",
    "predict": "apply a trained run to cases",
    "sample": "draw new images from a trained generative run",
    "evaluate": "measure a run and its honest baseline, per patient",
    "audit": "how much of its training data a generative run gives away",
    "compare": "families of generative models on your data: quality, coverage, speed",
    "runs": "the runs in a folder: method, data, state, main number",
    "models": "the trained models that come with the library, and their cards",
    "pack": "a run in one file to hand on: weights, configuration, card",
    "push": "the same into a repository of the Hugging Face Hub",
    "export": "one call of a network as ONNX and torch.export, checked",
    "node": "the studies and series of a node: DICOMweb, or C-FIND",
    "serve": "predict each study that arrives in a folder, and send its results on",
    "report": "one self-contained HTML page about a run",
    "view": "runs and predictions in a browser, on this machine alone",
    "demo": "what the models of the library do, on one page, no network",
    "bench": "one side-by-side benchmark",
    "completion": "a script by which bash or zsh complete what you type",
}

READERS = ("PIL", "pydicom", "nibabel", "tifffile")
"""Libraries that read files, and say on stderr what they find odd in them."""

USAGE = """usage: radiffuse COMMAND ...

Diffusion models for medical images: train a method of the survey on your own images, apply it, measure it beside
honest baselines. Begin with

  radiffuse demo                                               what it can do, on embedded data
  radiffuse train anoddpm --data PATH --out runs/mine          a method on your images, half an hour on a laptop
  radiffuse predict runs/mine --data PATH --out found          and what it says of others

commands:
{commands}

radiffuse COMMAND --help says what a command takes; radiffuse --version says the version. Data are folders and files
of PNG, TIFF, NIfTI, DICOM, NPZ and more, or brains for embedded ones.
"""


NOT_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the system answers of a disk, or of the file that the output goes to."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    _silence_libraries()
    try:
        _dispatch(arguments)
        sys.stdout.flush()
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except UserError as error:
        return _fail(" ".join(str(error).split()), error.exit_code)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted; nothing written so far is lost", 1)
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone: leave quietly, also at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if is_out_of_memory(error):
            return _fail(out_of_memory(error), 1)
        if isinstance(error, OSError) and error.filename is not None:
            # the system's answer about a file, as a name that is too long, or a disk that fails
            return _fail(f"{str(error.filename)[:200]}: {error.strerror}", 1)
        if isinstance(error, OSError) and error.errno in NOT_OURS:
            return _fail(f"nothing more can be written: {error.strerror}", 1)
        if os.environ.get("RADIFFUSE_DEBUG"):
            raise
        message = " ".join(str(error).split())
        return _fail(
            f"internal error: {type(error).__name__}: {message}; "
            "rerun with RADIFFUSE_DEBUG=1 for the traceback",
            1,
        )


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
        print(USAGE.format(commands=lines), end="")
        return
    name, *rest = arguments
    if name == "--version":
        from . import __version__

        print(f"radiffuse {__version__}")
        return
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS, "`radiffuse --help` lists them")
        raise UsageError(f"there is no command '{name}'; {hint}")
    if line := processes.warning():
        print(f"radiffuse: warning: {line}", file=sys.stderr)
    importlib.import_module(f".commands.{name}", __package__).run(rest)
    processes.leave()


def _silence_libraries() -> None:
    """Keep remarks on files off the terminal: what matters of them is said in a line of our own."""
    if os.environ.get("RADIFFUSE_DEBUG"):
        return
    for name in READERS:
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


def _open_streams() -> None:
    """Where the caller closed stdout or stderr, nowhere: else the next file opened would be taken for it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _fail(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"radiffuse: error: {printable(message)}", file=sys.stderr)
    return code
