"""Layouts people have: folders of several kinds, nnU-Net, BIDS, cases.csv as spreadsheets write it."""

import itertools
import json
import time

import nibabel
import numpy as np
import PIL.Image
import pytest
import tifffile

from radiffuse.data.dataset import check_trainable, from_iterable, open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.data.formats.layouts import open_table
from radiffuse.data.table import labels_named
from radiffuse.errors import UserError
from test_data_dicom import write_slice


def volume(path, seed=0, labels=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 2, (4, 5, 6)) if labels else rng.integers(0, 1000, (4, 5, 6))
    nibabel.save(nibabel.Nifti1Image(data.astype(np.int16), np.eye(4)), path)
    return data


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(0, 256, (5, 7)).astype(np.uint8)
    PIL.Image.fromarray(data).save(path)
    return data


def opened(path, **options):
    return open_cases(path, **{"range": (0, 1000), **options})


def refused(path):
    with pytest.raises(UserError) as caught:
        open_cases(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def told(cases):
    return "\n".join(cases.lines)


# ---------------------------------------------------------------------------------- several kinds
def dicom(folder, count=3):
    for k in range(count):
        array = np.random.default_rng(k).integers(0, 1000, (8, 8)).astype(np.uint16)
        write_slice(folder / f"IM{k}", array, (0, 0, 0), series=f"1.2.{k}", PatientID=f"P{k}")
    return folder


@pytest.mark.parametrize(
    "other", ["preview.jpg", "below/preview.png", "volume.nii.gz", "a.pdb", "a.npz"]
)
def test_a_folder_of_several_kinds_is_refused_with_what_was_found(tmp_path, other):
    path = dicom(tmp_path) / other
    path.parent.mkdir(exist_ok=True)
    if other.endswith((".jpg", ".png")):
        picture(path)
    else:
        path.write_bytes(b"something")
    line = refused(tmp_path)
    assert "3 DICOM files (IM0 ...)" in line and f"({path.name})" in line


def test_pictures_of_several_formats_are_one_kind(tmp_path):
    for seed, name in enumerate(("a.png", "b.tif", "c.bmp")):
        picture(tmp_path / name, seed)
    (tmp_path / "notes.txt").write_text("not an image")
    assert opened(tmp_path).ids == ("a", "b", "c")


# ------------------------------------------------------------------------------------------ nnU-Net
def nnunet(folder, channels=2, cases=4, masks=4):
    for k in range(cases):
        for c in range(channels):
            volume(folder / f"imagesTr/case_{k:03d}_{c:04d}.nii.gz", 10 * k + c)
        if k < masks:
            volume(folder / f"labelsTr/case_{k:03d}.nii.gz", k, labels=True)
    return folder


def described(folder, **content):
    content = {"labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz", **content}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_nnunet_channels_are_columns_and_labels_masks(tmp_path):
    described(nnunet(tmp_path), channel_names={"0": "T1", "1": "T2 FLAIR"}, numTraining=4)
    cases = opened(tmp_path)
    assert cases.keys == ("T1", "T2_FLAIR", "mask") and cases.mask_keys == ("mask",)
    assert cases.ids == tuple(f"case_{k:03d}" for k in range(4))
    for key, name in (("T1", "imagesTr/case_002_0000"), ("T2_FLAIR", "imagesTr/case_002_0001"),
                      ("mask", "labelsTr/case_002")):  # fmt: skip
        truth = nibabel.load(tmp_path / f"{name}.nii.gz").get_fdata()
        np.testing.assert_array_equal(cases.image(2, key).data[0].numpy(), truth)
    assert opened(tmp_path / "dataset.json", mapping={"image": "T1"}).keys == ("image",)


def test_labels_keep_their_names_by_the_numbers_that_masks_hold(tmp_path):
    """However the description turns them, whatever the key, through codes, and into what a run records."""
    described(nnunet(tmp_path), labels={"background": 0, "tumour": 1, "whole": [1, 2]})
    cases = opened(tmp_path, mapping={"image": "channel_0000", "seg": "mask"})
    assert cases.mask_names == {"seg": ("", "tumour")}
    assert cases.facts().mask_names == {"seg": ("", "tumour")}
    assert labels_named({"labels": {"0": "background", "2": "oedema"}}) == {2: "oedema"}
    assert labels_named({"labels": ["no", "object"]}) == labels_named({}) == {}
    assert open_cases(
        "brains:count=2,size=16", mapping={"image": "t1", "mask": "tissue"}
    ).mask_names == {"mask": ("", "fluid", "grey matter", "white matter")}


def test_nnunet_without_dataset_json_never_mixes_images_and_label_maps(tmp_path):
    assert opened(nnunet(tmp_path)).keys == ("channel_0000", "channel_0001", "mask")


def test_one_nnunet_channel_is_the_image_and_one_mask_missing_leaves_the_case_out(tmp_path):
    cases = opened(described(nnunet(tmp_path, channels=1, masks=3), channel_names={"0": "CT"}))
    assert cases.keys == ("image", "mask") and len(cases) == 3
    assert "1 cases without a mask are left out" in told(cases)


def test_nnunet_test_images_with_labels_are_the_test_split(tmp_path):
    nnunet(tmp_path, channels=1)
    volume(tmp_path / "imagesTs/other_0000.nii.gz", 99)
    volume(tmp_path / "labelsTs/other.nii.gz", 99, labels=True)
    assert opened(tmp_path).split_of == ("train",) * 4 + ("test",)


def test_names_that_end_in_four_digits_are_cases_where_masks_have_them_too(tmp_path):
    for k in range(3):
        volume(tmp_path / f"imagesTr/scan_{k:04d}.nii.gz", k)
        volume(tmp_path / f"labelsTr/scan_{k:04d}.nii.gz", k, labels=True)
    assert opened(tmp_path).ids == ("scan_0000", "scan_0001", "scan_0002")


def test_a_missing_nnunet_channel_is_named(tmp_path):
    (nnunet(tmp_path) / "imagesTr/case_001_0001.nii.gz").unlink()
    assert "case case_001 of imagesTr has no channel _0001" in refused(tmp_path)


@pytest.mark.parametrize("part", ["Tr", "Ts"])
def test_a_file_without_a_channel_among_such_with_one_is_refused_by_name(tmp_path, part):
    """Else every channel of the others would be a case of its own."""
    nnunet(tmp_path)
    if part == "Ts":
        volume(tmp_path / "imagesTs/new_0000.nii.gz", 1)
        volume(tmp_path / "imagesTs/new_0001.nii.gz", 2)
    volume(tmp_path / f"images{part}/case_009.nii.gz", 99)
    if part == "Tr":
        volume(tmp_path / "labelsTr/case_009.nii.gz", 99, labels=True)
    line = refused(tmp_path)
    first = "case_000_0000" if part == "Tr" else "new_0000"
    assert "case_009.nii.gz: has no channel number" in line and f"{first}.nii.gz" in line


def test_years_at_the_end_of_some_names_are_no_channels(tmp_path):
    for name in ("scan_2019", "scan_2020", "late", "scan_0000"):
        volume(tmp_path / f"imagesTr/{name}.nii.gz", len(name))
        if name != "scan_0000":
            volume(tmp_path / f"labelsTr/{name}.nii.gz", 1, labels=True)
    assert opened(tmp_path).ids == ("late", "scan_2019", "scan_2020")


def test_a_dataset_json_that_lists_nothing_names_both_layouts(tmp_path):
    line = refused(described(tmp_path, channel_names={"0": "CT"}))
    assert "(Decathlon, MONAI)" in line and "(nnU-Net)" in line


def test_files_of_a_dataset_json_that_begin_alike_are_of_one_person(tmp_path):
    """Frames of a heart (ACDC): a person stood in training and among those held out."""
    names = [f"patient{k:03d}_frame{frame:02d}.nii.gz" for k in range(1, 11) for frame in (1, 12)]
    for k, name in enumerate(names):
        volume(tmp_path / name, k)
    described(tmp_path, training=[{"image": name} for name in names])
    cases = opened(tmp_path)
    assert len(set(cases.patients)) == 10 and any("begin alike" in line for line in cases.notices)
    sides = {}
    for patient, split in zip(cases.patients, cases.split_of, strict=True):
        sides.setdefault(patient, set()).add(split)
    assert all(len(each) == 1 for each in sides.values())


def test_folders_of_people_in_a_dataset_json_are_people(tmp_path):
    names = [f"patient{k:02d}/scan{scan}/t1.nii.gz" for k in range(6) for scan in range(3)]
    for k, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        volume(tmp_path / name, k)
    described(tmp_path, training=[{"image": name} for name in names])
    cases = opened(tmp_path)
    assert len(set(cases.patients)) == 6
    assert any("patient00 ... counts as one person (6)" in line for line in cases.notices)


def test_years_of_a_data_set_are_no_people(tmp_path):
    names = [f"BraTS{year}/imagesTr/case_{k:03d}.nii.gz" for year in (2019, 2020) for k in range(4)]
    for k, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        volume(tmp_path / name, k)
    described(tmp_path, training=[{"image": name} for name in names])
    assert len(set(opened(tmp_path).patients)) == 8
    described(
        tmp_path,
        training=[{"image": n} for n in names[:4]],
        validation=[{"image": n} for n in names[4:]],
    )
    assert opened(tmp_path).split_of == ("train",) * 4 + ("val",) * 4


def test_a_dataset_json_with_a_test_list_alone_is_not_trained_on(tmp_path):
    for k in range(3):
        volume(tmp_path / f"{k}.nii.gz", k)
    described(tmp_path, test=[f"{k}.nii.gz" for k in range(3)])
    cases = opened(tmp_path)
    assert cases.split_of == ("test",) * 3
    with pytest.raises(UserError, match="no training cases, only test"):
        check_trainable(cases)
    described(tmp_path, training="0.nii.gz")
    assert "'training' must be a list of cases" in refused(tmp_path)


def test_an_nnunet_folder_of_test_images_alone_is_not_trained_on(tmp_path):
    for k in range(3):
        volume(tmp_path / f"imagesTs/case_{k}_0000.nii.gz", k)
    cases = opened(tmp_path)
    assert cases.ids == ("case_0", "case_1", "case_2") and cases.split_of == ("test",) * 3
    with pytest.raises(UserError, match="no training cases, only test; these are not trained on"):
        check_trainable(cases)


# --------------------------------------------------------------------------------------------- BIDS
def bids(folder, subjects=12, sessions=2, suffixes=("T1w",)):
    for s in range(subjects):
        for t in range(sessions):
            for n, suffix in enumerate(suffixes):
                name = f"sub-{s:02d}/ses-{t}/anat/sub-{s:02d}_ses-{t}_{suffix}.nii.gz"
                volume(folder / name, 100 * s + 10 * t + n)
    return folder


def test_a_bids_folder_is_split_by_subject_and_subjects_are_no_classes(tmp_path):
    cases = opened(bids(tmp_path))
    assert cases.ids[:3] == ("sub-00_ses-0", "sub-00_ses-1", "sub-01_ses-0")
    assert cases.keys == ("image",) and cases.class_names == ()
    of = {}
    for patient, split in zip(cases.all_patients, cases.all_splits, strict=True):
        of.setdefault(patient, set()).add(split)
    assert sorted(of) == [f"sub-{s:02d}" for s in range(12)]
    assert all(len(splits) == 1 for splits in of.values())
    assert "each subject counts as one person (12, in 24 sessions)" in told(cases)


def test_bids_contrasts_are_columns_and_one_that_sessions_lack_is_left_out_by_name(tmp_path):
    bids(tmp_path, subjects=3, suffixes=("T1w", "FLAIR"))
    assert opened(tmp_path).keys == ("FLAIR", "T1w")
    (tmp_path / "sub-01/ses-0/anat/sub-01_ses-0_FLAIR.nii.gz").unlink()
    cases = opened(tmp_path)
    assert cases.keys == ("image",) and len(cases) == 6
    assert "FLAIR is there for 5 of 6 sessions and is left out" in told(cases)


def test_bids_masks_of_derivatives_stand_beside_their_images(tmp_path):
    bids(tmp_path, subjects=3, sessions=1)
    for s in (0, 2):
        folder = tmp_path / f"derivatives/lesions/sub-{s:02d}/ses-0/anat"
        volume(folder / f"sub-{s:02d}_ses-0_label-lesion_mask.nii.gz", s, labels=True)
        volume(folder / f"sub-{s:02d}_ses-0_space-MNI152_label-lesion_mask.nii.gz", s, labels=True)
        volume(folder / f"sub-{s:02d}_ses-0_desc-preproc_T1w.nii.gz", s)
    cases = opened(tmp_path)
    assert cases.keys == ("image", "mask") and cases.ids == ("sub-00_ses-0", "sub-02_ses-0")
    truth = tmp_path / "derivatives/lesions/sub-02/ses-0/anat/sub-02_ses-0_label-lesion_mask.nii.gz"
    np.testing.assert_array_equal(
        cases.image(1, "mask").data[0].numpy(), nibabel.load(truth).get_fdata()
    )
    assert "1 sessions without lesion_mask are left out" in told(cases)


@pytest.mark.parametrize("several", [False, True])
def test_bids_masks_may_keep_the_suffix_of_their_image(tmp_path, several):
    bids(tmp_path, subjects=3, sessions=1, suffixes=("T1w", "FLAIR"))
    of = ("T1w", "FLAIR") if several else ("T1w",)
    name = "derivatives/manual/sub-{0:02d}/anat/sub-{0:02d}_ses-0_{1}_label-lesion_mask.nii.gz"
    for s in range(3):
        for n, suffix in enumerate(of):
            volume(tmp_path / name.format(s, suffix), 10 * s + n, labels=True)
    cases = opened(tmp_path)
    keys = ("FLAIR_lesion_mask", "T1w_lesion_mask") if several else ("mask",)
    assert cases.keys == ("FLAIR", "T1w", *keys)
    truth = nibabel.load(tmp_path / name.format(2, "T1w")).get_fdata()
    np.testing.assert_array_equal(cases.image(2, keys[-1]).data[0].numpy(), truth)
    assert "passed over" not in told(cases)


def test_derivatives_of_bids_that_are_passed_over_are_counted_in_one_line(tmp_path):
    bids(tmp_path, subjects=3, sessions=1)
    for s in range(3):
        folder = tmp_path / f"derivatives/prep/sub-{s:02d}/anat"
        volume(folder / f"sub-{s:02d}_ses-0_desc-brain_mask.nii.gz", s, labels=True)
        volume(folder / f"sub-{s:02d}_ses-0_space-MNI152_desc-brain_mask.nii.gz", s, labels=True)
        volume(folder / f"sub-{s:02d}_ses-0_desc-preproc_T1w.nii.gz", s)
    volume(tmp_path / "derivatives/prep/mean.nii.gz", 9)
    cases = opened(tmp_path)
    (line,) = [line for line in cases.lines if "passed over" in line]
    assert cases.keys == ("image", "mask") and "derivatives hold 7 images" in line
    assert "derivatives/prep/mean.nii.gz" in line


def test_of_several_kinds_of_bids_images_the_anatomical_ones_are_read_and_the_rest_is_named(
    tmp_path,
):
    bids(tmp_path, subjects=2, sessions=1)
    volume(tmp_path / "sub-00/ses-0/func/sub-00_ses-0_task-rest_bold.nii.gz")
    cases = opened(tmp_path)
    assert cases.keys == ("image",) and "of 2 anat, 1 func images those of anat are read" in told(
        cases
    )


def test_folders_of_subjects_that_are_not_quite_bids_are_people_too(tmp_path):
    for s in range(3):
        for scan in ("first", "second"):
            volume(tmp_path / f"sub-{s}" / f"{scan}.nii.gz", 10 * s + len(scan))
    cases = opened(tmp_path)
    assert cases.keys == ("image",) and set(cases.all_patients) == {"sub-0", "sub-1", "sub-2"}
    assert "sub-0_first" in cases.all_ids


# ---------------------------------------------------------------------------------------- cases.csv
def table(folder, separator, encoding="utf-8", slash="/", head="", cells=("1.5",) * 4):
    for k in range(4):
        picture(folder / f"im/{k}.png", k)
    rows = [("case", "image", "age")]
    rows += [(f"c{k}", f"im{slash}{k}.png", cells[k]) for k in range(4)]
    text = head + "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    (folder / "cases.csv").write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_cells_are_separated_by_comma_semicolon_or_tab(tmp_path, separator, encoding):
    cases = open_cases(table(tmp_path, separator, encoding))
    assert cases.ids == ("c0", "c1", "c2", "c3")
    truth = np.asarray(PIL.Image.open(tmp_path / "im/2.png"))
    np.testing.assert_array_equal(cases.image(2, "image").data[0].numpy(), truth)
    assert cases.batch([0])["age"].tolist() == [1.5]


def test_what_spreadsheets_add_is_understood(tmp_path):
    cases = open_cases(
        table(tmp_path / "a", ";", head="sep=;\r\n", cells=("1,5", "2", "", "40,25"))
    )
    assert cases.batch([0, 3])["age"].tolist() == [1.5, 40.25]
    assert "the comma in numbers of column age is read as a decimal point" in told(cases)
    assert len(open_cases(table(tmp_path / "b", ",", slash="\\"))) == 4


def test_text_that_is_not_utf8_is_refused(tmp_path):
    table(tmp_path, ";", "latin-1", cells=("m\xfcde",) * 4)
    assert "cases.csv: is not UTF-8 text" in refused(tmp_path)


def test_a_table_without_images_names_its_columns(tmp_path):
    (tmp_path / "cases.csv").write_text("case,scan,age\na,first,3\nb,second,4\n")
    line = refused(tmp_path)
    assert "no column names image files (columns: case, scan, age)" in line and ".nii.gz" in line


def test_a_case_without_its_file_is_named(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "cases.csv").write_text("case,image\na,a.png\nb,\n")
    assert "column image: case b names no file" in refused(tmp_path)


def test_doubles_among_many_rows_are_found_at_once(tmp_path):
    picture(tmp_path / "a.png")
    rows = [f"c{k % 29_000},a.png" for k in range(30_000)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,image", *rows]) + "\n")
    begin = time.process_time()
    with pytest.raises(UserError, match=r"case c0 stands twice \(1000 such\)"):
        open_table(tmp_path)
    assert time.process_time() - begin < 1


# ------------------------------------------------------------------- who, and what belongs together
def test_headings_name_patient_and_split_in_capitals_and_other_words_too(tmp_path):
    for k in range(6):
        picture(tmp_path / f"{k}.png", k)
    rows = [f"c{k},p{k // 2},{k}.png,{'test' if k > 3 else 'train'}" for k in range(6)]
    for heading in (
        "Case,Patient,Image,Split",
        "case,PatientID,image,SPLIT",
        "case,subject_id,image,split",
    ):
        (tmp_path / "cases.csv").write_text("\n".join([heading, *rows]))
        cases = opened(tmp_path)
        assert cases.ids == tuple(f"c{k}" for k in range(6)), heading
        assert cases.patients == ("p0", "p0", "p1", "p1", "p2", "p2"), heading
        assert cases.split_of == ("train",) * 4 + ("test",) * 2, heading
    assert "subject_id is taken as the patient" in told(cases)
    (tmp_path / "cases.csv").write_text("\n".join(["Case,case,image,split", *rows]))
    assert "Case and case both say the case" in refused(tmp_path)


def test_a_table_without_patients_says_so_and_a_blank_one_is_refused(tmp_path):
    for k in range(4):
        picture(tmp_path / f"{k}.png", k)
    (tmp_path / "cases.csv").write_text("image\n0.png\n1.png\n2.png\n3.png\n")
    assert "no patient is known" in told(opened(tmp_path))
    (tmp_path / "cases.csv").write_text("image,patient\n0.png,a\n1.png,\n2.png,b\n3.png,\n")
    assert "case 0001 names no patient (2 such)" in refused(tmp_path)
    both = "image,patient\n0.png,Andr\u00e9\n1.png,Andre\u0301\n2.png,b\n3.png,c\n"
    (tmp_path / "cases.csv").write_text(both, encoding="utf-8")
    assert len(set(opened(tmp_path).patients)) == 3, "one person, written in two ways of Unicode"


def test_files_of_one_name_in_several_folders_are_not_one_person(tmp_path):
    for k in range(9):
        picture(tmp_path / f"kind {k % 3}" / f"slice{k // 3}.png", k)
    cases = opened(tmp_path)
    assert len(set(cases.patients)) == 9 and cases.class_names == ("kind 0", "kind 1", "kind 2")
    assert "sub-folders are classes (kind 0, kind 1, kind 2" in told(cases)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("moving/{}.png", "fixed/{}.png"), ("fixed", "moving")),
        (("T1/{}.png", "T2/{}.png", "masks/{}.png"), ("T1", "T2", "mask")),
        (("t1/{}_t1.png", "low dose/{}_low dose.png", "labels/{}_mask.png"), ("low dose", "t1", "mask")),
        (("{}_t1.png", "{}-FLAIR.png", "{}_seg.png"), ("flair", "t1", "mask")),
        (("{}/t1.png", "{}/t1ce.png", "{}/seg.png"), ("t1", "t1ce", "mask")),
        (("{0}/{0}_image.png", "{0}/{0}_label.png"), ("image", "mask")),
        (("{}/imaging.png", "{}/segmentation.png"), ("image", "mask")),
        (("volume-{}.png", "segmentation-{}.png"), ("image", "mask")),
        (("CT_{}.png", "MR_{}.png", "mask_{}.png"), ("ct", "mr", "mask")),
        (
            ("{}_moving.png", "{}_fixed.png", "{}_moving_mask.png", "{}_fixed_mask.png"),
            ("fixed", "moving", "fixed_mask", "moving_mask"),
        ),
    ],
)  # fmt: skip
def test_contrasts_are_columns_of_one_case_and_no_classes(tmp_path, names, columns):
    """By folders or by the end of names: on neither side of a split is one without the others."""
    for k in range(12):
        for number, name in enumerate(names):
            picture(tmp_path / name.format(f"k{k:02d}"), 10 * number + k)
    cases = opened(tmp_path)
    assert tuple(cases.columns) == columns and cases.class_names == ()
    assert cases.ids == tuple(f"k{k:02d}" for k in range(12))
    assert f"12 cases have {len(names)} files each" in told(cases)
    if "mask" not in columns:
        return
    kinds = {key: column.kind for key, column in cases.columns.items()}
    assert kinds["mask"] == "mask" and set(kinds.values()) == {"image", "mask"}


@pytest.mark.parametrize(
    "name",
    ["OAS2_000{}_MR{}", "sub-0{}_ses-0{}_T1w", "P_000{}_{side}_CC", "p{}-visit{}_004", "0{}2_S_0295_m0{}"],
)  # fmt: skip
def test_visits_and_sides_of_one_person_are_one_person(tmp_path, name):
    for k in range(12):
        side = ("LEFT", "RIGHT")[k % 2]
        picture(tmp_path / f"{name.format(k // 2, k % 2, side=side)}.png", k)
    cases = opened(tmp_path)
    assert len(set(cases.patients)) == 6 and "files that begin alike count as one" in told(cases)


@pytest.mark.parametrize("name", ["ISIC_00{}", "IXI0{}-Guys-08{}-T1", "right_{}", "IM-0001-00{}"])
def test_counted_files_are_not_one_person(tmp_path, name):
    for k in range(12):
        picture(tmp_path / f"{name.format(k, k)}.png", k)
    assert len(set(opened(tmp_path).patients)) == 12


def as_csv(folder, patients, splits, heads):
    rows = [",".join(["image", *heads])]
    for k, row in enumerate(zip(patients, splits, strict=True)):
        picture(folder / f"{k}.png", k)
        rows.append(",".join([f"{k}.png", *row]))
    (folder / "cases.csv").write_text("\n".join(rows))
    return opened(folder)


def as_npz(folder, patients, splits, heads):
    images = np.random.default_rng(0).integers(0, 255, (len(patients), 5, 7)).astype(np.uint8)
    columns = dict(zip(heads, map(np.array, (patients, splits)), strict=True))
    np.savez(folder / "a.npz", image=images, **columns)
    return opened(folder / "a.npz")


def as_items(folder, patients, splits, heads):
    images = np.random.default_rng(0).integers(0, 255, (len(patients), 1, 5, 7))
    rows = zip(images, patients, splits, strict=True)
    return from_iterable(
        [{"image": image, heads[0]: patient, heads[1]: split} for image, patient, split in rows],
        range=(0, 255),
    )


@pytest.mark.parametrize("form", [as_csv, as_npz, as_items])
@pytest.mark.parametrize("head", ["patient_ids", "PTID", "Subject Label", "mrn"])
def test_people_and_splits_go_by_other_names_too(tmp_path, form, head):
    """A column called set or fold is the split where all of its words are splits, else it is none."""
    patients = [f"p{k // 3}" for k in range(12)]
    halves = ["training" if k < 6 else "test" for k in range(12)]
    cases = form(tmp_path, patients, halves, (head, "set"))
    assert cases.patients == tuple(patients)
    assert cases.split_of == ("train",) * 6 + ("test",) * 6
    other = form(tmp_path, patients, ["A", "B"] * 6, (head, "set"))
    assert other.patients == tuple(patients) and {"train"} < set(other.split_of)


def test_pictures_called_masks_that_pair_with_nothing_are_not_trained_on(tmp_path):
    for k in range(4):
        picture(tmp_path / f"OAS_{k}" / "norm.png", k)
        picture(tmp_path / f"OAS_{k}" / "seg35.png", k)
    line = refused(tmp_path)
    assert "4 of 8 images are called masks" in line and "seg35.png" in line and "cases.csv" in line
    for k in range(4):
        (tmp_path / f"OAS_{k}" / "norm.png").unlink()
    assert len(opened(tmp_path)) == 4, "masks alone may be what is to be learned"


@pytest.mark.parametrize("name", ["LIDC-IDRI-{:04d}/{}.png", "TCGA_{0}_A/TCGA_{0}_A_{1}.png"])
def test_folders_of_numbered_people_are_no_classes(tmp_path, name):
    for k in range(12):
        picture(tmp_path / name.format(k // 3, k % 3), k)
    cases = opened(tmp_path)
    assert len(set(cases.patients)) == 4 and cases.class_names == ()


def test_folders_of_a_split_and_a_class_are_both(tmp_path):
    """As sets of pairs that are none have them: nothing of testA is trained on."""
    folders = ("trainA", "trainB", "testA", "testB")
    for seed, (folder, k) in enumerate(itertools.product(folders, range(3))):
        picture(tmp_path / folder / f"{folder}{k}.png", seed)
    cases = opened(tmp_path)
    assert cases.class_names == ("A", "B")
    assert all(
        case.startswith(split) for split, case in zip(cases.split_of, cases.ids, strict=True)
    )


def test_a_word_that_goes_on_from_a_split_is_none(tmp_path):
    for k in range(4):
        picture(tmp_path / ("tests", "trains")[k % 2] / f"{k}.png", k)
    assert opened(tmp_path).class_names == ("tests", "trains")


def test_a_folder_called_images_is_no_class(tmp_path):
    for split in ("training", "test"):
        for k in range(3):
            picture(tmp_path / split / "images" / f"{split}{k}.png", len(split) * 10 + k)
    assert opened(tmp_path).class_names == ()


def test_a_gif_is_a_picture_and_a_film_is_none(tmp_path):
    masks = [np.array([[0, 1], [1, k]], np.uint8) for k in range(3)]
    for k, mask in enumerate(masks):
        picture(tmp_path / "images" / f"{k}.png", k)
        shown = PIL.Image.fromarray(mask).convert("P")
        shown.putpalette([0, 0, 0, 90, 90, 90, 255, 255, 255])
        (tmp_path / "manual masks").mkdir(exist_ok=True)
        shown.save(tmp_path / "manual masks" / f"{k}.gif")
    cases = opened(tmp_path)
    for row, case in enumerate(cases.ids):
        assert np.array_equal(cases.columns["mask"].image(row).data[0].numpy(), masks[int(case)])
    shown.save(tmp_path / "images" / "0.gif", save_all=True, append_images=[shown.rotate(90)])
    (tmp_path / "images" / "0.png").unlink()
    assert "holds" in (line := refused(tmp_path)) and "pages" in line


@pytest.mark.parametrize("labels", [(0, 2), (0, 1, 3), (0, 1, 2)])
def test_labels_of_a_gif_are_its_greys_whatever_its_palette(tmp_path, labels):
    """Pillow numbers the greys of each file anew."""
    mask = np.array([[labels[0], labels[-1]], [labels[1], 0]], np.uint8)
    for k in range(3):
        picture(tmp_path / "images" / f"{k}.png", k)
        (tmp_path / "masks").mkdir(exist_ok=True)
        PIL.Image.fromarray(mask).save(tmp_path / "masks" / f"{k}.gif")
    with PIL.Image.open(tmp_path / "masks" / "0.gif") as stored:
        assert np.array_equal(np.asarray(stored.convert("L")), mask)
    assert np.array_equal(opened(tmp_path).columns["mask"].image(0).data[0].numpy(), mask)


def test_a_mask_as_coloured_gif_is_refused(tmp_path):
    shown = PIL.Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8)).convert("P")
    shown.putpalette([0, 0, 0, 90, 0, 0, 255, 255, 0])
    for k in range(3):
        picture(tmp_path / "images" / f"{k}.png", k)
        (tmp_path / "masks").mkdir(exist_ok=True)
        shown.save(tmp_path / "masks" / f"{k}.gif")
    assert "write PNG" in refused(tmp_path)


def test_a_tiff_that_holds_a_volume_behind_one_page_is_no_picture(tmp_path):
    volume = np.arange(5 * 32 * 32, dtype=np.uint16).reshape(5, 32, 32)
    tifffile.imwrite(tmp_path / "a.tif", volume, imagej=True, truncate=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert len(tiff.pages) == 1
    with pytest.raises(UserError, match="volume of 5 planes"):
        read_image(tmp_path / "a.tif")
    deep = np.zeros((32, 32, 32), np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", deep, volumetric=True, tile=(16, 16, 16))
    with pytest.raises(UserError, match="volume of 32 planes"):
        read_image(tmp_path / "b.tif")


def test_contrasts_keep_the_folders_of_splits_and_people(tmp_path):
    for k in range(12):
        split, person = ("train", "test")[k // 6], f"patient{k // 3}"
        for name in ("noisy", "clean"):
            picture(tmp_path / split / person / f"visit{k}" / f"{name}.png", k)
    cases = opened(tmp_path)
    assert tuple(cases.columns) == ("clean", "noisy") and len(set(cases.patients)) == 4
    assert sorted(cases.split_of) == ["test"] * 6 + ["train"] * 6


@pytest.mark.parametrize("name", ["p{}_{}.png", "{}/{}.png"])
def test_a_case_without_a_contrast_that_others_have_is_named(tmp_path, name):
    for k in range(6):
        for word in ("t1", "t2"):
            picture(tmp_path / name.format(k, word), k)
    (tmp_path / name.format(3, "t2")).unlink()
    line = refused(tmp_path)
    assert "beside" in line and name.format(3, "t1") in line and "is no t2; name what" in line


@pytest.mark.parametrize("name", ["{1}/a{0}_{1}x.png", "{1}/{2}.png", "p{2}_{1}.png"])
def test_contrasts_of_other_cases_are_left_apart(tmp_path, name):
    """Nothing says that they belong together."""
    for k in range(6):
        for number, word in enumerate(("t1", "t2")):
            picture(tmp_path / name.format(k, word, 6 * number + k), 6 * number + k)
    cases = opened(tmp_path)
    assert len(cases) == 12 and "image" in cases.columns


@pytest.mark.parametrize("name", ["patient{:02d}", "P{}", "Subject_{}", "case-{:03d}"])
def test_folders_of_people_are_people_not_classes(tmp_path, name):
    for k in range(12):
        picture(tmp_path / name.format(k // 3) / f"slice{k % 3}.png", k)
    cases = opened(tmp_path)
    assert len(set(cases.patients)) == 4 and cases.class_names == ()
    assert len(set(cases.split_of[:3])) == 1 and "counts as one person (4)" in told(cases)


def test_people_within_folders_of_classes_keep_both(tmp_path):
    for k in range(12):
        kind = "benign" if k < 6 else "malignant"
        picture(tmp_path / kind / f"patient{k // 3}" / f"{k % 3}.png", k)
    cases = opened(tmp_path)
    assert len(set(cases.patients)) == 4 and cases.class_names == ("benign", "malignant")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.png", "masks/{}.png"),
        ("CXR_png/{}.png", "Masks/{}_mask.png"),
        ("{}.png", "masks/{}.png"),
        ("{}.png", "{}_seg.png"),
        ("imgs/train/{}.png", "manual mask/train/{}.png"),
        ("train/images/{}.png", "train/labels/{}.png"),
    ],
)
def test_images_beside_their_masks_are_paired_and_no_classes(tmp_path, image, mask):
    for k in range(4):
        picture(tmp_path / image.format(k), k)
        stored = picture(tmp_path / mask.format(k), 10 + k)
        PIL.Image.fromarray((stored > 128).astype(np.uint8)).save(tmp_path / mask.format(k))
    cases = opened(tmp_path)
    assert cases.ids == ("0", "1", "2", "3") and cases.class_names == ()
    for k in range(4):
        want = np.asarray(PIL.Image.open(tmp_path / mask.format(k)))
        assert np.array_equal(cases.columns["mask"].image(k).data[0].numpy(), want)
    (tmp_path / mask.format(3)).unlink()
    assert "has no other half (1 such)" in refused(tmp_path)


def test_masks_beside_several_folders_are_asked_for(tmp_path):
    for folder in ("site1", "site2", "masks"):
        picture(tmp_path / folder / "a.png")
    assert "folders masks, site1, site2" in refused(tmp_path)


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "scans.tar.gz").write_bytes(b"x")
    assert "is an archive; unpack it" in refused(tmp_path / "scans.tar.gz")


def test_a_folder_of_array_files_says_that_one_is_a_data_set(tmp_path):
    for k in range(3):
        np.savez(tmp_path / f"{k}.npz", image=np.zeros((2, 3, 3)))
    assert "3 files of arrays (0.npz ...), and a data set is one of them" in refused(tmp_path)


def test_label_maps_of_bids_are_masks(tmp_path):
    for k in range(1, 5):
        stem = tmp_path / f"sub-0{k}" / "anat" / f"sub-0{k}"
        volume(stem.with_name(f"{stem.name}_desc-preproc_T1w.nii.gz"), k)
        volume(stem.with_name(f"{stem.name}_dseg.nii.gz"), k, labels=True)
    columns = opened(tmp_path).columns
    assert {key: column.kind for key, column in columns.items()} == {
        "image": "image",
        "seg": "mask",
    }


def test_files_of_a_folder_that_are_not_read_are_told(tmp_path):
    for k in range(4):
        array = np.random.default_rng(k).integers(0, 255, (8, 8), dtype=np.uint8)
        PIL.Image.fromarray(array).save(tmp_path / f"{k}.{'webp' if k == 3 else 'png'}")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    lines = open_cases(tmp_path).lines
    (line,) = [line for line in lines if "passed over" in line]
    assert "3 images are read" in line and "1 .webp" in line and "1 .txt" in line
    assert "hidden" not in line
