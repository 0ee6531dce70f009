"""ISMRMRD files, written with the library itself from images whose k-space is known exactly."""

import json
import sys

import h5py
import nibabel
import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.acquisition import MRI
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.scans import holds_kspace
from radiffuse.data.neighbours import with_neighbours
from radiffuse.errors import UserError
from radiffuse.metrics.fidelity import psnr
from radiffuse.operators import Coils, Fourier
from radiffuse.operators.coils import birdcage, root_sum_of_squares

ismrmrd = pytest.importorskip(
    "ismrmrd", reason="ISMRMRD files are written and read with the extra 'ismrmrd'"
)

STEPS = ("kspace_encode_step_1", "kspace_encode_step_2")
COUNTERS = (*STEPS, "average", "slice", "contrast", "phase", "repetition", "set")


def transformed(x, axes, inverse=False):
    """The centred orthonormal DFT, in double precision, by its definition with shifts."""
    step = np.fft.ifftn if inverse else np.fft.fftn
    return np.fft.fftshift(step(np.fft.ifftshift(x, axes=axes), axes=axes, norm="ortho"), axes=axes)


def coil_images(*shape, coils=3, seed=0):
    """Random images under random coil maps, complex (*cases, coils, *S) of `shape` (cases, *S)."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    return drawn(shape[0], 1, *shape[1:]) * drawn(1, coils, *shape[1:])


def known_kspace(*shape, coils=3, seed=0):
    images = coil_images(*shape, coils=coils, seed=seed)
    return transformed(images, tuple(range(2, images.ndim))).astype(np.complex64)


def header(
    encoded, recon=None, voxel=(1.0, 1.0, 5.0), limits=None, trajectory="cartesian", count=1
):
    """The header of a scan of matrix `encoded`; voxels in mm; limits by counter (low, high, centre)."""
    xsd = ismrmrd.xsd
    recon = recon or encoded

    def space(matrix):
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(**dict(zip("xyz", matrix, strict=True))),
            fieldOfView_mm=xsd.fieldOfViewMm(
                **{a: float(n * d) for a, n, d in zip("xyz", matrix, voxel, strict=True)}
            ),
        )

    xsd_limits = {
        name.replace("encode_", "encoding_"): xsd.limitType(
            minimum=low, maximum=high, center=centre
        )
        for name, (low, high, centre) in (limits or {}).items()
    }
    encoding = xsd.encodingType(
        encodedSpace=space(encoded),
        reconSpace=space(recon),
        encodingLimits=xsd.encodingLimitsType(**xsd_limits),
        trajectory=xsd.trajectoryType(trajectory),
    )
    conditions = xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63_500_000)
    return xsd.ismrmrdHeader(experimentalConditions=conditions, encoding=[encoding] * count)


def readout(data, flags=(), **fields):
    """One acquisition of data (coils, n); counters and header fields by name."""
    counters = {name: fields.pop(name) for name in COUNTERS if name in fields}
    fields = {
        "center_sample": data.shape[-1] // 2,
        "read_dir": (1, 0, 0),
        "phase_dir": (0, 1, 0),
        "slice_dir": (0, 0, 1),
        **fields,
    }
    made = ismrmrd.Acquisition.from_array(np.ascontiguousarray(data, np.complex64), **fields)
    for name, value in counters.items():
        setattr(made.idx, name, value)
    for flag in flags:
        made.set_flag(flag)
    return made


def lines(kspace, **fields):
    """Every line of k-space (slices, coils, readout, lines), unless it is zero."""
    return [
        readout(kspace[s, ..., line], slice=s, kspace_encode_step_1=line, **fields)
        for s in range(len(kspace))
        for line in range(kspace.shape[-1])
        if kspace[s, ..., line].any()
    ]


def write(path, head, readouts):
    with ismrmrd.File(path, mode="w") as file:
        file["dataset"].header = head
        file["dataset"].acquisitions = readouts
    return path


def read(path, head, readouts):
    """The k-space of all cases of a file (cases, coils, *S), and the cases."""
    cases = open_cases(write(path, head, readouts))
    return cases.batch(range(len(cases)))["kspace"].numpy(), cases


@pytest.fixture
def file(tmp_path):
    return tmp_path / "scan.h5"


# --- k-space ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_slices_of_several_coils_come_back_bit_for_bit(file, size):
    kspace = known_kspace(3, *size)
    found, cases = read(file, header((*size, 1)), reversed(lines(kspace)))
    np.testing.assert_array_equal(found, kspace)
    assert cases.ids == ("scan_slice000", "scan_slice001", "scan_slice002")
    assert cases.patients == ("scan",) * 3 and cases.keys == ("kspace",)


def test_a_file_called_mrd_is_read_and_a_stream_is_refused(tmp_path, file):
    kspace = known_kspace(1, 8, 6)
    other = write(file, header((8, 6, 1)), lines(kspace)).rename(tmp_path / "scan.mrd")
    np.testing.assert_array_equal(open_cases(other).batch([0])["kspace"].numpy(), kspace)
    assert holds_kspace(other, ())
    (tmp_path / "stream.mrd").write_bytes(b"\x01\x00" * 64)
    with pytest.raises(UserError, match="is no HDF5 file"):
        open_cases(tmp_path / "stream.mrd")


def test_the_operators_see_the_image(file):
    images = coil_images(1, 8, 6)
    found, _ = read(file, header((8, 6, 1)), lines(transformed(images, (2, 3))))
    np.testing.assert_allclose(Fourier(2).adjoint(torch.from_numpy(found)), images, atol=1e-5)


def test_lines_that_were_not_measured_are_zero(file):
    kspace = known_kspace(2, 8, 6)
    kspace[..., 1::2] = 0
    found, _ = read(file, header((8, 6, 1)), lines(kspace))
    np.testing.assert_array_equal(found, kspace)


def test_the_centre_of_the_limits_goes_to_the_middle(file):
    kspace = known_kspace(1, 8, 6)
    kspace[..., :2] = 0
    shifted = [  # lines 2 to 5 of 6, whose centre is line 3: counted from 0, the centre is 1
        readout(kspace[0, ..., line], kspace_encode_step_1=line - 2) for line in range(2, 6)
    ]
    head = header((8, 6, 1), limits={STEPS[0]: (0, 3, 1)})
    np.testing.assert_array_equal(read(file, head, shifted)[0], kspace)


@pytest.mark.parametrize(("encoded", "kept"), [(16, 8), (10, 5), (14, 7), (12, 8), (9, 6), (6, 5)])
def test_oversampling_of_the_readout_is_cropped(file, encoded, kept):
    images = coil_images(2, kept, 6)
    wide = np.zeros((2, 3, encoded, 6), complex)
    left = encoded // 2 - kept // 2
    wide[:, :, left : left + kept] = images
    head = header((encoded, 6, 1), (kept, 6, 1))
    found, _ = read(file, head, lines(transformed(wide, (2, 3))))
    assert found.shape == (2, 3, kept, 6)
    np.testing.assert_allclose(found, transformed(images, (2, 3)), atol=1e-5)


def test_an_interpolated_image_is_left_as_it_was_measured(file):
    kspace = known_kspace(1, 16, 6)
    head = header((16, 6, 1), (32, 12, 1))
    same = head.encoding[0].encodedSpace.fieldOfView_mm
    head.encoding[0].reconSpace.fieldOfView_mm = same
    np.testing.assert_array_equal(read(file, head, lines(kspace))[0], kspace)
    head.encoding[0].reconSpace.fieldOfView_mm = ismrmrd.xsd.fieldOfViewMm(x=8.0, y=6.0, z=5.0)
    assert read(file, head, lines(kspace))[0].shape == (1, 3, 8, 6)


def test_readouts_that_ran_backwards_are_turned(file):
    kspace = known_kspace(1, 8, 6)
    there = lines(kspace)[::2]
    back = [
        readout(
            kspace[0, :, ::-1, line],
            (ismrmrd.ACQ_IS_REVERSE,),
            kspace_encode_step_1=line,
            center_sample=4,
        )
        for line in (1, 3, 5)
    ]
    np.testing.assert_array_equal(read(file, header((8, 6, 1)), [*there, *back])[0], kspace)


def test_averages_become_their_mean_where_they_were_measured(file):
    first, second = known_kspace(1, 8, 6), known_kspace(1, 8, 6, seed=1)
    found, cases = read(file, header((8, 6, 1)), lines(first) + lines(second, average=1)[:2])
    np.testing.assert_allclose(found[..., :2], (first + second)[..., :2] / 2, rtol=1e-6)
    np.testing.assert_array_equal(found[..., 2:], first[..., 2:])
    assert len(cases) == 1


@pytest.mark.parametrize("backwards", [False, True])
def test_a_partial_readout_lies_where_its_centre_says(file, backwards):
    kspace = known_kspace(1, 16, 6)
    kspace[:, :, :5] = kspace[:, :, 15:] = 0
    made = []
    for line in range(6):
        data = np.full((3, 13), 99.0, np.complex64)  # 1 sample too many in front, 2 behind
        data[:, 1:11] = kspace[0, :, 5:15, line]
        fields = {"kspace_encode_step_1": line, "center_sample": 4}
        if backwards:
            made.append(readout(data[:, ::-1], (22,), discard_pre=2, discard_post=1, **fields))
        else:
            made.append(readout(data, discard_pre=1, discard_post=2, **fields))
    np.testing.assert_array_equal(read(file, header((16, 6, 1)), made)[0], kspace)


def test_a_partial_readout_stays_unmeasured_without_oversampling(file):
    at = np.arange(32) - 16
    bump = np.exp(-(at**2) / 8)[:, None] * np.ones((2, 1, 6))[None]
    kspace = transformed(bump, (2, 3)).astype(np.complex64)
    made = [
        readout(kspace[0, :, 6:, line], kspace_encode_step_1=line, center_sample=10)
        for line in range(6)
    ]
    found, _ = read(file, header((32, 6, 1), (16, 6, 1)), made)
    expected = transformed(bump[:, :, 8:24], (2, 3))
    assert not found[:, :, :3].any() and (abs(found[:, :, 3:, 3]) > 0).all()
    np.testing.assert_allclose(found[:, :, 3:], expected[:, :, 3:], atol=2e-3 * abs(expected).max())


def test_volumes_by_two_steps(file):
    kspace = known_kspace(2, 8, 6, 5)
    kspace[..., 1, 4] = 0
    made = [
        readout(
            kspace[repetition, :, :, line, partition],
            kspace_encode_step_1=line,
            kspace_encode_step_2=partition,
            repetition=repetition,
        )
        for partition in range(5)
        for line in range(6)
        for repetition in range(2)
        if (line, partition) != (1, 4)
    ]
    limits = {STEPS[1]: (0, 4, 2)}
    found, cases = read(file, header((8, 6, 5), limits=limits), made)
    np.testing.assert_array_equal(found, kspace)
    assert cases.ids == ("scan_repetition000", "scan_repetition001")
    found, cases = read(file, header((8, 6, 5)), [one for one in made if one.idx.repetition == 1])
    np.testing.assert_array_equal(found, kspace[1:])
    assert cases.ids == ("scan",)


def test_the_centre_partition_of_the_limits_goes_to_the_middle(file):
    kspace = known_kspace(1, 8, 4, 6)
    kspace[..., :2] = 0
    made = [
        readout(
            kspace[0, :, :, line, partition],
            kspace_encode_step_1=line,
            kspace_encode_step_2=partition - 2,
        )
        for partition in range(2, 6)
        for line in range(4)
    ]
    head = header((8, 4, 6), limits={STEPS[1]: (0, 3, 1)})
    np.testing.assert_array_equal(read(file, head, made)[0], kspace)


def test_more_readouts_than_are_read_at_once(file, monkeypatch):
    monkeypatch.setattr("radiffuse.data.formats.ismrmrd.READ_AT_ONCE", 4)
    kspace = known_kspace(3, 8, 6)
    np.testing.assert_array_equal(read(file, header((8, 6, 1)), lines(kspace))[0], kspace)


NOT_OF_AN_IMAGE = [
    "ACQ_IS_NOISE_MEASUREMENT",
    "ACQ_IS_PARALLEL_CALIBRATION",
    "ACQ_IS_NAVIGATION_DATA",
    "ACQ_IS_PHASECORR_DATA",
    "ACQ_IS_HPFEEDBACK_DATA",
    "ACQ_IS_DUMMYSCAN_DATA",
    "ACQ_IS_RTFEEDBACK_DATA",
    "ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA",
    "ACQ_IS_PHASE_STABILIZATION_REFERENCE",
    "ACQ_IS_PHASE_STABILIZATION",
]


@pytest.mark.parametrize("flag", NOT_OF_AN_IMAGE)
def test_what_is_no_line_of_the_image_is_left_out(file, flag):
    kspace = known_kspace(1, 8, 6)
    # of other length, coils and place, so that it would be refused if it were looked at
    other = readout(np.full((2, 32), np.nan), (getattr(ismrmrd, flag),), kspace_encode_step_1=900)
    found, _ = read(file, header((8, 6, 1)), [other, *lines(kspace), other])
    np.testing.assert_array_equal(found, kspace)


def correlated(coils, count, seed=3):
    """Coils' covariance, and samples of noise (coils, count) of it."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    root = np.tril(drawn(coils, coils)) + 2 * np.eye(coils)
    return root @ root.conj().T, root @ drawn(coils, count) / np.sqrt(2)


def test_a_noise_scan_whitens_the_coils(file):
    kspace = known_kspace(1, 8, 6)
    covariance, noise = correlated(3, 4096)
    alone = [readout(part, [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]) for part in np.split(noise, 16, 1)]
    found, cases = read(file, header((8, 6, 1)), [*alone, *lines(kspace)])
    # the mixture of coils that was applied, by the k-space that is known
    flat, now = kspace[0].reshape(3, -1), found[0].reshape(3, -1)
    mixture = now @ np.linalg.pinv(flat)
    np.testing.assert_allclose(mixture @ flat, now, rtol=0, atol=1e-4 * abs(now).max())
    whitened = mixture @ covariance @ mixture.conj().T
    level = np.trace(whitened).real / 3
    np.testing.assert_allclose(whitened, level * np.eye(3), atol=0.05 * level)
    assert any("mixed to white noise, by 4096 samples" in line for line in cases.notices)


def test_whitening_keeps_the_brightness_whatever_one_coil_measured(file):
    """Its signal stays, where the mean variance of coils would make the image three times as bright."""
    kspace = known_kspace(1, 8, 6)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 4096)) + 1j * rng.normal(size=(3, 4096))
    noise[0] *= 10
    alone = [readout(part, [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]) for part in np.split(noise, 16, 1)]
    found, _ = read(file, header((8, 6, 1)), [*alone, *lines(kspace)])
    strongest = np.unravel_index((abs(kspace[0]) ** 2).sum(0).argmax(), kspace.shape[2:])
    before, after = (np.linalg.norm(part[(0, slice(None), *strongest)]) for part in (kspace, found))
    assert after == pytest.approx(before, rel=1e-3)


def test_too_little_noise_whitens_nothing(file):
    kspace = known_kspace(1, 8, 6)
    _, noise = correlated(3, 40)
    alone = readout(noise, [ismrmrd.ACQ_IS_NOISE_MEASUREMENT])
    found, _ = read(file, header((8, 6, 1)), [alone, *lines(kspace)])
    np.testing.assert_array_equal(found, kspace)


def test_calibration_lines_that_are_of_the_image_too_are_kept(file):
    kspace = known_kspace(1, 8, 6)
    both = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    np.testing.assert_array_equal(
        read(file, header((8, 6, 1)), lines(kspace, flags=both))[0], kspace
    )


# --- cases and geometry -------------------------------------------------------------------------------


def test_slices_are_numbered_by_place_and_stacks_stay_apart(file):
    kspace = known_kspace(3, 8, 6)
    made = [
        readout(
            (1 + repetition) * kspace[place, ..., line],
            slice=slice_,
            repetition=repetition,
            kspace_encode_step_1=line,
            position=(0, 0, 5.0 * place),
        )
        for repetition in range(2)
        for slice_, place in enumerate((0, 2, 1))  # interleaved: the counter follows time
        for line in range(6)
    ]
    found, cases = read(file, header((8, 6, 1)), made)
    np.testing.assert_array_equal(found, np.concatenate([kspace, 2 * kspace]))
    assert cases.ids[2:4] == ("scan_repetition000_slice002", "scan_repetition001_slice000")
    beside = with_neighbours(cases, (-1, 1)).batch([2, 3])["kspace_neighbours"].numpy()
    np.testing.assert_array_equal(beside[0], np.concatenate([kspace[1], kspace[1]]))
    np.testing.assert_array_equal(beside[1], 2 * np.concatenate([kspace[1], kspace[1]]))


def oblique(seed=0):
    """Three orthonormal directions, as columns."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


@pytest.mark.parametrize(("encoded", "kept"), [((16, 9, 1), 8), ((8, 6, 1), 8), ((14, 6, 5), 7)])
def test_a_point_in_space_is_where_the_affine_says(file, encoded, kept):
    voxel, directions, position = (
        np.array([1.25, 2.0, 3.0]),
        oblique(),
        np.array([11.0, -7.0, 30.0]),
    )
    size = (kept, *encoded[1:])
    steps = np.array([2, -3, 1 if encoded[2] > 1 else 0])  # voxels from the position
    lps = position + directions @ (voxel * steps)
    # the signal of a point: a phase ramp over k, in cycles per field of view
    k = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in encoded], indexing="ij"), -1)
    signal = np.exp(-2j * np.pi * (k * (steps / encoded)).sum(-1))
    made = [
        readout(
            signal[None, :, line, partition],
            kspace_encode_step_1=line,
            kspace_encode_step_2=partition,
            position=tuple(position),
            read_dir=tuple(directions[:, 0]),
            phase_dir=tuple(directions[:, 1]),
            slice_dir=tuple(directions[:, 2]),
        )
        for line in range(encoded[1])
        for partition in range(encoded[2])
    ]
    found, cases = read(file, header(encoded, size, voxel), made)
    image = abs(transformed(found[0, 0], tuple(range(found.ndim - 2)), inverse=True))
    brightest = np.unravel_index(image.argmax(), image.shape)
    stored = cases.columns["kspace"].image(0)
    index = [*brightest, 0, 1] if image.ndim == 2 else [*brightest, 1]
    ras = (stored.affine.numpy() @ index)[:3]
    np.testing.assert_allclose(ras, lps * [-1, -1, 1], atol=1e-5)
    np.testing.assert_allclose(stored.spacing_mm, voxel[: image.ndim], rtol=1e-6)
    normal = stored.affine.numpy()[:3, 2]
    np.testing.assert_allclose(normal, directions[:, 2] * [-1, -1, 1] * voxel[2], atol=1e-5)


def test_no_directions_no_geometry(file):
    _, cases = read(file, header((8, 6, 1)), lines(known_kspace(1, 8, 6), read_dir=(0, 0, 0)))
    assert cases.columns["kspace"].image(0).affine is None
    assert "does not say where it lies" in cases.notices[0]


def test_reading_leaves_the_file_alone(file):
    write(file, header((8, 6, 1)), lines(known_kspace(1, 8, 6)))
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    file.chmod(0o444)
    open_cases(file)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


# --- from the scan to the image -----------------------------------------------------------------------


def disc(n):
    x = torch.linspace(-1, 1, n)
    image = ((x[:, None] / 0.8) ** 2 + (x / 0.6) ** 2 < 1).float() * (0.6 + 0.3 * torch.cos(4 * x))
    return image[None, None]


def scan_of(image, coils=4):
    maps = birdcage(tuple(image.shape[2:]), coils, [0])
    return Fourier(2)(Coils(maps)(image.to(torch.complex64))).numpy(), maps


def test_a_scan_is_measured_as_a_fastmri_file_is(file, tmp_path):
    kspace, _ = scan_of(disc(32))
    kspace[..., [3, 5, 9, 24, 27, 29]] = 0
    found, _ = read(file, header((32, 32, 1)), lines(kspace))
    with h5py.File(tmp_path / "fast.h5", "w") as stream:
        stream["kspace"] = kspace
    same = open_cases(tmp_path / "fast.h5").batch([0])["kspace"]
    np.testing.assert_array_equal(found, same)
    acquired = MRI().read(torch.from_numpy(found))
    assert acquired.mask.sum() == 32 * 26
    first = acquired.first * acquired.scale
    assert (
        float(psnr(first, root_sum_of_squares(Fourier(2).adjoint(torch.from_numpy(found))), 1.0))
        > 20
    )


def test_predict_writes_the_image_in_its_place(file, tmp_path, capsys):
    words = ["--data", "brains:count=10,size=16", "--map", "image=t1", "--preset", "tiny"]
    words += ["--width", "8", "--train.steps", "2", "--train.batch", "2"]
    assert cli.main(["train", "score-mri", "--out", str(tmp_path / "run"), *words]) == 0
    kspace, _ = scan_of(disc(16))
    directions = oblique()
    place = {
        "position": (4.0, 5.0, 6.0),
        **{
            f"{name}_dir": tuple(axis)
            for name, axis in zip(("read", "phase", "slice"), directions.T, strict=True)
        },
    }
    write(file, header((16, 16, 1), voxel=(1.5, 2.0, 4.0)), lines(kspace, **place))
    words = ["predict", tmp_path / "run", "--data", file, "--out", tmp_path / "out", "--steps", "3"]
    words += ["--set", "solver=dds"]
    assert cli.main([str(word) for word in words]) == 0
    capsys.readouterr()
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    image = nibabel.load(tmp_path / "out" / entry["files"]["magnitude"])
    expected = open_cases(file).columns["kspace"].image(0).affine.numpy()
    np.testing.assert_allclose(image.affine, expected, atol=1e-5)
    assert image.shape[:2] == (16, 16)


# --- refusals -----------------------------------------------------------------------------------------


def refused(path):
    with pytest.raises(UserError) as error:
        open_cases(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")
    return str(error.value)


def refused_with(path, head=None, **fields):
    """What is said of a sound scan whose last readout has other fields."""
    kspace = known_kspace(1, 8, 6)
    data = fields.pop("data", kspace[0, ..., 5])
    flags = fields.pop("flags", ())
    other = readout(data, flags, **{"kspace_encode_step_1": 5, **fields})
    return refused(write(path, head or header((8, 6, 1)), [*lines(kspace)[:-1], other]))


def test_the_package_is_named_where_it_is_missing(file, monkeypatch):
    write(file, header((8, 6, 1)), lines(known_kspace(1, 8, 6)))
    monkeypatch.setitem(sys.modules, "ismrmrd", None)
    assert "pip install 'radiffuse[ismrmrd]'" in refused(file)


def test_other_files_need_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ismrmrd", None)
    with h5py.File(tmp_path / "ismrmrd.h5", "w") as stream:
        stream["kspace"] = known_kspace(1, 8, 6)
        stream["ismrmrd_header"] = "<xml/>"
    assert len(open_cases(tmp_path / "ismrmrd.h5")) == 1


def test_no_acquisitions(file):
    with ismrmrd.File(file, mode="w") as stream:
        stream["dataset"].header = header((8, 6, 1))
    assert "holds no acquisitions" in refused(file)
    noise = [readout(np.ones((3, 8)), (ismrmrd.ACQ_IS_NOISE_MEASUREMENT,))]
    assert "holds 1 readouts, and none of them is of an image" in refused(
        write(file, header((8, 6, 1)), noise)
    )


def test_a_broken_header(file):
    write(file, header((8, 6, 1)), lines(known_kspace(1, 8, 6)))
    for said in (
        b"<ismrmrdHeader",
        b"",
        b"<other/>",
        b'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"/>',
    ):
        with h5py.File(file, "a") as stream:
            stream["dataset/xml"][0] = said
        assert "header" in refused(file) or "encodings" in refused(file)


def rewritten(path, old, new):
    """The same file with other words in its header."""
    with h5py.File(path, "a") as stream:
        said = stream["dataset/xml"][0]
        assert said.count(old) >= 1
        stream["dataset/xml"][0] = said.replace(old, new, 1)
    return path


def test_a_header_whose_words_are_no_numbers(file):
    head = header((8, 6, 1), limits={STEPS[0]: (0, 5, 3)})
    for old, new in (
        (b"<x>8.0</x>", b"<x>wide</x>"),
        (b"<y>6</y>", b"<y>six</y>"),
        (b"<center>3", b"<center>c"),
        (b"cartesian", b"zigzag"),
    ):
        said = refused(rewritten(write(file, head, lines(known_kspace(1, 8, 6))), old, new))
        assert new.strip(b"</>xycenter").decode() in said


def test_words_of_the_header_that_are_not_needed_may_be_wrong(file):
    kspace = known_kspace(1, 8, 6)
    rewritten(write(file, header((8, 6, 1)), lines(kspace)), b"63500000", b"unknown")
    np.testing.assert_array_equal(open_cases(file).batch([0])["kspace"], kspace)


def test_damaged_acquisitions(file):
    write(file, header((8, 6, 1)), lines(known_kspace(1, 8, 6)))
    with h5py.File(file, "a") as stream:
        whole = stream["dataset/data"][:]
        whole[3]["data"] = whole[3]["data"][:-2]
        stream["dataset/data"][:] = whole
    assert "damaged, or not as long as their headers say" in refused(file)
    with h5py.File(file, "a") as stream:
        del stream["dataset/data"]
        stream["dataset/data"] = np.zeros(3)
    assert "no ISMRMRD readouts" in refused(file)


def test_several_encodings(file):
    said = refused_with(file, header((8, 6, 1), count=2))
    assert "holds 2 encodings" in said and "a file of its own" in said
    assert "is of encoding 1" in refused_with(file, encoding_space_ref=1)


@pytest.mark.parametrize("trajectory", ["radial", "epi", "spiral", "goldenangle", "other"])
def test_what_is_not_cartesian(file, trajectory):
    said = refused_with(file, header((8, 6, 1), trajectory=trajectory))
    assert f"its trajectory is {trajectory}, and only cartesian" in said


def test_a_readout_of_other_length_or_coils(file):
    said = refused_with(file, data=np.ones((3, 7)))
    assert "readout 5 (line 5, partition 0, slice 0) has 7 samples, readout 0 has 8" in said
    assert "has 2 coils, readout 0 has 3" in refused_with(file, data=np.ones((2, 8)))


def test_readouts_that_do_not_fit(file):
    assert "does not fit the 8 samples" in refused_with(file, center_sample=3)
    assert "center_sample 5" in refused_with(file, center_sample=5)
    assert "discard_pre 8" in refused_with(file, discard_pre=8)


def test_a_counter_outside_the_limits(file):
    head = header((8, 6, 1), limits={STEPS[0]: (0, 4, 3)})
    assert f"the counter {STEPS[0]} 5, outside the limits 0 to 4" in refused_with(file, head)
    head = header((8, 6, 1), limits={"repetition": (0, 1, 0)})
    assert "the counter repetition 2, outside the limits 0 to 1" in refused_with(
        file, head, repetition=2
    )


def test_a_line_outside_the_matrix(file):
    said = refused_with(file, kspace_encode_step_1=6)
    assert "lies at 6 of the 6 lines of encodedSpace (centre 3 at 3)" in said
    assert "lies at 1 of the 1 partitions" in refused_with(file, kspace_encode_step_2=1)
    head = header((8, 6, 1), limits={STEPS[0]: (0, 5, 4)})
    assert "lies at -1 of the 6 lines" in refused_with(file, head)


def test_one_place_measured_twice(file):
    said = refused_with(file, kspace_encode_step_1=4)
    assert "has all counters of readout 4; number the second" in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(file, value):
    data = np.ones((3, 8), np.complex64)
    data[1, 2] = value
    assert "readout 5 (line 5, partition 0, slice 0) holds NaN" in refused_with(file, data=data)


def test_fields_of_view_that_contradict_the_matrices(file):
    head = header((8, 6, 1), (4, 6, 1))
    head.encoding[0].reconSpace.fieldOfView_mm.x = 8.0
    assert "8 samples over 8 mm (encodedSpace), its images 4 over 8 mm" in refused_with(file, head)
    head.encoding[0].reconSpace.fieldOfView_mm.x = 0.0
    assert "must be greater than 0" in refused_with(file, head)


def test_a_matrix_beyond_what_the_format_can_number(file):
    head = header((8, 6, 1))
    for lines_ in (70000, 10**30):
        head.encoding[0].encodedSpace.matrixSize.y = lines_
        assert "matrices up to 65535" in refused_with(file, head)


def test_a_matrix_that_no_memory_holds(file):
    """The header is a few letters; what it declares is looked at before room is made for it."""
    head = header((60000, 60000, 60000))
    for space in (head.encoding[0].encodedSpace, head.encoding[0].reconSpace):
        space.fieldOfView_mm.x = space.fieldOfView_mm.y = space.fieldOfView_mm.z = 60000.0
    data = np.ones((3, 60000), np.complex64)
    assert "GiB of voxels" in refused(write(file, head, [readout(data, center_sample=30000)]))


def test_readouts_that_lie_in_another_file(file, tmp_path):
    other = write(tmp_path / "other.h5", header((8, 6, 1)), lines(known_kspace(1, 8, 6)))
    with h5py.File(file, "w") as stream:
        stream["dataset"] = h5py.ExternalLink(str(other), "dataset")
    assert "dataset is a link to another place" in refused(file)
    write(file, header((8, 6, 1)), lines(known_kspace(1, 8, 6)))
    with h5py.File(file, "a") as stream:
        del stream["dataset/data"]
        stream["dataset/data"] = h5py.ExternalLink(str(other), "dataset/data")
    assert "data is a link to another place" in refused(file)


def test_a_place_that_is_not_finite_is_no_geometry(file):
    place = (0, np.nan, 0)
    _, cases = read(file, header((8, 6, 1)), lines(known_kspace(1, 8, 6), position=place))
    assert cases.columns["kspace"].image(0).affine is None
    assert any("does not say where it lies" in notice for notice in cases.notices)
