"""Files that say nothing of their place, lengths in other units than mm, headers whose voxels lie elsewhere."""

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk

from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image, save_image
from radiffuse.errors import UserError

PLACE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -20], [0, 0, 3, -20], [0, 0, 0, 1]])


def volume(seed=0, size=(6, 7, 8)):
    return np.random.default_rng(seed).integers(0, 1000, size).astype(np.int16)


def without_place(array, path, zooms=(2, 2, 3)):
    image = nibabel.Nifti1Image(array, None)
    image.header.set_zooms(zooms)
    nibabel.save(image, path)


def set_of(folder, names=("i{}.nii.gz", "m{}.nii.gz")):
    rows = [",".join(name.format(k) for name in names) for k in range(3)]
    (folder / "cases.csv").write_text("\n".join(["image,mask", *rows]))
    return open_cases(folder)


def nrrd(path, data, **fields):
    said = {
        "type": "short",
        "dimension": "3",
        "sizes": "6 7 8",
        "encoding": "raw",
        "endian": "little",
    }
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in (said | fields).items()]
    path.write_bytes(("NRRD0005\n" + "\n".join(lines) + "\n\n").encode() + data)
    return path


def metaimage(path, data, file="LOCAL", **fields):
    said = {
        "NDims": "3",
        "BinaryData": "True",
        **fields,
        "DimSize": "6 7 8",
        "ElementType": "MET_SHORT",
    }
    lines = [f"{name} = {value}" for name, value in (said | {"ElementDataFile": file}).items()]
    path.write_bytes(("\n".join(lines) + "\n").encode() + data)
    return path


def as_itk(array):
    return array.transpose(2, 1, 0).astype("<i2").tobytes()


@pytest.mark.parametrize("which", ["mask", "image"])
def test_a_mask_lies_as_its_image_where_one_of_them_says_nothing_of_its_place(tmp_path, which):
    for k in range(3):
        array = volume(k)
        mask = (array > 500).astype(np.uint8)
        for name, one in (("image", array), ("mask", mask)):
            path = tmp_path / f"{name[0]}{k}.nii.gz"
            if name == which:
                without_place(one, path)
            else:
                nibabel.save(nibabel.Nifti1Image(one, PLACE), path)
    cases = set_of(tmp_path)
    for k in range(3):
        image, mask = (cases.columns[key].image(k) for key in ("image", "mask"))
        assert np.array_equal(mask.data.numpy() > 0, image.data.numpy() > 500)
    assert not any("another grid" in line for line in cases.lines)


@pytest.mark.parametrize("which", [("image",), ("mask",), ("image", "mask")])
def test_sizes_that_differ_are_refused_where_a_place_was_assumed(tmp_path, which):
    """RAS from the corner is a guess that may mirror: good for one file, not to bring one onto another."""
    for k in range(3):
        for name, size in (("image", (6, 7, 8)), ("mask", (12, 14, 16))):
            path = tmp_path / f"{name[0]}{k}.nii.gz"
            one = (volume(k, size) > 500).astype(np.uint8) if name == "mask" else volume(k, size)
            if name in which:
                without_place(one, path)
            else:
                nibabel.save(nibabel.Nifti1Image(one, PLACE), path)
    with pytest.raises(
        UserError, match=f"{which[0]} of case .* declares no place in space.*one grid"
    ):
        set_of(tmp_path)


def test_an_output_says_as_little_of_its_place_as_its_input(tmp_path):
    without_place(volume(), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert not image.placed and image.spacing_mm == (2, 2, 3)
    save_image(image, tmp_path / "b.nii.gz")
    for name in "ab":
        written = nibabel.load(tmp_path / f"{name}.nii.gz")
        assert (written.header["sform_code"], written.header["qform_code"]) == (0, 0)
        assert np.array_equal(written.affine, nibabel.load(tmp_path / "a.nii.gz").affine)
        assert np.array_equal(np.asanyarray(written.dataobj), volume())


@pytest.mark.parametrize("space", ["", "scanner-xyz", "3D-right-handed"])
def test_an_nrrd_without_the_patient_says_so(tmp_path, space):
    notices = []
    vectors = (
        {"space": space, "space_directions": "(2,0,0) (0,3,0) (0,0,4)"}
        if space
        else {"spacings": "2 3 4"}
    )
    image = read_image(
        nrrd(tmp_path / "a.nrrd", as_itk(volume()), **vectors), notice=notices.append
    )
    assert not image.placed and "declares no place in space, only voxels of 2x3x4 mm" in notices[0]
    named = nrrd(
        tmp_path / "b.nrrd",
        as_itk(volume()),
        space="RAS",
        space_directions="(2,0,0) (0,3,0) (0,0,4)",
    )
    assert read_image(named).placed
    bare = read_image(metaimage(tmp_path / "a.mha", as_itk(volume()), ElementSpacing="2 3 4"))
    said = read_image(metaimage(tmp_path / "b.mha", as_itk(volume()), Offset="0 0 0"))
    assert not bare.placed and said.placed


@pytest.mark.parametrize(("unit", "mm"), [("um", 1e-3), ("mm", 1), ("cm", 10)])
def test_lengths_in_other_units_are_brought_to_mm(tmp_path, unit, mm):
    units = f'"{unit}" "{unit}" "{unit}"'
    vectors = {
        "space": "LPS",
        "space_directions": "(2,0,0) (0,3,0) (0,0,4)",
        "space_origin": "(5,6,7)",
    }
    for image in (
        read_image(nrrd(tmp_path / "a.nrrd", as_itk(volume()), **vectors, space_units=units)),
        read_image(
            metaimage(
                tmp_path / "a.mha",
                as_itk(volume()),
                Offset="5 6 7",
                ElementSpacing="2 3 4",
                DistanceUnits=unit,
            )
        ),
    ):
        assert image.spacing_mm == pytest.approx((2 * mm, 3 * mm, 4 * mm))
        assert image.affine[:3, 3].tolist() == pytest.approx([-5 * mm, -6 * mm, 7 * mm])
    mixed = nrrd(tmp_path / "b.nrrd", as_itk(volume()), **vectors, space_units='"mm" "mm" "cm"')
    with pytest.raises(UserError, match="several units of length"):
        read_image(mixed)


def test_values_that_a_header_scales_and_itk_does_not_are_refused(tmp_path):
    one = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0"}
    assert np.array_equal(
        read_image(metaimage(tmp_path / "a.mha", as_itk(volume()), **one)).data[0], volume()
    )
    scaled = metaimage(tmp_path / "b.mha", as_itk(volume()), ElementToIntensityFunctionSlope="2.5")
    with pytest.raises(UserError, match=r"ElementToIntensityFunctionSlope is '2\.5'"):
        read_image(scaled)


def test_a_header_of_nrrd_beside_its_voxels_is_read(tmp_path):
    image = sitk.GetImageFromArray(volume().transpose(2, 1, 0))
    image.SetSpacing((2, 3, 4))
    sitk.WriteImage(image, str(tmp_path / "a.nhdr"))
    found = read_image(tmp_path / "a.nhdr")
    assert np.array_equal(found.data[0].numpy(), volume()) and found.spacing_mm == (2, 3, 4)
    for k in range(3):
        sitk.WriteImage(image + k, str(tmp_path / f"{k}.nhdr"))
    assert len(open_cases(tmp_path)) == 4


@pytest.mark.parametrize("kind", ["mhd", "nhdr", "nrrd"])
def test_a_header_is_hashed_with_the_voxels_it_names(tmp_path, kind):
    """Two data sets with equal headers are not the same data, and a copy of old voxels is not new ones."""
    for k in range(3):
        (tmp_path / f"voxels of {k}.bin").write_bytes(as_itk(volume(k)))
        if kind == "mhd":
            metaimage(tmp_path / f"{k}.mhd", b"", f"voxels of {k}.bin", Offset="0 0 0")
        else:
            nrrd(tmp_path / f"{k}.{kind}", b"", data_file=f"voxels of {k}.bin")
    before = open_cases(tmp_path).columns["image"]
    old, stamp = before.hashed(1), before.stamp(1)
    (tmp_path / "voxels of 1.bin").write_bytes(as_itk(volume(7)))
    after = open_cases(tmp_path).columns["image"]
    assert (
        after.hashed(1) != old and after.stamp(1) != stamp and after.hashed(0) == before.hashed(0)
    )


@pytest.mark.parametrize("writer", ["sitk", "nibabel"])
def test_a_nifti_picture_beside_a_png_lies_as_its_sides_say(tmp_path, writer):
    """The first axis of NIfTI runs along rows; nibabel writes an array as it is."""
    for k in range(3):
        array = np.random.default_rng(k).integers(0, 256, (9, 14)).astype(np.uint8)
        PIL.Image.fromarray(array).save(tmp_path / f"i{k}.png")
        mask = (array > 128).astype(np.uint8)
        if writer == "sitk":
            sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / f"m{k}.nii.gz"))
        else:
            nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / f"m{k}.nii.gz")
    cases = set_of(tmp_path, ("i{}.png", "m{}.nii.gz"))
    batch = cases.batch([0, 1, 2])
    assert np.array_equal(batch["mask"].numpy() > 0, batch["image"].numpy() > 128.5 / 127.5 - 1)


def test_a_square_nifti_picture_beside_a_png_has_two_readings(tmp_path):
    for k in range(3):
        array = np.random.default_rng(k).integers(0, 256, (9, 9)).astype(np.uint8)
        PIL.Image.fromarray(array).save(tmp_path / f"i{k}.png")
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"m{k}.nii.gz"))
    with pytest.raises(UserError, match="columns first, and pictures have rows first"):
        set_of(tmp_path, ("i{}.png", "m{}.nii.gz"))


# ------------------------------------------------------------------------------- kinds of axes of NRRD
def of_kind(path, kind, count, axes="domain domain domain"):
    data = np.arange(count * 6 * 7 * 8, dtype=np.uint16).reshape(8, 7, 6, count).astype(np.uint8)
    about = {
        "type": "uchar",
        "dimension": "4",
        "sizes": f"{count} 6 7 8",
        "kinds": f"{kind} {axes}",
    }
    return nrrd(path, data.tobytes(), **about), data.transpose(3, 2, 1, 0)


def test_opacity_in_nrrd_is_no_fourth_channel(tmp_path):
    path, stored = of_kind(tmp_path / "a.nrrd", "RGBA-color", 4)
    said = []
    found = read_image(path, notice=said.append).data.numpy()
    assert np.allclose(found, stored[:3] * (stored[3:] / 255.0), atol=0.5 + 1e-6)
    assert any("alpha" in line for line in said)
    path, stored = of_kind(tmp_path / "b.nrrd", "vector", 4)
    assert np.array_equal(read_image(path).data.numpy(), stored)


@pytest.mark.parametrize("kind, count, why", [
    ("HSV-color", 3, "kind hsv-color is not read"), ("3D-symmetric-matrix", 6, "kind 3d-symmetric-matrix is not read"),
    ("time", 4, "4 axes of kinds time domain domain domain"),
])  # fmt: skip
def test_components_of_nrrd_that_are_no_channels_are_refused_by_name(tmp_path, kind, count, why):
    path, _ = of_kind(tmp_path / "a.nrrd", kind, count)
    with pytest.raises(UserError, match=why):
        read_image(path)
