"""What can be wrong inside NIfTI, Analyze, MGH, MetaImage, NRRD, DICOM and picture files."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from malformed_bytes import flip, flip_head
from malformed_values import BOMB, REAL, TEXT, WHOLE, Random, pick


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
    path.write_bytes(png(chunks))
    return f"{kind.decode()}: {how}"


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
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
    path.write_bytes(png([(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]))
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
