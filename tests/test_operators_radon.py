"""Projections against analytic line integrals, and images recovered from them."""

import importlib.util
import math

import pytest
import torch

from radiffuse.errors import UserError
from radiffuse.operators import Fan, Parallel, Radon, conjugate_gradient, fbp, norm, views
from radiffuse.operators.radon import _matrices
from radiffuse.operators.tomography import cosine, hamming, hann, ramp, shepp_logan

SIZE = (65, 72)
CENTRE = (6.0, -9.0)  # (x, y) of the object, off the middle so that signs and axes show
DISTANCE = 150.0


def geometry(kind, count=90, size=SIZE):
    if kind == "parallel":
        return Parallel(size, views(count))
    return Fan(size, views(2 * count, 2 * math.pi), distance=DISTANCE)


def lines_miss(geometry):
    """Distance of each ray from the object's centre, (A, N)."""
    points, directions = geometry.rays()
    gap = torch.tensor(CENTRE, dtype=torch.float64) - points
    return (gap[..., 0] * directions[..., 1] - gap[..., 1] * directions[..., 0]).abs()


def radius_at(size, fine=1):
    """Distance of points from the object's centre, `fine` points a pixel along each axis."""
    height, width = size
    x = (torch.arange(width * fine, dtype=torch.float64) + 0.5) / fine - width / 2
    y = height / 2 - (torch.arange(height * fine, dtype=torch.float64) + 0.5) / fine
    return torch.hypot(x - CENTRE[0], y[:, None] - CENTRE[1])


def disc(radius, size=SIZE):
    fine = (radius_at(size, 8) < radius).double()
    return fine.reshape(size[0], 8, size[1], 8).mean((1, 3))[None, None]


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_projections_of_a_gaussian_are_known(kind):
    """exp(-r^2 / (2 s^2)) integrates to s sqrt(2 pi) exp(-d^2 / (2 s^2)) at distance d."""
    s, beams = 5.0, geometry(kind, 20)
    image = torch.exp(-(radius_at(SIZE) ** 2) / (2 * s**2))[None, None]
    expected = s * math.sqrt(2 * math.pi) * torch.exp(-(lines_miss(beams) ** 2) / (2 * s**2))
    error = (Radon(beams)(image)[0, 0] - expected).abs().max() / expected.max()
    assert float(error) < 0.01


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_projections_of_a_disc_are_chords(kind):
    beams = geometry(kind, 20)
    chord = 2 * (18.0**2 - lines_miss(beams) ** 2).clamp(min=0).sqrt()
    error = Radon(beams)(disc(18.0))[0, 0] - chord
    assert float(error[chord > 20].abs().max()) < 0.01 * 36
    assert float(error.square().mean().sqrt() / chord.square().mean().sqrt()) < 0.02, "the rim"
    assert abs(float(error.mean() / chord.mean())) < 1e-3


def test_view_0_sums_columns_and_a_quarter_turn_sums_rows():
    x = torch.rand(1, 1, 5, 5, dtype=torch.float64)
    y = Radon(Parallel((5, 5), (0.0, math.pi / 2), 5))(x)[0, 0]
    assert torch.allclose(y[0], x[0, 0].sum(0)), "s = x"
    assert torch.allclose(y[1], x[0, 0].sum(1).flip(0)), "s = y, upwards"


def test_a_far_source_is_a_parallel_beam():
    x = disc(15.0)
    far = Fan(SIZE, views(7), distance=1e7)
    assert torch.allclose(Radon(far)(x), Radon(Parallel(SIZE, views(7)))(x), atol=1e-3)


@pytest.mark.parametrize("window", [ramp, shepp_logan, cosine, hamming, hann])
@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_filtered_back_projection_recovers_a_disc(kind, window):
    beams = geometry(kind)
    chord = 2 * (18.0**2 - lines_miss(beams) ** 2).clamp(min=0).sqrt()  # the truth, not our rays
    image = fbp(chord[None, None], beams, window)[0, 0]
    radius = radius_at(SIZE)
    inside, outside = image[radius < 14], image[(radius > 22) & (radius < 30)]
    assert float(inside.mean()) == pytest.approx(1, abs=0.001)
    assert float((inside - 1).abs().max()) < 0.005
    assert abs(float(outside.mean())) < 2e-4
    assert float(outside.abs().mean()) < (0.006 if window is hann else 0.022), "ringing of the rim"


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_filtered_back_projection_weighs_uneven_angles(kind):
    turn = math.pi if kind == "parallel" else 2 * math.pi
    angles = tuple(turn * (k / 108 + 0.03 * math.sin(4 * math.pi * k / 108)) for k in range(108))
    beams = Parallel(SIZE, angles) if kind == "parallel" else Fan(SIZE, angles, distance=DISTANCE)
    chord = 2 * (18.0**2 - lines_miss(beams) ** 2).clamp(min=0).sqrt()
    image, radius = fbp(chord[None, None], beams, hann)[0, 0], radius_at(SIZE)
    outside = image[(radius > 22) & (radius < 30)]
    assert float(image[radius < 14].mean()) == pytest.approx(1, abs=0.001)
    assert float(outside.abs().mean()) < 0.007, "ten times that without weights"


def test_detectors_of_another_spacing():
    beams = Parallel(SIZE, views(90), 130, 0.8)
    chord = 2 * (18.0**2 - lines_miss(beams) ** 2).clamp(min=0).sqrt()
    inside = fbp(chord[None, None], beams)[0, 0][radius_at(SIZE) < 14]
    assert float(inside.mean()) == pytest.approx(1, abs=0.004)


def test_many_views_determine_the_image():
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    A = Radon(Parallel((8, 8), views(30), 25, 0.5))
    got = conjugate_gradient(A.gram, A.adjoint(A(x)), iterations=400, tolerance=1e-12)
    assert torch.allclose(got, x, atol=1e-5)


def test_the_norm_is_that_of_its_matrix():
    A = Radon(Parallel((6, 7), views(4), 9))
    dense = A(torch.eye(42, dtype=torch.float64).reshape(42, 1, 6, 7)).flatten(1)
    top = float(torch.linalg.matrix_norm(dense, 2))
    got = norm(A, torch.zeros(2, 1, 6, 7, dtype=torch.float64), iterations=300)
    assert got.tolist() == pytest.approx([top] * 2, rel=1e-6)


def test_complex_images_and_slices_and_back_projection_of_them():
    beams = Parallel((9, 9), views(6))
    x = torch.randn(2, 1, 3, 9, 9, dtype=torch.complex128)
    y = Radon(beams)(x)
    assert y.shape == (2, 1, 3, 6, beams.detectors)
    assert torch.allclose(y[1, 0, 2].imag, Radon(beams)(x[1:, :, 2].imag)[0, 0])
    back = fbp(y, beams, hann)
    assert torch.allclose(back[1, 0, 2].imag, fbp(y[1:, :, 2].imag, beams, hann)[0, 0])


def test_second_derivatives_pass():
    A = Radon(Parallel((5, 5), views(3)))
    x = torch.rand(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: A(v) ** 2, x)


def test_equal_geometries_share_their_matrix():
    first = _matrices(Parallel((5, 5), views(3)), torch.float32, "cpu")
    assert _matrices(Parallel((5, 5), torch.tensor(views(3)).double()), torch.float32, "cpu") is (
        _matrices(
            Parallel((5, 5), tuple(torch.tensor(views(3)).double().tolist())), torch.float32, "cpu"
        )
    )
    assert _matrices(Parallel((5, 5), views(3)), torch.float32, "cpu") is first


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="needs scikit-image")
def test_agrees_with_scikit_image():
    from skimage.transform import iradon, radon

    n = 65
    radius = radius_at((n, n))
    smooth = torch.exp(-(radius**2) / 50) + 0.5 * torch.exp(-((radius - 8) ** 2) / 18)
    smooth = torch.where(radius < 21, smooth, 0.0)
    beams = Parallel((n, n), views(30), n)
    ours = Radon(beams)(smooth[None, None])[0, 0]
    theirs = radon(smooth.numpy(), theta=[180 * k / 30 for k in range(30)], circle=True)
    gap = ours - torch.from_numpy(theirs).T
    assert float(gap.norm() / ours.norm()) < 0.01
    back = iradon(theirs, theta=[180 * k / 30 for k in range(30)], filter_name="ramp")
    mine = fbp(ours[None, None], beams)[0, 0]
    ring = (radius < 18).numpy()
    truth = smooth.numpy()[ring]
    assert abs(mine.numpy()[ring] - truth).mean() <= 1.2 * abs(back[ring] - truth).mean()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Parallel((5, 5), ()), "one finite angle"),
        (lambda: Parallel((5, 5), (math.nan,)), "one finite angle"),
        (lambda: Parallel((5, 5), (0.0,), spacing=0.0), "positive spacing"),
        (lambda: Fan((5, 5), (0.0,), distance=3.0), "inside the image"),
        (lambda: Radon(Parallel((5, 5), (0.0,)))(torch.ones(1, 1, 5, 6)), r"must be \(5, 5\)"),
        (lambda: Radon(Parallel((5, 5), (0.0,), 7)).adjoint(torch.ones(1, 1, 2, 7)), "a sinogram"),
        (lambda: fbp(torch.ones(1, 1, 1, 7), Parallel((5, 5), (0.0,), 7)), "two views"),
        (lambda: fbp(torch.ones(1, 1, 2, 7), Parallel((5, 5), (0.0,), 7)), "does not fit"),
        (
            lambda: fbp(torch.ones(1, 1, 9, 7), Fan((5, 5), views(9), 7, distance=9.0)),
            "views all around",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(act, words):
    with pytest.raises(UserError, match=words) as error:
        act()
    assert "\n" not in str(error.value)
