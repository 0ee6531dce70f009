"""Archives that expand beyond a limit, and data that are not there: refused before anything is unpacked."""

import gzip
import io
import struct
import tracemalloc
import zlib

import h5py
import nibabel
import numpy as np
import PIL.Image
import pydicom
import pytest
import tifffile

import malformed_arrays
import malformed_bytes
import malformed_files as files
import malformed_images
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.packed import LARGE, MOST_RATIO, unpacked_bytes
from radiffuse.errors import UserError

MOST = 64 << 20
"""Bytes that a refusal may take."""


def refused(path):
    """The line that refuses data, which nothing was unpacked for."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            open_cases(path)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


def zeros(count):
    """Deflated zeros, `count` times 16 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return part * count + packer.flush()


def test_packed_bytes_are_counted_piece_by_piece():
    content = np.random.default_rng(0).bytes(5_000_000)
    for packed in (gzip.compress(content), zlib.compress(content)):
        assert unpacked_bytes(io.BytesIO(packed), 10**9) == len(content)
        with pytest.raises(EOFError):
            unpacked_bytes(io.BytesIO(packed[:-9]), 10**9)
    assert len(content) > unpacked_bytes(io.BytesIO(zlib.compress(content)), 1000) > 1000


def test_a_gzip_of_zeros(tmp_path):
    file = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    head = np.frombuffer(file.header.binaryblock, nibabel.Nifti1Header.template_dtype).copy()
    head["dim"] = [3, 1024, 1024, 1024, 1, 1, 1, 1]
    head["vox_offset"] = 352
    bomb = gzip.compress(bytes(1 << 24)) * 128
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(head.tobytes() + bytes(4)) + bomb)
    assert "would unpack to 2 GiB" in refused(tmp_path / "a.nii.gz")


def test_a_zip_of_zeros(tmp_path):
    malformed_arrays.zip_bomb(tmp_path / "a.npz", {"image.npy": b""})
    assert "would unpack to 3 GiB" in refused(tmp_path / "a.npz")


def test_a_deflated_dicom_of_zeros(tmp_path):
    files.dicom(tmp_path / "a.dcm", files.deep(np.random.default_rng(0)))
    malformed_images.dicom_deflated(tmp_path / "a.dcm", np.random.default_rng(0))
    assert "would unpack to" in refused(tmp_path / "a.dcm")


@pytest.mark.parametrize("side", [files.SIDE, 256])
def test_a_deflated_dicom_is_read(tmp_path, side):
    """So that the refusal above is not for the transfer syntax; also where the file is smaller than its pixels."""
    for name in "ab":
        pixels = files.deep(np.random.default_rng(ord(name)), side, side)
        files.dicom(tmp_path / f"{name}.dcm", pixels & 255)
        header = pydicom.dcmread(tmp_path / f"{name}.dcm")
        header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        header.save_as(tmp_path / f"{name}.dcm")
    stored = pydicom.dcmread(tmp_path / "a.dcm").pixel_array
    assert np.array_equal(
        open_cases(tmp_path).image(0, "image").data[0].numpy(), 2 * stored.astype(int) - 10
    )


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_packed_voxels_of_itk(tmp_path, name):
    """Of zeros, of too few bytes, and damaged: ITK is not asked, which would print of them."""
    meta = "NDims = 3\nDimSize = {0} {0} {0}\nElementType = MET_UCHAR\nCompressedData = True\nElementDataFile = LOCAL\n"
    nrrd = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: {0} {0} {0}\nencoding: gzip\n\n"
    head = (meta if name == "a.mha" else nrrd).format
    pack = zlib.compress if name == "a.mha" else gzip.compress
    good = pack(bytes(range(64)))
    (tmp_path / name).write_bytes(head(4).encode() + good)
    assert open_cases(tmp_path / name).image(0, "image").data.numel() == 64
    for side, packed, why in (
        (1024, zeros(1), "would unpack to 1 GiB"),
        (5, good, "declares 125 bytes of voxels and holds 64"),
        (3, good, "declares 27 bytes"),
        (4, good[:-9], "damaged"),
        (4, good[:20] + b"\xff\xff" + good[22:], "damaged"),
    ):
        (tmp_path / name).write_bytes(head(side).encode() + packed)
        assert why in refused(tmp_path / name)


def test_hdf5_filters(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        part = (1, 1, 1, 1 << 21)
        made = file.create_dataset(
            "kspace", (1, 32, *part[2:]), np.complex64, chunks=part, compression=9
        )
        packed = zlib.compress(bytes(8 << 21), 9)
        for coil in range(32):
            made.id.write_direct_chunk((0, coil, 0, 0), packed)
    assert "would unpack to 0.5 GiB" in refused(tmp_path / "a.h5")


def test_hdf5_of_which_a_part_was_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("kspace", (2, 4, 16, 16), np.complex64, chunks=(1, 4, 16, 16))
        made[0] = files.scan(np.random.default_rng(0), 4, 16, 16)
    assert "1 of its 2 parts were written" in refused(tmp_path / "a.h5")


def test_a_png_that_cannot_hold_its_pixels(tmp_path):
    head = struct.pack(">IIBBBBB", 9000, 9000, 16, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(malformed_images.png(chunks))
    assert "declares 486000000 bytes of voxels" in refused(tmp_path / "a.png")


@pytest.mark.parametrize("kept", [0, -20, 7])
def test_strips_of_a_tiff(tmp_path, capfd, kept):
    """Cut, damaged, and with more in them than the picture takes: libtiff prints of them, and is not asked."""
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "a.tif", files.deep(rng), compression="zlib")
    tifffile.imwrite(tmp_path / "b.tif", files.deep(rng), compression="zlib")
    assert len(open_cases(tmp_path)) == 2
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        entry = file.pages[0].tags[279].offset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    if kept > 0:
        content[at + 30] ^= 255
    elif kept < 0:
        content[entry + 8 : entry + 12] = struct.pack("<I", count + kept)
    else:
        content[entry + 8 : entry + 12] = struct.pack("<I", 2**31)
    (tmp_path / "a.tif").write_bytes(content)
    assert "strips are" in refused_in(tmp_path, "a.tif")
    assert capfd.readouterr() == ("", "")


def refused_in(folder, name):
    with pytest.raises(UserError) as caught:
        open_cases(folder)
    assert name in str(caught.value)
    return str(caught.value)


def test_a_blank_image_is_no_bomb(tmp_path):
    """What packs well and is small, or large and packed little, is read."""
    for name, value in (("a", 0), ("b", 9)):
        array = np.full((256, 256, 64), value, np.uint8)
        array[0, 0, 0] = 255
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
        PIL.Image.fromarray(array[..., 0]).save(tmp_path / f"{name}.png")
    assert (tmp_path / "a.nii.gz").stat().st_size * MOST_RATIO < array.size < LARGE
    assert len(open_cases(tmp_path / "a.nii.gz")) == len(open_cases(tmp_path / "a.png")) == 1


@pytest.mark.parametrize("form", files.FORMS)
def test_a_pipe_in_place_of_any_file_ends_in_a_line(tmp_path, form):
    files.FORMS[form].write(tmp_path, np.random.default_rng(0))
    found = [path for path in sorted(tmp_path.glob(files.FORMS[form].victims)) if path.is_file()]
    malformed_bytes.pipe(found[-1], np.random.default_rng(0))
    try:
        cases = open_cases(tmp_path / files.FORMS[form].data)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert len(cases) and found[-1].name not in str([cases.where(0, key) for key in cases.keys])
