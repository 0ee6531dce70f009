"""Layouts: which files make a data set, and which file is which case and role."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError
from ..columns import Column
from ..files import read_json
from ..table import Table, file_column, labels_from_text, numbered
from .arrays import open_arrays
from .bids import is_bids, open_bids
from .contrasts import CONTRAST, contrasts
from .csv_cases import open_csv
from .decathlon import LISTS, open_decathlon
from .dicom_file import is_dicom
from .fastmri import open_fastmri
from .nnunet import is_nnunet, open_nnunet
from .paired import check_no_mask_series, check_no_masks, paired
from .proteins import CHAINS, open_proteins
from .pseudonyms import EVERY, Choice
from .scans import are_scans, open_scans
from .stems import split_folders, splits_in, stem
from .stored import DICOM, ending
from .who import people_in_folders, people_in_names, told

_HDF5 = (".h5", ".hdf5", ".mat", ".mrd")
_ARRAYS = (".npz", ".npy", *_HDF5)
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def open_table(path: Path, choice: Choice = EVERY) -> Table:
    """Find the layout of `path` and read its table.

    Args:
        path: of the data set.
        choice: which series of a DICOM folder are read, and how they are called.

    Raises:
        UserError: no such path, an empty folder, or no layout known here.
    """
    name = path.name.lower()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; a data set made here is named 'brains'")
    if path.is_file():
        if name.endswith((".npz", ".npy")):
            return open_arrays(path)
        if name.endswith(_HDF5):
            from .ismrmrd import check_no_stream, is_ismrmrd, open_ismrmrd

            check_no_stream(path)
            return open_ismrmrd(path) if is_ismrmrd(path) else open_fastmri(path)
        if name.endswith(".csv"):
            return open_csv(path)
        if name.endswith(".json"):
            return open_json(path)
        if name.endswith(CHAINS):
            return open_proteins([path], path)
        if name.endswith(_ARCHIVES):
            raise UserError(
                f"{path}: is an archive; unpack it, and name the folder or the file in it"
            )
        return open_one(path, choice)
    if (path / "cases.csv").is_file():
        return open_csv(path / "cases.csv")
    if (path / "dataset.json").is_file():
        return open_json(path / "dataset.json")
    return open_folder(path, choice)


def open_json(path: Path) -> Table:
    """`dataset.json` of Decathlon or MONAI (lists of cases), or of nnU-Net (imagesTr beside it).

    Raises:
        UserError: neither.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no Decathlon or nnU-Net dataset.json (an object)")
    if any(content.get(word) for word in LISTS):
        return open_decathlon(path, content)
    if is_nnunet(path.parent):
        return open_nnunet(path.parent, content)
    raise UserError(
        f"{path}: lists no case under 'training', 'validation' or 'test' (Decathlon, MONAI), and "
        "no folder imagesTr or imagesTs is beside it (nnU-Net)"
    )


def open_one(path: Path, choice: Choice = EVERY) -> Table:
    """One image file; a film in DICOM has one case a frame."""
    if is_dicom(path):
        from .series import open_dicom

        table = open_dicom(path, [path], choice)
        if table is not None:
            return table
    return open_files([path], path)


def open_folder(folder: Path, choice: Choice = EVERY) -> Table:
    """A plain folder of images, a BIDS folder, or an nnU-Net folder without dataset.json.

    Sub-folders train, val, test are splits; other sub-folders are classes (one level), named by
    the folder, but sub-NAME is a person. Files of DICOM series make one case per series.

    Raises:
        UserError: no image in it, files of several kinds, classes for some images only.
    """
    if is_nnunet(folder):
        return open_nnunet(folder, {})
    if is_bids(folder):
        return open_bids(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: is an empty folder")
    images = [file for file in files if ending(file) and ending(file) not in DICOM]
    slices = [file for file in files if is_dicom(file)]
    chains = [file for file in files if file.suffix.lower() in CHAINS]
    _one_kind(folder, images, slices, chains, files)
    if images:
        pictures = open_files(images, folder)
        pictures.notices.extend(_passed_over(folder, files, images))
        return pictures
    if slices:
        from .series import open_dicom

        check_no_mask_series(slices, folder)
        table = open_dicom(folder, slices, choice)
        if table is not None:
            return table
    if chains:
        return open_proteins(chains, folder)
    arrays = [file for file in files if file.name.lower().endswith(_ARRAYS)]
    if are_scans(arrays):
        return open_scans(folder, arrays)
    if arrays:
        raise UserError(
            f"{folder}: holds {len(arrays)} files of arrays ({arrays[0].name} ...), and a data set is one of them"
        )
    raise UserError(
        f"{folder}: holds {len(files)} files but no image, no cases.csv and no dataset.json"
    )


def _passed_over(folder: Path, files: Sequence[Path], read: Sequence[Path]) -> list[str]:
    """A line on the files of a folder that are none of its images, by their endings; none where all are."""
    endings = Counter(file.suffix.lower() or file.name for file in set(files) - set(read))
    # the header of a pair .hdr and .img
    endings.pop(".hdr", None)
    if not endings:
        return []
    told = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5))
    more = f" and {len(endings) - 5} more endings" if len(endings) > 5 else ""
    return [
        f"{folder}: {len(read)} images are read; files that are none known here are passed over: {told}{more}"
    ]


def _one_kind(
    folder: Path,
    images: Sequence[Path],
    slices: Sequence[Path],
    chains: Sequence[Path],
    files: Sequence[Path],
) -> None:
    """Refuse a folder of several kinds: which of them is the data set is not for us to say."""
    arrays = [file for file in files if file.name.lower().endswith(_ARRAYS)]
    kinds = {
        "DICOM": slices,
        "protein": chains,
        "image": images,
        "array": arrays if images or slices or chains else [],
    }
    found = {name: members for name, members in kinds.items() if members}
    if len(found) < 2:
        return
    listed = ", ".join(
        f"{len(members)} {name} files ({members[0].name}{' ...' if len(members) > 1 else ''})"
        for name, members in found.items()
    )
    raise UserError(
        f"{folder}: holds files of several kinds: {listed}; give each kind its own folder, or name "
        "what belongs to a case in a cases.csv"
    )


def open_files(files: Sequence[Path], root: Path) -> Table:
    """One image file per case, with its mask or other contrasts where these lie beside (see `paired`, `contrasts`);
    patients are folders sub-NAME or patient012, or guessed from names (p01_slice003).

    Raises:
        UserError: classes for some images only, images without their masks.
    """
    notices: list[str] = []
    split_of, parts = split_folders(files, root)
    columns: dict[str, Column]
    if (several := contrasts(files, root)) is not None:
        told_of = f"{len(several.parts)} cases have {len(several.columns)} files each ({', '.join(several.columns)})"
    elif (several := paired(files, root)) is not None:
        first = several.columns["mask"][0].name
        told_of = f"{len(several.parts)} images are read with their masks, {first} ..."
    if several is None:
        check_no_masks(files, root)
        columns = {"image": file_column(files, "image", notices)}
    else:
        files = next(iter(several.columns.values()))
        split_of, parts = splits_in(several.parts, root)
        notices.append(f"{root}: {told_of}")
        columns = {key: file_column(each, key, notices) for key, each in several.columns.items()}
    stems = several.names if several else [stem(file) for file in files]
    people = people_in_folders(parts, stems)
    names = numbered(stems)
    if people:
        names = numbered(["_".join([*part, own]) for own, part in zip(stems, parts, strict=True)])
        counted = f"each folder {people[0]} ... counts as one person ({len(set(people))})"
        notices.append(f"{root}: {counted}")
    label_names = None
    if not (people and any(part[0] == own for part, own in zip(parts, people, strict=True))):
        words = _classes(files, parts, root, split_of is not None)
        if words:
            columns["label"], label_names = labels_from_text(words, str(root), names)
            notices.append(
                f"{root}: sub-folders are classes ({', '.join(sorted(set(words))[:3])} ...)"
            )
    # a guess at who is who does not overrule a split that somebody made
    patients = people or (None if split_of else people_in_names(stems, names))
    if len(files) > 1 and not people:
        notices.append(f"{root}: {told(patients)}; name patients in a cases.csv")
    return Table(
        str(root), names, columns, patients, split_of, label_names=label_names, notices=notices
    )


def _classes(
    files: Sequence[Path], parts: Sequence[tuple[str, ...]], root: Path, split: bool
) -> list[str]:
    """The class of each image, which its folder names; [] where there are none.

    Raises:
        UserError: some images lie in no such folder.
    """
    classes = {part[0] for part in parts if part}
    if any(parts) and not all(parts):
        lone = next(file for file, part in zip(files, parts, strict=True) if not part)
        raise UserError(
            f"{root}: some images lie in sub-folders (classes {', '.join(sorted(classes)[:3])}) "
            f"and some do not ({lone.name}); move them into one, or write a cases.csv"
        )
    one = len(classes) == 1 and (not split or CONTRAST.fullmatch(next(iter(classes))))
    return [] if one or not classes else [part[0] for part in parts]
