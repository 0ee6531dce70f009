"""Small good data sets of every form, and what libraries that Radiffuse does not use for it read in them."""

import csv
import gzip
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel
import numpy as np
import PIL.Image
import pydicom
import scipy.io
import SimpleITK as sitk
import tifffile
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

SIDE = 16


@dataclass(frozen=True)
class Form:
    """One form that data come in.

    Attributes:
        write: fills a folder.
        data: what a command is given, below that folder.
        victims: pattern of the files that get damaged.
        method: trained on it, "" where none is.
        run: the finished run that predicts from it, "" where none does.
        map: words of --map.
    """

    write: Callable[[Path, np.random.Generator], None]
    data: str = "."
    victims: str = "*"
    method: str = "ddpm"
    run: str = ""
    map: tuple[str, ...] = ()


def grey(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape or (SIDE, SIDE)).astype(np.uint8)


def deep(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 4096, shape or (SIDE, SIDE)).astype(np.uint16)


def labels(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 3, shape or (SIDE, SIDE)).astype(np.uint8)


# --- pictures ---------------------------------------------------------------------------------------


def pictures(ending: str, count: int = 3) -> Callable[[Path, np.random.Generator], None]:
    def write(folder: Path, rng: np.random.Generator) -> None:
        for number in range(count):
            PIL.Image.fromarray(grey(rng)).save(folder / f"p{number}{ending}")

    return write


def _deep_png(folder: Path, rng: np.random.Generator) -> None:
    for number in range(3):
        PIL.Image.fromarray(deep(rng) * 15).save(folder / f"p{number}.png")


def _colour_png(folder: Path, rng: np.random.Generator) -> None:
    for number in range(3):
        PIL.Image.fromarray(grey(rng, SIDE, SIDE, 3)).save(folder / f"p{number}.png")


def _palette_png(folder: Path, rng: np.random.Generator) -> None:
    for number in range(3):
        picture = PIL.Image.fromarray(grey(rng) // 64)
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        picture.save(folder / f"p{number}.png")


def _tiff(folder: Path, rng: np.random.Generator) -> None:
    tifffile.imwrite(folder / "p0.tif", deep(rng))
    tifffile.imwrite(folder / "p1.tif", deep(rng), compression="zlib")
    PIL.Image.fromarray(deep(rng)).save(folder / "p2.tif")


# --- volumes ----------------------------------------------------------------------------------------


def volumes(ending: str, *size: int) -> Callable[[Path, np.random.Generator], None]:
    size = size or (8, 12, 4)

    def write(folder: Path, rng: np.random.Generator) -> None:
        for number in range(5):
            nifti(folder / f"v{number}{ending}", rng.integers(0, 900, size).astype(np.int16))

    return write


def nifti(path: Path, array: np.ndarray) -> None:
    affine = np.diag([-1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = [10.0, -20.0, 5.0]
    file = nibabel.Nifti1Image(array, affine)
    file.set_qform(affine, code=1)
    nibabel.save(file, path)


def _pairs(folder: Path, rng: np.random.Generator) -> None:
    for number in range(5):
        array = rng.integers(0, 900, (8, 12, 4)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Pair(array, np.eye(4)), folder / f"v{number}.img")


def _mgz(folder: Path, rng: np.random.Generator) -> None:
    for number in range(5):
        array = rng.integers(0, 900, (8, 12, 4)).astype(np.int16)
        nibabel.save(nibabel.MGHImage(array, np.eye(4)), folder / f"v{number}.mgz")


def itk(ending: str, packed: bool = False) -> Callable[[Path, np.random.Generator], None]:
    def write(folder: Path, rng: np.random.Generator) -> None:
        for number in range(5):
            image = sitk.GetImageFromArray(rng.integers(0, 900, (4, 12, 8)).astype(np.int16))
            image.SetSpacing((0.5, 1.5, 2.0))
            image.SetOrigin((1.0, -2.0, 3.0))
            sitk.WriteImage(image, str(folder / f"v{number}{ending}"), packed)

    return write


# --- DICOM ------------------------------------------------------------------------------------------


def dicom(path: Path, array: np.ndarray, place: float | None = None, **tags: object) -> None:
    """One file; with a place it is a slice."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{sum(path.name.encode())}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID, header.StudyInstanceUID = f"1.2.{sum(path.name.encode())}", "1.2.9"
    header.Modality, header.PatientID = "MR", path.stem
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = array.shape[-2:]
    header.BitsAllocated = header.BitsStored = 8 * array.dtype.itemsize
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, int(array.dtype.kind == "i")
    header.PixelSpacing, header.InstanceNumber = [2.0, 0.5], 1
    header.RescaleSlope, header.RescaleIntercept = 2, -10
    if place is not None:
        header.ImagePositionPatient = [1.0, 2.0, place]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for name, value in tags.items():
        setattr(header, name, value)
    header.PixelData = array.tobytes()
    header.save_as(path, enforce_file_format=True)


def _radiographs(folder: Path, rng: np.random.Generator) -> None:
    for number in range(3):
        dicom(folder / f"x{number}.dcm", deep(rng))


def _series(folder: Path, rng: np.random.Generator) -> None:
    for person in range(4):
        for k in range(4):
            about = {"SeriesInstanceUID": f"1.2.{person}", "PatientID": f"P{person}"}
            path = folder / f"s{person}{k}.dcm"
            dicom(path, deep(rng, 8, 12), 3.0 * k, InstanceNumber=k + 1, **about)


def _film(folder: Path, rng: np.random.Generator) -> None:
    dicom(folder / "f0.dcm", deep(rng, 4, SIDE, SIDE), NumberOfFrames=4)


def _enhanced(folder: Path, rng: np.random.Generator) -> None:
    from test_data_dicom import NORMAL, write_enhanced

    for number in range(5):
        place = np.array([10.0, -20.0, 30.0])
        path, about = folder / f"e{number}.dcm", {"PatientID": f"P{number}"}
        write_enhanced(path, deep(rng, 8, 12, 4), place, 3 * NORMAL, range(4))
        header = pydicom.dcmread(path)
        header.PatientID, header.SeriesInstanceUID = about["PatientID"], f"1.2.{number}"
        header.save_as(path)


def _palette_dicom(folder: Path, rng: np.random.Generator) -> None:
    tables = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 8]), ("Data", grey(rng, 256).tobytes()))
    }
    for number in range(3):
        about = {"PhotometricInterpretation": "PALETTE COLOR", **tables}
        dicom(folder / f"x{number}.dcm", grey(rng), **about)


def _packed(syntax: UID) -> Callable[[Path, np.random.Generator], None]:
    def write(folder: Path, rng: np.random.Generator) -> None:
        _radiographs(folder, rng)
        for path in folder.glob("*.dcm"):
            header = pydicom.dcmread(path)
            header.compress(syntax)
            header.save_as(path)

    return write


# --- arrays and k-space -----------------------------------------------------------------------------


def _npz(folder: Path, rng: np.random.Generator) -> None:
    label = np.arange(6) % 2
    np.savez(folder / "a.npz", image=grey(rng, 6, SIDE, SIDE), label=label, age=rng.random(6))


def _masks_npz(folder: Path, rng: np.random.Generator) -> None:
    image, mask = grey(rng, 6, SIDE, SIDE), labels(rng, 6, SIDE, SIDE)
    patient = np.array([f"p{row}" for row in range(6)])
    np.savez_compressed(folder / "a.npz", image=image, mask=mask, patient=patient)


def _medmnist(folder: Path, rng: np.random.Generator) -> None:
    parts = {"train": 4, "val": 2, "test": 2}
    images = {f"{part}_images": grey(rng, n, SIDE, SIDE) for part, n in parts.items()}
    classes = {f"{part}_labels": np.arange(n)[:, None] % 2 for part, n in parts.items()}
    np.savez(folder / "a.npz", **images, **classes)


def _npy(folder: Path, rng: np.random.Generator) -> None:
    np.save(folder / "a.npy", rng.normal(size=(6, SIDE, SIDE)).astype(np.float32))


def scan(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """K-space of noise whose centre is the brightest, as every scan's is."""
    kspace = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    kspace[..., SIDE // 2, SIDE // 2] = 100
    return kspace.astype(np.complex64)


def fastmri(folder: Path, rng: np.random.Generator) -> None:
    with h5py.File(folder / "k.h5", "w") as file:
        kspace = scan(rng, 3, 2, SIDE, SIDE)
        file.create_dataset("kspace", data=kspace, chunks=(1, 1, SIDE, SIDE), compression="gzip")
        file["mask"] = np.ones(SIDE, np.float32)
        file["reconstruction_rss"] = np.abs(rng.normal(size=(3, SIDE, SIDE))).astype(np.float32)
        file["ismrmrd_header"] = _xml(SIDE)
        file.attrs["max"] = 1.0


def _xml(n: int) -> str:
    space = (
        f"<matrixSize><x>{n}</x><y>{n}</y><z>1</z></matrixSize><fieldOfView_mm><x>{n}</x><y>{n}</y>"
    )
    space += "<z>5</z></fieldOfView_mm>"
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"<encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace></encoding></ismrmrdHeader>"
    )


def _matlab(folder: Path, rng: np.random.Generator) -> None:
    """As `save -v7.3` writes complex numbers: members real and imag, axes in reverse."""
    kspace = scan(rng, 3, 2, SIDE, SIDE)
    pairs = np.empty(kspace.shape, dtype=[("real", "f4"), ("imag", "f4")])
    pairs["real"], pairs["imag"] = kspace.real, kspace.imag
    with h5py.File(folder / "k.mat", "w", userblock_size=512) as file:
        file["kspace"] = pairs
        file["kspace"].attrs["MATLAB_class"] = np.bytes_("single")
        file["axes"] = np.frombuffer(b"HWCN", np.uint8).astype(np.uint16)[:, None]
        file["axes"].attrs["MATLAB_class"] = np.bytes_("char")


def _matlab5(folder: Path, rng: np.random.Generator) -> None:
    scipy.io.savemat(folder / "k.mat", {"kspace": scan(rng, 3, 2, SIDE, SIDE)})


def _ismrmrd(folder: Path, rng: np.random.Generator) -> None:
    import ismrmrd

    from test_ismrmrd import header, lines, write

    assert ismrmrd
    write(folder / "k.h5", header((SIDE, SIDE, 1)), lines(scan(rng, 2, 2, SIDE, SIDE)))


# --- layouts ----------------------------------------------------------------------------------------


def cases_csv(folder: Path, rng: np.random.Generator) -> None:
    rows = [["case", "patient", "split", "image", "mask", "label", "age", "sex"]]
    for number, split in enumerate(["train", "train", "train", "test"]):
        PIL.Image.fromarray(grey(rng)).save(folder / f"i{number}.png")
        PIL.Image.fromarray(labels(rng)).save(folder / f"m{number}.png")
        names = [f"i{number}.png", f"m{number}.png"]
        rows.append(
            [f"c{number}", f"p{number}", split, *names, f"{number % 2}", f"{40 + number}.5", "F"]
        )
    with (folder / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def _decathlon(folder: Path, rng: np.random.Generator) -> None:
    entries = []
    for number in range(3):
        nifti(folder / f"i{number}.nii.gz", rng.integers(0, 900, (8, 12, 4)).astype(np.int16))
        nifti(folder / f"m{number}.nii.gz", labels(rng, 8, 12, 4))
        entries.append({"image": f"i{number}.nii.gz", "label": f"m{number}.nii.gz"})
    about = {"name": "d", "labels": {"0": "background", "1": "x"}, "numTraining": 3}
    (folder / "dataset.json").write_text(json.dumps({**about, "training": entries}))


def _nnunet(folder: Path, rng: np.random.Generator) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    for number in range(3):
        for channel in range(2):
            image = rng.integers(0, 900, (8, 12, 4)).astype(np.int16)
            nifti(folder / "imagesTr" / f"c{number}_{channel:04d}.nii.gz", image)
        nifti(folder / "labelsTr" / f"c{number}.nii.gz", labels(rng, 8, 12, 4))
    about = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0}, "numTraining": 3}
    (folder / "dataset.json").write_text(json.dumps(about))


def _bids(folder: Path, rng: np.random.Generator) -> None:
    (folder / "dataset_description.json").write_text('{"Name": "d", "BIDSVersion": "1.8.0"}')
    for number in range(3):
        place = folder / f"sub-{number:02d}" / "anat"
        place.mkdir(parents=True)
        image = rng.integers(0, 900, (8, 12, 4)).astype(np.int16)
        nifti(place / f"sub-{number:02d}_T1w.nii.gz", image)
        (place / f"sub-{number:02d}_T1w.json").write_text('{"RepetitionTime": 2.0}')


def _pairs_to_register(folder: Path, rng: np.random.Generator) -> None:
    rows = [["case", "patient", "moving", "fixed", "moving_mask", "fixed_mask"]]
    for number in range(5):
        names = [f"{key}{number}.nii.gz" for key in ("m", "f", "mm", "fm")]
        for place, name in enumerate(names):
            size = (SIDE, SIDE, 1)
            nifti(
                folder / name,
                labels(rng, *size) if place > 1 else deep(rng, *size).astype(np.int16),
            )
        rows.append([f"c{number}", f"p{number}", *names])
    with (folder / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def _proteins(folder: Path, rng: np.random.Generator) -> None:
    for number in range(6):
        lines = [
            f"ATOM  {4 * row + atom + 1:5d}  {name:<3} ALA A{row + 1:4d}    "
            + "".join(f"{value:8.3f}" for value in rng.normal(size=3) * 10)
            for row in range(44)
            for atom, name in enumerate(("N", "CA", "C", "O"))
        ]
        (folder / f"c{number}.pdb").write_text("\n".join(lines) + "\nEND\n")


FORMS: dict[str, Form] = {
    "png": Form(pictures(".png"), run="pictures"),
    "png16": Form(_deep_png),
    "png-colour": Form(_colour_png),
    "png-palette": Form(_palette_png),
    "jpeg": Form(pictures(".jpg"), run="pictures"),
    "bmp": Form(pictures(".bmp"), run="pictures"),
    "gif": Form(pictures(".gif"), run="pictures"),
    "tiff": Form(_tiff),
    "nii": Form(volumes(".nii")),
    "nii.gz": Form(volumes(".nii.gz")),
    "nii-4d": Form(volumes(".nii.gz", 8, 12, 4, 2)),
    "nii-slice": Form(volumes(".nii.gz", SIDE, SIDE, 1), run="pictures"),
    "hdr-img": Form(_pairs),
    "mgz": Form(_mgz),
    "mha": Form(itk(".mha")),
    "mha-packed": Form(itk(".mha", True)),
    "mhd": Form(itk(".mhd")),
    "nrrd": Form(itk(".nrrd", True)),
    "dicom": Form(_radiographs, run="pictures"),
    "dicom-series": Form(_series),
    "dicom-film": Form(_film),
    "dicom-palette": Form(_palette_dicom),
    "dicom-enhanced": Form(_enhanced),
    "dicom-rle": Form(_packed(RLELossless)),
    "dicom-jpegls": Form(_packed(JPEGLSLossless)),
    "npz": Form(_npz, "a.npz", run="pictures"),
    "npz-masks": Form(_masks_npz, "a.npz", method="segmentation-ensembles"),
    "medmnist": Form(_medmnist, "a.npz", method="diffmic"),
    "npy": Form(_npy, "a.npy", run="pictures"),
    "fastmri": Form(fastmri, "k.h5", run="kspace"),
    "ismrmrd": Form(_ismrmrd, "k.h5", method="", run="kspace"),
    "matlab": Form(_matlab, "k.mat", method="", run="kspace"),
    "matlab5": Form(_matlab5, "k.mat", method="", run="kspace"),
    "cases.csv": Form(cases_csv, method="segmentation-ensembles", run="pictures"),
    "decathlon": Form(_decathlon, method="segmentation-ensembles"),
    "nnunet": Form(
        _nnunet, victims="**/*", method="segmentation-ensembles", map=("image=T1", "mask=mask")
    ),
    "bids": Form(_bids, victims="**/*"),
    "pairs": Form(_pairs_to_register, method="diffusemorph"),
    "proteins": Form(_proteins, method="smcdiff"),
}


# --- what others read -------------------------------------------------------------------------------


class CannotTell(Exception):
    """The other library reads something else than an image of plain numbers here."""


def read_by_others(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of an image file in its own order of axes, and its affine where the file is a volume.

    Raises:
        CannotTell: colours, padding and the like, whose meaning is Radiffuse's choice.
        Exception: the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz", ".hdr", ".img", ".mgz")):
        return _by_nibabel(path)
    if name.endswith((".mha", ".mhd")):
        return _by_hand(path, *_metaimage(path)), None
    if name.endswith(".nrrd"):
        return _by_hand(path, *_nrrd(path)), None
    if name.endswith(".dcm"):
        return _by_pydicom(path), None
    if name.endswith((".tif", ".tiff")):
        return _by_tifffile(path), None
    return _by_pillow(path), None


def _by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    file = nibabel.load(path)
    if file.get_data_dtype().names or file.get_data_dtype().kind == "c":
        raise CannotTell
    header = file.header
    known = not hasattr(header, "get_sform") or header["sform_code"] or header["qform_code"]
    mm = not hasattr(header, "get_sform") or header["xyzt_units"] & 7 == 2
    return np.asarray(file.dataobj), file.affine if known and mm else None


def _metaimage(path: Path) -> tuple[dict[str, str], bytes]:
    content = path.read_bytes()
    head, mark, rest = content.partition(b"ElementDataFile")
    line, _, data = rest.partition(b"\n")
    where = line.partition(b"=")[2].strip().decode()
    lines = [one.partition("=") for one in head.decode().splitlines() if "=" in one]
    fields = {key.strip(): value.strip() for key, _, value in lines}
    if int(fields.get("ElementNumberOfChannels", 1)) > 1 or not mark:
        raise CannotTell
    data = data if where == "LOCAL" else (path.parent / where).read_bytes()
    data = data[int(fields.get("HeaderSize", 0)) :]
    msb = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    kinds = {"CHAR": "i1", "SHORT": "i2", "INT": "i4", "LONG": "i8", "FLOAT": "f4", "DOUBLE": "f8"}
    kind = fields["ElementType"].removeprefix("MET_")
    kind = f"u{kinds[kind[1:]][1:]}" if kind.startswith("U") else kinds[kind]
    big = msb.lower().startswith("t") or msb == "1"
    about = {"sizes": fields["DimSize"], "type": (">" if big else "<") + kind}
    about["packed"] = "zlib" if fields.get("CompressedData", "").lower().startswith("t") else ""
    return about, data


def _nrrd(path: Path) -> tuple[dict[str, str], bytes]:
    head, _, data = path.read_bytes().partition(b"\n\n")
    lines = [one.partition(":") for one in head.decode().splitlines() if ":" in one]
    fields = {key.strip(): value.strip() for key, _, value in lines}
    kinds = {"short": "i2", "int16": "i2", "ushort": "u2", "unsigned short": "u2", "float": "f4"}
    kinds |= {
        "int": "i4",
        "unsigned char": "u1",
        "uchar": "u1",
        "signed char": "i1",
        "double": "f8",
    }
    big = fields.get("endian") == "big"
    about = {"sizes": fields["sizes"], "type": (">" if big else "<") + kinds[fields["type"]]}
    about["packed"] = "gzip" if fields["encoding"] in ("gzip", "gz") else ""
    return about, data


def _by_hand(path: Path, about: dict[str, str], data: bytes) -> np.ndarray:
    import zlib

    if about["packed"]:
        data = gzip.decompress(data) if about["packed"] == "gzip" else zlib.decompress(data)
    size = [int(n) for n in about["sizes"].split()]
    count = int(np.prod(size, dtype=object))
    return np.frombuffer(data, about["type"], count).reshape(size[::-1]).T


def _by_pydicom(path: Path) -> np.ndarray:
    header = pydicom.dcmread(path)
    odd = (
        "PixelPaddingValue",
        "ModalityLUTSequence",
        "SharedFunctionalGroupsSequence",
        "DoseGridScaling",
    )
    if header.PhotometricInterpretation != "MONOCHROME2" or any(name in header for name in odd):
        raise CannotTell
    frames = header.get("NumberOfFrames", 1)
    if not isinstance(frames, int) or frames < 1:
        raise CannotTell  # it says nothing, and one frame is there
    slope = float(header.get("RescaleSlope", 1) or 1)
    return header.pixel_array * slope + float(header.get("RescaleIntercept", 0) or 0)


def _by_tifffile(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.photometric != 1 or page.samplesperpixel != 1 or page.bitspersample < 8:
            raise CannotTell
        if page.tags.get(274) is not None and page.tags[274].value != 1:
            raise CannotTell
        return page.asarray()


def _by_pillow(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as file:
        turned = file.getexif().get(274, 1) != 1
        if file.mode not in ("L", "I;16") or file.info.get("transparency") is not None or turned:
            raise CannotTell
        return np.asarray(file)


def arrays_by_others(path: Path) -> dict[str, np.ndarray]:
    """Arrays of numbers in a .npy, .npz or HDF5 file by name.

    Raises:
        Exception: the file cannot be read.
    """
    if path.suffix == ".npy":
        return {"image": np.load(path)}
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        with np.load(path) as loaded:
            return {name.removesuffix(".npy"): loaded[name.removesuffix(".npy")] for name in names}
    with h5py.File(path) as file:
        found = {name: one[()] for name, one in file.items() if isinstance(one, h5py.Dataset)}
    pairs = ("real", "imag")
    return {
        name: one["real"] + 1j * one["imag"]
        if getattr(one, "dtype", None) and one.dtype.names == pairs
        else one
        for name, one in found.items()
        if hasattr(one, "dtype")
    }
