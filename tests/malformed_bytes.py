"""What can be wrong with the bytes, the place and the name of any file."""

import gzip
import io
import os
import zipfile
from pathlib import Path

from malformed_values import Fault, Random, pick


def flip_between(path: Path, rng: Random, most: int = 1 << 40, least: int = 0) -> str:
    content = bytearray(path.read_bytes())
    if not content:
        return "empty already"
    count = int(rng.integers(1, 9))
    places = rng.integers(min(least, len(content) - 1), min(most, len(content)), count)
    for place in places:
        content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return f"bits flipped at {sorted(int(place) for place in places)}"


def flip(path: Path, rng: Random) -> str:
    return flip_between(path, rng)


def flip_head(path: Path, rng: Random) -> str:
    return flip_between(path, rng, 360)


def flip_end(path: Path, rng: Random) -> str:
    return flip_between(path, rng, least=path.stat().st_size - 100)


def cut(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    end = int(rng.integers(len(content) + 1)) if rng.random() < 0.6 else int(rng.integers(400))
    path.write_bytes(content[:end])
    return f"cut at {end} of {len(content)}"


def empty(path: Path, rng: Random) -> str:
    path.write_bytes(b"")
    return "empty"


def block(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    start, length = int(rng.integers(len(content) + 1)), int(rng.integers(1, 64))
    byte = pick(rng, (b"\0", b"\xff", b" ", b"9"))
    content[start : start + length] = byte * length
    path.write_bytes(content)
    return f"{length} bytes {byte!r} at {start}"


def moved(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    start, length = int(rng.integers(len(content) + 1)), int(rng.integers(1, 32))
    if rng.random() < 0.5:
        del content[start : start + length]
    else:
        content[start:start] = rng.bytes(length)
    path.write_bytes(content)
    return f"{length} bytes more or fewer at {start}"


def random_bytes(path: Path, rng: Random) -> str:
    path.write_bytes(rng.bytes(int(rng.integers(1, 4000))))
    return "random bytes"


def of_another_kind(path: Path, rng: Random) -> str:
    kinds = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\nshowpage\n%%EOF\n",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='16' height='16'/>",
        "PDF": b"%PDF-1.4\n%%EOF\n",
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
        "zip": zipped({"x.npy": b"\x93NUMPY\x01\0"}),
        "gzip": gzip.compress(b"hello"),
        "text": b"hello\n",
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    }
    name = pick(rng, kinds)
    path.write_bytes(kinds[name])
    return f"holds {name}"


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def folder(path: Path, rng: Random) -> str:
    path.unlink()
    path.mkdir()
    if rng.random() < 0.5:
        (path / "inside.txt").write_text("x")
    return "is a folder"


def pipe(path: Path, rng: Random) -> str:
    path.unlink()
    os.mkfifo(path)
    return "is a pipe"


def loop(path: Path, rng: Random) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return "is a link to itself"


def dangling(path: Path, rng: Random) -> str:
    path.unlink()
    path.symlink_to("nowhere")
    return "is a link to nothing"


def device(path: Path, rng: Random) -> str:
    path.unlink()
    name = pick(rng, ("/dev/zero", "/dev/full", "/dev/urandom"))
    path.symlink_to(name)
    return f"is {name}"


def missing(path: Path, rng: Random) -> str:
    path.unlink()
    return "is missing"


def renamed(path: Path, rng: Random) -> str:
    stem, dot, ending = path.name.partition(".")
    name = pick(
        rng,
        (
            *(f"{'n' * 200}{dot}{ending}", f"a\nb{dot}{ending}", f"\x1b[31m{dot}{ending}"),
            *(
                f"-rf{dot}{ending}",
                f"a b;c{dot}{ending}",
                f"{stem}{dot}{ending}.bak",
                f"{stem}.{ending}.png",
            ),
            *(
                f"{dot}{ending}",
                f"\udcff\udcfe{dot}{ending}",
                f"e\u0301\u202e{dot}{ending}",
                f"%s{{}}{dot}{ending}",
            ),
            *(
                path.name.upper(),
                f"{stem}_0000{dot}{ending}",
                f"con{dot}{ending}",
                f"{stem}={dot}{ending}",
            ),
        ),
    )
    path.rename(path.with_name(name))
    return f"is called {name!a:.60}"


ANY: tuple[Fault, ...] = (
    flip, flip, flip_head, flip_head, flip_end, cut, cut, empty, block, moved, random_bytes,
    of_another_kind, folder, pipe, loop, dangling, device, missing, renamed,
)  # fmt: skip
