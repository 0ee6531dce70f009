"""Runs by other names than that of their folder: models that ship with the library, packed files, the Hub.

`brains-mri` is a model of the library, `model.zip` what `radiffuse pack` wrote, and `hf://OWNER/NAME` (or
`hf://OWNER/NAME@REVISION`) a repository of the Hugging Face Hub. A folder that is there is always itself.
"""

import hashlib
import re
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..data.files import read_json, told, user_cache
from ..errors import UserError, did_you_mean

__all__ = [
    "CARD",
    "FILES",
    "HUB",
    "SHIPPED",
    "card_of",
    "found_run",
    "home_of",
    "hub_name",
    "shipped",
]

SHIPPED = Path(__file__).resolve().parent / "models"
CARD = "card.json"
FILES = (
    *("config.toml", "manifest.json", "model.safetensors", CARD, "README.md"),
    *("calibration.json", "codes.json", "latents.json", "metrics.json"),
)
"""All that a packed model may hold, in its folder or in those of its stages."""
HUB = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
"""A name of the Hub, also after a path has taken one of its slashes."""

_MEMBER = re.compile(r"(?:[a-z]+/)?(?:" + "|".join(map(re.escape, FILES)) + ")")
_MOST = 4 << 30
"""Bytes of a packed model."""


def shipped() -> tuple[str, ...]:
    """Names of the models that the library comes with."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{CARD}")))


def found_run(name: Path | str) -> Path:
    """The folder of a run: one that is there, a model of the library, a packed file or one of the Hub.

    Packed files are unpacked, and models of the Hub fetched, into the user's cache, once.

    Raises:
        UserError: the file is no packed model, or the Hub gives none of that name.
    """
    path, text = Path(name), str(name)
    if match := HUB.fullmatch(text):
        return _fetched(match[1], match[2])
    if path.is_file() and path.suffix == ".zip":
        return _unpacked(path)
    if not path.exists() and text in shipped():
        return SHIPPED / text
    if not path.exists() and len(path.parts) == 1 and (near := did_you_mean(text, shipped(), "")):
        raise UserError(f"{text}: there is no such run folder, and no model of that name; {near}")
    return path


def card_of(run: Path) -> dict[str, object] | None:
    """The card of a packed model; None for a run of the user's own."""
    return read_json(run / CARD) if (run / CARD).is_file() else None


def home_of(run: Path, what: str) -> Path:
    """Where what is made of a run is kept: in its folder, or, of a packed one, in NAME-WHAT here."""
    if card_of(run) is None:
        return run
    return Path(f"{run.name}-{what}")


def hub_name(text: str) -> tuple[str, str | None]:
    """OWNER/NAME and revision of hf://OWNER/NAME@REVISION.

    Raises:
        UserError: it is no such name.
    """
    if not (match := HUB.fullmatch(text)):
        raise UserError(f"{text}: is no name of the Hub; they are written hf://OWNER/NAME")
    return match[1], match[2]


def _unpacked(path: Path) -> Path:
    """The folder of a packed file, by the hash of its contents."""
    with told(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = user_cache() / "models" / f"{path.stem}-{digest[:16]}"
    if (folder / CARD).is_file():
        return folder
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive.infolist())
            with told(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as name:
                    part = Path(name) / "model"
                    archive.extractall(part)
                    try:
                        part.rename(folder)
                    except OSError:
                        if not (folder / CARD).is_file():
                            raise
                        # another command was faster
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: damaged, or no packed model ({error})") from None
    return folder


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive that `radiffuse pack` did not write."""
    names = [member.filename for member in members]
    if other := [name for name in names if not _MEMBER.fullmatch(name)]:
        raise UserError(f"{path}: no packed model: it holds {other[0][:80]!r}")
    if CARD not in names:
        raise UserError(
            f"{path}: no packed model ({CARD} is missing); `radiffuse pack` writes them"
        )
    if sum(member.file_size for member in members) > _MOST:
        raise UserError(f"{path}: holds more than {_MOST >> 30} GiB, which no model here needs")


def _fetched(name: str, revision: str | None) -> Path:
    """A model of the Hub in the Hub's own cache.

    Raises:
        UserError: there is none of that name, or the Hub cannot be reached and it was not fetched before.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    called = f"hf://{name}" + (f"@{revision}" if revision else "")
    try:
        wanted = [*FILES, *(f"*/{file}" for file in FILES)]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except RevisionNotFoundError:
        raise UserError(f"{called}: the Hub has no such revision") from None
    except (RepositoryNotFoundError, GatedRepoError):
        raise UserError(f"{called}: the Hub has no such model, or not for you") from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"{called}: the Hub cannot be reached from here, and the model was not fetched before"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{called}: could not be fetched ({said[:200]})") from None
    if not (folder / CARD).is_file():
        raise UserError(f"{called}: holds no packed model ({CARD} is missing)")
    return folder
