"""Tensors of networks by name, and safetensors files of them.

Names are plain whatever the network is wrapped in; tensors that are split over processes (FSDP)
are written whole and read back into their parts. A file holds the SHA-256 of its contents, so that
one that was damaged later is refused.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..data.files import replacing
from ..errors import UserError
from . import processes

_SHA256 = "radiffuse-sha256"
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and stored buffers of `module` by name, those used in several places once."""
    stored = {_clean(name) for name in module.state_dict(keep_vars=True)}
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    tensors |= {name: buffer for name, buffer in module.named_buffers() if _clean(name) in stored}
    return {_clean(name): tensor for name, tensor in tensors.items()}


def _clean(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


@contextlib.contextmanager
def opened(path: Path, check: bool = True) -> Iterator[Any]:
    """An open safetensors file.

    Args:
        path: of the file.
        check: read it all to see that it is as it was written; files of other programs and of older
            versions do not tell.

    Raises:
        UserError: it is missing, cut short or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if check and (sha256 := _told(file)):
                _require_whole(path, file, sha256)
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or not a safetensors file ({error})") from None


def _require_whole(path: Path, file: Any, sha256: str) -> None:
    if sha256_of(file.keys(), file.get_tensor, metadata_of(file)) != sha256:
        raise UserError(f"{path}: damaged: its contents are not those that were written (SHA-256)")


def metadata_of(file: Any) -> dict[str, str]:
    """What the writer of an open file said beside the tensors."""
    return {key: text for key, text in (file.metadata() or {}).items() if key != _SHA256}


def told_sha256(path: Path) -> str | None:
    """The SHA-256 that a file says it has; None where it does not tell."""
    with opened(path, check=False) as file:
        return _told(file)


def _told(file: Any) -> str | None:
    return (file.metadata() or {}).get(_SHA256)


def sha256_of(
    names: Iterable[str], tensor_of: Callable[[str], Tensor], metadata: Mapping[str, str]
) -> str:
    """SHA-256 of names, types, shapes and bytes of tensors, and of the text beside them.

    Not of a file's bytes: other writers leave metadata in no fixed order.
    """
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(names):
        tensor = tensor_of(name).detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_same_shapes(
    path: Path,
    file: Any,
    own: Mapping[str, Tensor],
    names: Mapping[str, str],
    whole: bool = True,
) -> None:
    """Refuse a file whose tensors are not those of the networks built here.

    Args:
        path: for the message.
        file: open safetensors file.
        own: the tensors of the networks, by name.
        names: name in `own` by name in the file.
        whole: refuse tensors beside these.

    Raises:
        UserError: names the first tensor that differs, what was expected and what was found.
    """
    stored = set(file.keys())
    for name, key in names.items():
        expected = tuple(own[key].shape)
        if name not in stored:
            raise UserError(
                f"{path}: of another network: expected {key} of shape {expected}, found none"
            )
        found = tuple(file.get_slice(name).get_shape())
        if found != expected:
            raise UserError(
                f"{path}: of another network: expected {key} of shape {expected}, found {found}"
            )
    if not whole:
        return
    kinds = {name.split("/", 1)[0] for name in names if "/" in name}
    for name in sorted(stored - set(names)):
        if not kinds or name.split("/", 1)[0] in kinds:
            raise UserError(f"{path}: of another network: found {name}, which is not in this one")


def write_tensors(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    announce: Callable[[str], None] | None = None,
) -> None:
    """Write `tensors` on the main process. All take part, as they may hold parts of them."""
    whole = {}
    for name, tensor in tensors.items():
        value = gathered(tensor)
        if processes.is_main():
            whole[name] = _plain(value)
    if processes.is_main():
        save(path, whole, metadata, announce)


def save(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    announce: Callable[[str], None] | None = None,
) -> None:
    """Write `tensors` on this process alone, in one move.

    Args:
        path: the file.
        tensors: by name.
        metadata: text to stand beside them.
        announce: called with the file's SHA-256 before it is moved to its place.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    sha256 = sha256_of(tensors, tensors.__getitem__, metadata)
    with replacing(path) as temporary, _full_disk():
        save_file(dict(tensors), temporary, {**metadata, _SHA256: sha256})
        _order(temporary)
        if announce is not None:
            announce(sha256)


def _order(path: Path) -> None:
    """Put the metadata of a file, which safetensors writes in no fixed order, into that of their names.

    The header is JSON after its length as 8 bytes, little end first, and as long in any order.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        metadata = dict(sorted(header.pop("__metadata__").items()))
        whole = {"__metadata__": metadata, **header}
        text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Safetensors hides the number of an operating system error in its text: bring it back."""
    try:
        yield
    except SafetensorError as error:
        if match := re.search(r"os error (\d+)", str(error)):
            number = int(match[1])
            raise OSError(number, os.strerror(number)) from error
        raise


def gathered(tensor: Tensor) -> Tensor:
    """The whole tensor where each process holds a part of it (FSDP), else the tensor itself."""
    full = getattr(tensor, "full_tensor", None)
    return tensor.detach() if full is None else full().detach()


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, and with memory of its own."""
    return tensor.to("cpu", memory_format=torch.contiguous_format, copy=True).contiguous()


@torch.no_grad()
def fill(tensor: Tensor, value: Tensor) -> None:
    """Write `value` into `tensor`, whose memory format and split over processes stay."""
    if hasattr(tensor, "full_tensor"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(tensor, DTensor)
        value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
    tensor.copy_(value)
