"""What can be wrong inside npy, npz and HDF5 files."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from malformed_bytes import zipped
from malformed_values import BOMB, REAL, TEXT, WHOLE, Random, pick


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
        path.write_bytes(zipped(members))
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
        zip_bomb(path, good)
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
    content = bytearray(zipped({**good, **extra}))
    if how == "encrypted":
        at = content.find(b"PK\1\2")
        content[at + 8] |= 1
        content[6] |= 1
    path.write_bytes(content)
    return f"zip: {how}"


def zip_bomb(path: Path, members: dict[str, bytes]) -> None:
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
