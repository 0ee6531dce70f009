"""What can be wrong with a file: its bytes, its place, its name, each number of its header."""

import csv
import gzip
import io
import json
import os
import shutil
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
import tomli_w
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

Random = np.random.Generator
Fault = Callable[[Path, Random], str]
"""Damages one file, and says how."""

WHOLE = (
    0, -1, 1, 2, 3, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**63 - 1,
)  # fmt: skip
REAL = (
    0.0,
    -1.0,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e-45,
    1e-30,
    1e30,
    -1e30,
    3e38,
    1e300,
)
TEXT = (
    "", " ", "x", "0", "-1", "nan", "inf", "-inf", "1e999", "1e308", "9" * 25, "0x10", "1_000", "1,5",
    "None", "true", "../x", "/etc/passwd", "a\0b", "\x1b[31mred", "A" * 5000, "\u202egnp", "١٢", "{}", "[]",
)  # fmt: skip
BOMB = 3 << 30
"""Bytes that a small packed file expands to."""


def pick(rng: Random, things: Any) -> Any:
    """One of several things, of any type."""
    things = list(things)
    return things[int(rng.integers(len(things)))]


def nasty(rng: Random) -> Any:
    """A value that was not expected: of any type, out of any range."""
    nested: Any = []
    for _ in range(int(rng.integers(1, 4))):
        nested = pick(rng, ([nested], {"x": nested}))
    return pick(
        rng, (pick(rng, WHOLE), pick(rng, REAL), pick(rng, TEXT), nested, None, True, 10**400)
    )


# --- bytes ------------------------------------------------------------------------------------------


def _flip(path: Path, rng: Random, most: int = 1 << 40, least: int = 0) -> str:
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
    return _flip(path, rng)


def flip_head(path: Path, rng: Random) -> str:
    return _flip(path, rng, 360)


def flip_end(path: Path, rng: Random) -> str:
    return _flip(path, rng, least=path.stat().st_size - 100)


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
        "zip": _zip({"x.npy": b"\x93NUMPY\x01\0"}),
        "gzip": gzip.compress(b"hello"),
        "text": b"hello\n",
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    }
    name = pick(rng, kinds)
    path.write_bytes(kinds[name])
    return f"holds {name}"


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


# --- places and names -------------------------------------------------------------------------------


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


# --- NIfTI, Analyze, MGH ----------------------------------------------------------------------------


def _headed(path: Path) -> tuple[bytes, np.dtype]:
    name = path.name.lower()
    content = (
        gzip.decompress(path.read_bytes()) if name.endswith((".gz", ".mgz")) else path.read_bytes()
    )
    kind = nibabel.MGHImage if name.endswith(".mgz") else nibabel.Nifti1Image
    return content, kind.header_class.template_dtype


def _written(path: Path, content: bytes) -> None:
    packed = path.name.lower().endswith((".gz", ".mgz"))
    path.write_bytes(gzip.compress(content, 1) if packed else content)


def nifti_field(path: Path, rng: Random) -> str:
    if path.name.endswith(".img"):
        path = path.with_suffix(".hdr")
    content, kind = _headed(path)
    head = np.frombuffer(content[: kind.itemsize], kind).copy()
    name = pick(rng, kind.names)
    values = head[name].reshape(-1)
    place = int(rng.integers(values.size))
    value = pick(rng, REAL if values.dtype.kind == "f" else WHOLE)
    if values.dtype.kind == "S":
        values[place] = rng.bytes(values.itemsize)
    elif values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values[place] = value
    else:
        values[place] = np.array(value & ((1 << 8 * values.itemsize) - 1), "u8").astype(
            values.dtype
        )
    head[name] = values.reshape(head[name].shape)
    _written(path, head.tobytes() + content[kind.itemsize :])
    return f"{path.name}: {name}[{place}] = {values[place]!r}"


def nifti_voxels(path: Path, rng: Random) -> str:
    value = pick(rng, (float("nan"), float("inf"), -float("inf"), 3e38, 0.0, 1j))
    file = nibabel.load(path)
    array = np.asarray(file.dataobj).astype(np.complex64 if value == 1j else np.float32)
    array[tuple(0 for _ in array.shape) if rng.random() < 0.5 else ...] = value
    kind = type(file) if not isinstance(file, nibabel.MGHImage) else nibabel.MGHImage
    if kind is nibabel.MGHImage:
        array = array.real.astype(np.float32)
    nibabel.save(kind(array, file.affine), path)
    return f"voxels are {value}"


def gz_bomb(path: Path, rng: Random) -> str:
    content, kind = _headed(path)
    head = np.frombuffer(content[: kind.itemsize], kind).copy()
    if "dim" in kind.names and rng.random() < 0.7:
        head["dim"] = [3, 1024, 1024, 1024, 1, 1, 1, 1]
    zeros = gzip.compress(bytes(1 << 24), 9)
    path.write_bytes(
        gzip.compress(head.tobytes() + content[kind.itemsize :], 1) + zeros * (BOMB >> 24)
    )
    return "packs 3 GiB of zeros"


# --- MetaImage and NRRD -----------------------------------------------------------------------------


def itk_field(path: Path, rng: Random) -> str:
    mark = b"\n\n" if path.suffix == ".nrrd" else b"ElementDataFile"
    head, found, rest = path.read_bytes().partition(mark)
    if not found:
        return flip(path, rng)
    lines = head.decode("latin-1").splitlines()
    at = int(rng.integers(1, len(lines)))
    sign = ":" if path.suffix == ".nrrd" else " ="
    key, value = lines[at].partition(sign)[::2]
    words = value.split()
    new = str(pick(rng, (*TEXT[:18], *WHOLE, *REAL)))
    how = pick(rng, ("word", "all", "fewer", "more", "twice", "gone", "many"))
    if how == "word" and words:
        words[int(rng.integers(len(words)))] = new
    elif how == "all":
        words = [new] * len(words)
    elif how == "fewer":
        words = words[:-1]
    elif how == "more":
        words += [new]
    elif how == "many":
        words = ["1"] * 5000
    lines[at] = f"{key}{sign} {' '.join(words)}"
    lines[at : at + 1] = {"twice": [lines[at], f"{key}{sign} {new}"], "gone": []}.get(
        how, [lines[at]]
    )
    newline = "\n" if path.suffix != ".nrrd" else ""
    path.write_bytes(("\n".join(lines) + newline).encode("utf-8", "surrogatepass") + found + rest)
    return f"{key.strip()}: {how} {new!r:.40}"


def mhd_target(path: Path, rng: Random) -> str:
    head = path.read_bytes().partition(b"ElementDataFile")[0]
    name = pick(
        rng,
        (
            *("/dev/zero", "/etc/passwd", "../../x.raw", "", "LIST", "LIST 2\na.raw\nb.raw"),
            *("%d.raw 1 9 1", path.name, "a\0b"),
        ),
    )  # fmt: skip
    path.write_bytes(head + f"ElementDataFile = {name}\n".encode())
    return f"voxels lie in {name!r}"


# --- DICOM ------------------------------------------------------------------------------------------

DICOM_TAGS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "PixelSpacing", "ImagePositionPatient", "Modality",
    "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "PatientID", "SeriesInstanceUID",
    "StudyInstanceUID", "SliceThickness", "PixelPaddingValue", "PlanarConfiguration", "InstanceNumber",
    "WindowCenter", "SeriesDescription", "SpecificCharacterSet", "ModalityLUTSequence", "SOPClassUID",
    "RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GridFrameOffsetVector",
    "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "LossyImageCompression",
    "ICCProfile", "PixelData", "EchoTime", "ImageType", "NumberOfSlices",
)  # fmt: skip
VRS = (
    "US", "SS", "UL", "DS", "IS", "LO", "FD", "OB", "OW", "UN", "SQ", "UI", "CS", "AT", "PN", "US",
)  # fmt: skip


def dicom_tag(path: Path, rng: Random) -> str:
    header = pydicom.dcmread(path)
    name = pick(rng, DICOM_TAGS)
    tag = Tag(name)
    own = header[name].VR if name in header and rng.random() < 0.7 else pick(rng, VRS)
    if rng.random() < 0.15:
        header.pop(name, None)
        header.save_as(path)
        return f"{name} absent"
    value = _encoded(own, rng)
    header[tag] = RawDataElement(tag, own, len(value), value, 0, False, True)
    try:
        header.save_as(path)
    except Exception:
        return flip_head(path, rng)
    return f"{name} ({own}) = {value!r:.60}"


def _encoded(vr: str, rng: Random) -> bytes:
    if vr in ("US", "SS", "UL", "FD", "AT"):
        code = {"US": "<H", "SS": "<h", "UL": "<I", "FD": "<d", "AT": "<I"}[vr]
        count = int(pick(rng, (0, 1, 1, 1, 1, 3, 50)))
        size = 8 * struct.calcsize(code)
        values = [
            pick(rng, REAL) if vr == "FD" else pick(rng, WHOLE) & ((1 << size - (vr == "SS")) - 1)
            for _ in range(count)
        ]
        return b"".join(struct.pack(code, value) for value in values)
    if vr in ("OB", "OW", "UN", "SQ"):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", int(pick(rng, (0, 8, 2**32 - 1))))
        return pick(rng, (b"", b"\0\0", rng.bytes(16), item, item * 200))
    words = [
        str(pick(rng, (*TEXT, *WHOLE, *REAL))) for _ in range(int(pick(rng, (1, 1, 1, 2, 3, 6))))
    ]
    text = "\\".join(words).encode("utf-8", "replace")
    return text + b" " * (len(text) % 2)


def dicom_syntax(path: Path, rng: Random) -> str:
    header = pydicom.dcmread(path)
    uid = pick(
        rng,
        ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.3",
         "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99", ""),
    )  # fmt: skip
    old = header.file_meta.TransferSyntaxUID.encode()
    content = path.read_bytes()
    new = uid.encode()[: len(old)]
    path.write_bytes(
        content.replace(old + b"\0" * (len(old) % 2), new.ljust(len(old) + len(old) % 2, b"\0"), 1)
    )
    return f"says syntax {uid}"


def dicom_deflated(path: Path, rng: Random) -> str:
    """A deflated data set that expands to gigabytes, in a private element."""
    content = path.read_bytes()
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    stream = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(stream, header.file_meta)
    start = 132 + 12 + pydicom.dcmread(io.BytesIO(content)).file_meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(
        content[start:] + b"\x09\x70\x10\x00OB\0\0" + struct.pack("<I", 1 << 30)
    )
    # a full flush makes blocks that can stand one after the other
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(
        content[:128] + b"DICM" + stream.getvalue() + packed + zeros * 1024 + packer.flush()
    )
    return "deflates to 1 GiB"


# --- pictures ---------------------------------------------------------------------------------------


def png_chunk(path: Path, rng: Random) -> str:
    chunks = _chunks(path.read_bytes())
    at = int(rng.integers(len(chunks)))
    kind, data = chunks[at]
    how = pick(rng, ("IHDR", "IHDR", "gone", "twice", "cut", "insert", "insert", "swap"))
    if how == "IHDR":
        head = bytearray(chunks[0][1])
        place = int(rng.integers(13))
        head[place] = int(pick(rng, (0, 1, 2, 3, 4, 6, 8, 16, 127, 255)))
        chunks[0] = (b"IHDR", bytes(head))
        how = f"IHDR[{place}] = {head[place]}"
    elif how == "insert":
        extra = pick(
            rng,
            ((b"tRNS", rng.bytes(int(rng.integers(9)))), (b"PLTE", rng.bytes(int(rng.integers(900)))),
             (b"eXIf", _exif(int(pick(rng, (0, 3, 6, 9, 300))))), (b"gAMA", bytes(4)), (b"iCCP", rng.bytes(30)),
             (b"acTL", struct.pack(">II", int(pick(rng, (0, 2, 2**31 - 1))), 0)), (b"IDAT", rng.bytes(20)),
             (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24))), (b"sBIT", bytes([200])), (b"IEND", b"")),
        )  # fmt: skip
        chunks.insert(at, extra)
        how = f"{extra[0]!r} inserted"
    elif how == "cut":
        chunks[at] = (kind, data[: len(data) // 2])
    elif how == "swap":
        chunks[at - 1], chunks[at] = chunks[at], chunks[at - 1]
    else:
        chunks[at : at + 1] = {"gone": [], "twice": [chunks[at]] * 2}[how]
    path.write_bytes(_png(chunks))
    return f"{kind.decode()}: {how}"


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _exif(orientation: int) -> bytes:
    return (
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01"
        + struct.pack(">HH", orientation, 0)
        + bytes(4)
    )


def png_bomb(path: Path, rng: Random) -> str:
    """A few hundred kilobytes that are gigabytes of pixels, or declare them and end."""
    side = int(pick(rng, (9000, 20000, 60000, 2**31 - 1)))
    kind, samples = pick(rng, ((0, 1), (2, 3), (6, 4)))
    head = struct.pack(">IIBBBBB", side, side, 16, kind, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + 2 * min(side, 9000) * samples)
    data = b"".join(packer.compress(row) for _ in range(300)) + packer.flush()
    path.write_bytes(_png([(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]))
    return f"is {side} x {side} of {samples} x 16 bit"


def tiff_tag(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    order = "<" if content[:2] == b"II" else ">"
    (at,) = struct.unpack(order + "I", content[4:8])
    if at + 2 > len(content):
        return flip(path, rng)
    (count,) = struct.unpack(order + "H", content[at : at + 2])
    entry = at + 2 + 12 * int(rng.integers(count))
    part = pick(rng, ("kind", "count", "value", "value", "value", "tag"))
    place, code = {"tag": (0, "H"), "kind": (2, "H"), "count": (4, "I"), "value": (8, "I")}[part]
    bits = 8 * struct.calcsize(code)
    value = pick(rng, (*WHOLE, *range(20))) & ((1 << bits) - 1)
    content[entry + place : entry + place + bits // 8] = struct.pack(order + code, value)
    path.write_bytes(content)
    (tag,) = struct.unpack(order + "H", content[entry : entry + 2])
    return f"{part} of tag {tag} = {value}"


# --- arrays -----------------------------------------------------------------------------------------


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as loaded:
        return dict(loaded)


def npz_array(path: Path, rng: Random) -> str:
    if path.suffix == ".npy":
        arrays = {"image": np.load(path)}
    else:
        arrays = _arrays(path)
    name = pick(rng, arrays)
    array = arrays[name]
    how, made = pick(rng, list(_arrays_instead(array, rng).items()))
    arrays[name] = made
    if path.suffix == ".npy":
        np.save(path, made, allow_pickle=True)
    else:
        np.savez(path, **arrays)
    return f"{name} {how}"


def _arrays_instead(array: np.ndarray, rng: Random) -> dict[str, np.ndarray]:
    number = array.astype(np.float64)
    broken = number.copy()
    broken.reshape(-1)[0] = pick(rng, (np.nan, np.inf, -np.inf, 1e300, -1.0, 0.5, 1e18))
    return {
        "as objects": np.array([None] * len(array), object),
        "as text": np.array([pick(rng, TEXT) for _ in array]),
        "as dates": np.zeros(array.shape, "M8[s]"),
        "as pairs": np.zeros(array.shape, [("a", "f4"), ("b", "i4")]),
        "as half": (number / 256).astype(np.float16),
        "as long double": number.astype(np.longdouble),
        "as complex": number + 1j,
        "as big endian": number.astype(">f8"),
        "as booleans": number > number.mean(),
        "as uint64": np.full(array.shape, 2**64 - 1, np.uint64),
        "of rows less": array[:-1],
        "of no row": array[:0],
        "of an axis of 0": array.reshape(*array.shape, 1)[..., :0],
        "of an axis more": array[..., None],
        "of six axes": array.reshape(*array.shape, *(1,) * (6 - array.ndim)),
        "a number": np.array(3),
        "a number broken": broken,
        "constant": np.full_like(array, 7),
        "transposed": array.T,
        "two long": np.repeat(array, 2, axis=-1)[..., :2],
    }


NPY_HEADERS = (
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 100000, 100000), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 16, 16), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6.0, 16, 16), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6, '16', 16), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': 1536, }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }",
    "{'descr': '|u1', 'fortran_order': 'no', 'shape': (6, 16, 16), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (6, 16, 16), }",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (9223372036854775807, 16), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (6, 16, 16), }",
    "{'descr': [('a', '<f8', (2, 2))], 'fortran_order': False, 'shape': (6, 16, 16), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (6, 16, 16), }",
    "{'descr': '<i9', 'fortran_order': False, 'shape': (6, 16, 16), }",
    "{'descr': '|u1', 'fortran_order': True, 'shape': (6, 16, 16), }",
    "{'descr': '|u1', 'shape': (6, 16, 16), }",
    "[" * 200 + "]" * 200,
    "__import__('os').getpid()",
    "{" + "'a': 1, " * 3000 + "}",
    "",
)


def npy_header(path: Path, rng: Random) -> str:
    head = pick(rng, NPY_HEADERS)
    version = int(pick(rng, (1, 1, 1, 2, 3, 9)))
    code = "<H" if version == 1 else "<I"
    text = head.encode() + b"\n"
    made = (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack(code, len(text))
        + text
        + bytes(6 * 16 * 16)
    )
    if path.suffix == ".npy":
        path.write_bytes(made)
    else:
        members = {f"{name}.npy": _npy(array) for name, array in _arrays(path).items()}
        members[pick(rng, members)] = made
        path.write_bytes(_zip(members))
    return f"NumPy header {head:.60}, version {version}"


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_zip(path: Path, rng: Random) -> str:
    """What the zip around arrays can be."""
    if path.suffix == ".npy":
        return npy_header(path, rng)
    good = {f"{name}.npy": _npy(array) for name, array in _arrays(path).items()}
    how = pick(rng, ("bomb", "bomb", "twice", "path", "no array", "encrypted", "names", "text"))
    if how == "bomb":
        _zip_bomb(path, good)
        return "image unpacks to 3 GiB of zeros"
    if how == "twice":
        with path.open("wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            for name in (*good, *good):
                archive.filelist = [one for one in archive.filelist if one.filename != name]
                archive.NameToInfo.pop(name, None)
                archive.writestr(name, good[name])
        return "has every array twice"
    extra = {
        "path": {"../../../tmp/x.npy": good.get("image.npy", b"")},
        "no array": {"notes.txt": b"hello", "__MACOSX/._image.npy": b"\0\5\x16\7"},
        "names": {
            "a\nb\x1b[31m.npy": next(iter(good.values())),
            f"{'n' * 300}.npy": next(iter(good.values())),
        },
        "text": {"image_axes.npy": _npy(np.array(pick(rng, ("NHW", "XYZ", "NCHW", ""))))},
    }.get(how, {})
    content = bytearray(_zip({**good, **extra}))
    if how == "encrypted":
        at = content.find(b"PK\1\2")
        content[at + 8] |= 1
        content[6] |= 1
    path.write_bytes(content)
    return f"zip: {how}"


def _zip_bomb(path: Path, members: dict[str, bytes]) -> None:
    name = pick(np.random.default_rng(0), members)
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (6, 16384, 32768), }\n"
    head = b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += part * (BOMB >> 24) + packer.flush()
    with zipfile.ZipFile(path, "w") as archive:
        for other, content in members.items():
            if other != name:
                archive.writestr(other, content)
        info = zipfile.ZipInfo(name)
        info.compress_type, info.file_size, info.compress_size = 8, BOMB + len(head), len(packed)
        info.header_offset, info.CRC = archive.fp.tell(), 0
        archive.fp.write(info.FileHeader() + packed)
        archive.filelist.append(info)
        archive.NameToInfo[name] = info
        archive.start_dir = archive.fp.tell()
        archive._didModify = True


# --- HDF5 -------------------------------------------------------------------------------------------


def hdf5_member(path: Path, rng: Random) -> str:
    with h5py.File(path, "r+") as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)] or list(file)
        group: Any = file
        if "dataset" in names:
            group, names = file["dataset"], ["xml", "data"]
        name = pick(rng, names)
        how = pick(rng, HDF5)
        try:
            old = group[name][()] if isinstance(group[name], h5py.Dataset) else None
            del group[name]
            return f"{name} {how(group, name, old, path, rng)}"
        except (KeyError, ValueError, TypeError, OSError, AttributeError, IndexError) as error:
            return f"{name} gone ({type(error).__name__})"


def _h5_values(group: Any, name: str, old: Any, path: Path, rng: Random) -> str:
    array = np.asarray(old)
    how, made = pick(
        rng,
        list({
            "as integers": np.ones(array.shape, np.int16),
            "as text": np.array([pick(rng, TEXT).replace("\0", "").encode("utf-8")] * 2),
            "as bytes": np.void(b"\0\1\2"),
            "as half": np.ones(array.shape, np.float16),
            "of axes of 0": np.zeros((0, *array.shape[1:]), array.dtype),
            "of fewer axes": array[0] if array.ndim else array,
            "of an axis more": array[None],
            "of other members": np.zeros(array.shape, [("x", "f4"), ("y", "f4")]),
            "of references": np.array([group.ref] * 2, h5py.ref_dtype),
            "broken": _broken(array, rng),
            "empty": h5py.Empty("f4"),
        }.items()),
    )  # fmt: skip
    group[name] = made
    return how


def _broken(array: np.ndarray, rng: Random) -> np.ndarray:
    array = array.copy()
    value = pick(rng, (np.nan, np.inf, 1e30, -1))
    if array.dtype.names:
        array[array.dtype.names[0]][...] = value
    elif array.dtype.kind in "fc":
        array.reshape(-1)[0] = value
    return array


def _h5_declared(group: Any, name: str, old: Any, path: Path, rng: Random) -> str:
    shape = pick(rng, ((4, 4, 10**6, 10**6), (3, 2, 16384, 16384), (2**62,), (1, 1, 2**31, 16)))
    dtype = old.dtype if old is not None and old.dtype.kind in "fc" else np.complex64
    chunks = tuple(min(n, 64) for n in shape)
    made = group.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip")
    if rng.random() < 0.7:
        made[tuple(slice(0, min(n, 2)) for n in shape)] = 1
    return f"declared {shape}"


def _h5_link(group: Any, name: str, old: Any, path: Path, rng: Random) -> str:
    how = pick(rng, ("external", "soft", "loop", "virtual", "raw", "passwd", "group"))
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file[name] = old
    if how == "external":
        group[name] = h5py.ExternalLink(other.name, name)
    elif how == "passwd":
        group[name] = h5py.ExternalLink("/etc/passwd", "x")
    elif how == "soft":
        group[name] = h5py.SoftLink("/nowhere")
    elif how == "loop":
        group[name] = h5py.SoftLink(f"{group.name}/{name}")
    elif how == "virtual":
        layout = h5py.VirtualLayout(old.shape, old.dtype)
        layout[...] = h5py.VirtualSource(other.name, name, old.shape)
        group.create_virtual_dataset(name, layout)
    elif how == "raw":
        group.create_dataset(name, (16, 16), "f4", external=[("/etc/passwd", 0, 1024)])
    else:
        group.create_group(name)
    return f"is {how}"


def _h5_gone(group: Any, name: str, old: Any, path: Path, rng: Random) -> str:
    return "gone"


def _h5_attribute(group: Any, name: str, old: Any, path: Path, rng: Random) -> str:
    group[name] = old
    key = pick(rng, ("MATLAB_class", "max", "patient_id", "acquisition", "CLASS"))
    group[name].attrs[key] = pick(rng, (b"char", b"cell", 3, np.zeros(4), b"struct"))
    return f"has attribute {key}"


def _h5_xml(group: Any, name: str, old: Any, path: Path, rng: Random) -> str:
    xml = "ismrmrd_header" if "ismrmrd_header" in group else "xml"
    group[name] = old
    if xml not in group:
        return "as before"
    text = group[xml][()]
    text = text[0] if isinstance(text, np.ndarray) else text
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    del group[xml]
    bomb = "<!DOCTYPE l [<!ENTITY a 'x'>" + "".join(
        f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(9)
    )
    old_number, number = (
        pick(rng, (">16<", ">1<", ">0<", ">15<", ">8<")),
        str(pick(rng, (*WHOLE, *REAL, *TEXT[:14]))),
    )
    made = pick(
        rng,
        (text.replace(old_number, f">{number}<", 1), text.replace(old_number, f">{number}<"), text[: len(text) // 2],
         "<a>" * 20000, bomb + "]><l>&j;</l>", text.replace("encoding>", "coding>"), "",
         text.replace("cartesian", "spiral"), text.replace("xmlns", "xmlms")),
    )  # fmt: skip
    group[xml] = [made.replace("\0", "").encode()] if xml == "xml" else made.replace("\0", "")
    return f"{xml} is {made[:30]!r}, numbers {number}"


def _h5_heads(group: Any, name: str, old: Any, path: Path, rng: Random) -> str:
    """A number in the head of a readout."""
    if name != "data" or old is None or old.dtype.names is None:
        group[name] = old
        return "as before"
    place = int(rng.integers(len(old)))
    head = old["head"] if rng.random() < 0.6 else old["head"]["idx"]
    field = pick(rng, [one for one in head.dtype.names if head[one].dtype.kind in "iuf"])
    values = head[field][place]
    value = pick(rng, REAL) if head[field].dtype.kind == "f" else pick(rng, WHOLE) & 0x7FFF
    with np.errstate(over="ignore"):
        head[field][place] = np.full_like(values, value) if np.ndim(values) else value
    group[name] = old
    return f"readout {place}: {field} = {value}"


HDF5 = (
    _h5_values, _h5_values, _h5_declared, _h5_link, _h5_link, _h5_gone, _h5_attribute, _h5_xml, _h5_xml,
    _h5_heads, _h5_heads,
)  # fmt: skip


# --- texts ------------------------------------------------------------------------------------------


def csv_cell(path: Path, rng: Random) -> str:
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    row, column = int(rng.integers(len(rows))), int(rng.integers(len(rows[0])))
    new = str(
        pick(
            rng,
            (
                *TEXT,
                *WHOLE[:6],
                "c0",
                "i0.png",
                "m1.png",
                "train",
                "0.5",
                "=1+1",
                ".",
                "..",
                "/dev/zero",
                "~",
            ),
        )
    )
    how = pick(
        rng,
        (
            "cell",
            "cell",
            "cell",
            "column",
            "drop column",
            "drop row",
            "same rows",
            "quote",
            "long",
            "code",
        ),
    )
    if how == "cell":
        rows[row][column] = new
    elif how == "column":
        for one in rows[1:]:
            one[column] = new
    elif how == "drop column":
        rows = [one[:column] + one[column + 1 :] for one in rows]
    elif how == "drop row":
        del rows[row]
    elif how == "same rows":
        rows += rows[1:]
    elif how == "long":
        rows[row][column] = "x" * 200_000
    text = "\n".join(
        ",".join(f'"{cell}"' if "\n" in cell else cell for cell in one) for one in rows
    )
    text += '"' if how == "quote" else ""
    coded = (
        text.encode(pick(rng, ("utf-16", "latin-1", "utf-8-sig", "utf-32")), "replace")
        if how == "code"
        else None
    )
    path.write_bytes(text.encode("utf-8", "surrogatepass") if coded is None else coded)
    return f"{how} {row}, {column} = {new!r:.40}"


def json_value(path: Path, rng: Random) -> str:
    """A value anywhere in a file of JSON replaced, removed or nested."""
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return flip(path, rng)
    if rng.random() < 0.08:
        path.write_text(
            pick(
                rng,
                (
                    "[" * 100_000,
                    '{"a":' * 100_000,
                    "[]",
                    "null",
                    "3",
                    '"x"',
                    "NaN",
                    "{}",
                    "1" * 10_000,
                ),
            )
        )
        return "JSON of another shape"
    content, told = _changed(content, rng, "")
    path.write_text(json.dumps(content))
    return told


def _changed(content: Any, rng: Random, where: str) -> tuple[Any, str]:
    """The same content with one value changed, and which."""
    keys = (
        list(content)
        if isinstance(content, dict)
        else list(range(len(content)))
        if isinstance(content, list)
        else []
    )
    if not keys or rng.random() < 0.15:
        new = nasty(rng)
        return new, f"{where or 'all'} = {new!r:.40}"
    key = pick(rng, keys)
    if rng.random() < 0.1:
        content = (
            {k: v for k, v in content.items() if k != key}
            if isinstance(content, dict)
            else content[:-1]
        )
        return content, f"{where}.{key} gone"
    content = dict(content) if isinstance(content, dict) else list(content)
    content[key], told = _changed(content[key], rng, f"{where}.{key}")
    return content, told


def toml_value(path: Path, rng: Random) -> str:
    try:
        content = tomllib.loads(path.read_text())
    except ValueError:
        return flip(path, rng)
    if rng.random() < 0.08:
        path.write_text(
            "a = "
            + pick(rng, ("[" * 100_000, "'x", '"\\ud800"', "1979-99-99", "9" * 5000, "{" * 50_000))
        )
        return "TOML of another shape"
    content, told = _changed(content, rng, "")
    try:
        path.write_text(tomli_w.dumps(content))
    except (TypeError, AttributeError, ValueError):
        return flip(path, rng)
    return told


def jsonl_line(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    if not lines:
        return flip(path, rng)
    at = int(rng.integers(len(lines)))
    content, told = _changed(json.loads(lines[at]), rng, "")
    lines[at] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n")
    return told


def safetensors_header(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    if rng.random() < 0.2:
        size = pick(rng, (0, 1, 2**40, 2**63, length + 1, 10**8))
        path.write_bytes(struct.pack("<Q", size) + content[8:])
        return f"header of {size} bytes"
    head, told = _changed(head, rng, "")
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return told


def weights(path: Path, rng: Random) -> str:
    """A bit of the numbers."""
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    return _flip(path, rng, least=8 + length)


BY_ENDING: dict[str, tuple[Fault, ...]] = {
    ".nii": (nifti_field, nifti_field, nifti_field, nifti_voxels),
    ".nii.gz": (nifti_field, nifti_field, nifti_field, nifti_voxels, gz_bomb),
    ".hdr": (nifti_field,),
    ".img": (nifti_field,),
    ".mgz": (nifti_field, nifti_field, nifti_voxels, gz_bomb),
    ".mha": (itk_field, itk_field),
    ".mhd": (itk_field, itk_field, mhd_target),
    ".nrrd": (itk_field, itk_field),
    ".dcm": (dicom_tag, dicom_tag, dicom_tag, dicom_tag, dicom_syntax, dicom_deflated),
    ".png": (png_chunk, png_chunk, png_bomb),
    ".tif": (tiff_tag, tiff_tag),
    ".npz": (npz_array, npz_array, npy_header, npz_zip, npz_zip),
    ".npy": (npz_array, npz_array, npy_header),
    ".h5": (hdf5_member, hdf5_member, hdf5_member),
    ".csv": (csv_cell, csv_cell, csv_cell),
    ".json": (json_value, json_value, json_value),
    ".toml": (toml_value, toml_value, toml_value),
    ".jsonl": (jsonl_line,),
    ".safetensors": (safetensors_header, weights, weights),
}
"""Faults of the inside of files by ending; MATLAB's are those of HDF5."""


BOMBS = (gz_bomb, npz_zip, dicom_deflated, png_bomb)
"""Not followed by another fault, which would unpack them."""


def damage(path: Path, rng: Random) -> str:
    """Damage a file in one way, now and then in two, and say how."""
    name = path.name.lower()
    ending = next((end for end in (".nii.gz", path.suffix) if name.endswith(end)), "")
    hdf5 = ending == ".mat" and path.read_bytes()[512:516] == b"\x89HDF"
    inside = BY_ENDING.get(".h5" if hdf5 else ending, ())
    told = []
    for _ in range(1 if rng.random() < 0.9 else 2):
        fault = pick(rng, inside if inside and rng.random() < 0.6 else ANY)
        try:
            told.append(fault(path, rng))
        except Exception as error:
            # a second fault may not find what it would damage
            told.append(f"not {fault.__name__} ({type(error).__name__})")
        if not path.is_file() or fault in BOMBS:
            break
    return f"{path.name!a:.60}: {'; '.join(told)}"


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
