"""Simplex noise: the values of the OpenSimplex package, its spectrum, and one field a case."""

import math

import numpy as np
import pytest
import torch

from radiffuse.diffusion.noise import gaussian
from radiffuse.diffusion.simplex import Simplex, gradient_set, kernel

LIKE = torch.zeros(60, 1, 64, 64)


def power(fields):
    """Radially averaged power of `(B, 1, n, n)` fields by frequency in cycles an image, 1 .. n/2."""
    n = fields.shape[-1]
    window = torch.hann_window(n)[:, None] * torch.hann_window(n)
    spectrum = torch.fft.fft2(fields * window).abs().square().mean((0, 1))
    axis = torch.fft.fftfreq(n) * n
    radius = (axis[:, None] ** 2 + axis[None] ** 2).sqrt().round().long()
    total = torch.bincount(radius.flatten(), spectrum.flatten().double())
    return (total / torch.bincount(radius.flatten()))[1 : n // 2 + 1]


@pytest.fixture(scope="module")
def fields():
    torch.manual_seed(0)
    return Simplex()(LIKE)


# ---------------------------------------------------------------------------------- exact values
@pytest.mark.parametrize("axes", [2, 3, 4])
def test_values_are_those_of_opensimplex(axes):
    """With the package's permutation table for the gradients, its values at random points."""
    internals = pytest.importorskip("opensimplex.internals", reason="the package is not installed")
    from opensimplex import constants

    perm, perm3 = internals._init(5)
    tables = {2: constants.GRADIENTS2, 3: constants.GRADIENTS3, 4: constants.GRADIENTS4}
    points = torch.rand(150, axes, generator=torch.Generator().manual_seed(0)).double() * 9 - 4
    counts, vertices, weights = kernel(points)
    hashed = np.zeros(len(vertices), dtype=np.int64)
    for axis in range(axes - 1):
        hashed = perm[(hashed + vertices[:, axis].numpy()) & 255]
    last = (hashed + vertices[:, -1].numpy()) & 255
    first = {2: lambda: perm[last] & 0x0E, 3: lambda: perm3[last], 4: lambda: perm[last] & 0xFC}
    starts = first[axes]()
    gradients = np.stack([tables[axes][starts + axis] for axis in range(axes)], -1)
    each = (torch.from_numpy(gradients) * weights).sum(1)
    of = torch.arange(len(points)).repeat_interleave(counts)
    ours = torch.zeros(len(points)).double().index_add(0, of, each)
    more = (perm, perm3) if axes == 3 else (perm,)
    noise = {2: internals._noise2, 3: internals._noise3, 4: internals._noise4}[axes]
    theirs = torch.tensor([noise(*point.tolist(), *more) for point in points]).double()
    # the package leaves out vertices whose part is below 1e-4
    assert torch.allclose(ours, theirs, atol=2e-4)
    assert theirs.std() > 0.2


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_the_kernel_is_smooth_and_vanishes_at_vertices(axes):
    """No vertex is forgotten at the edge of a cell: values change as little as the points do."""
    squish = (math.sqrt(axes + 1) - 1) / axes
    vertex = torch.tensor([2.0, -1.0, 3.0, 1.0][:axes]).double()
    point = vertex + squish * vertex.sum()
    _, vertices, weights = kernel(point[None])
    here = (vertices == vertex.long()).all(1)
    assert here.sum() == 1 and weights[here].abs().max() < 1e-10
    start = torch.rand(axes, generator=torch.Generator().manual_seed(1)).double()
    line = start + torch.linspace(0, 3, 3001).double()[:, None] * torch.ones(axes).double()
    counts, _, weights = kernel(line)
    of = torch.arange(len(line)).repeat_interleave(counts)
    total = torch.zeros(len(line)).double().index_add(0, of, weights.abs().sum(1))
    assert total.diff().abs().max() < 0.02 * total.max()


def test_gradients_are_the_lattices():
    for axes, count in ((2, 8), (3, 24), (4, 64)):
        rows = gradient_set(axes)
        assert len(rows.unique(dim=0)) == count == len(rows)
        assert torch.equal(rows.sum(0), torch.zeros(axes))


# ------------------------------------------------------------------------------------- its law
def test_range_mean_and_deviation(fields):
    one = Simplex(octaves=1, wavelength=7.0)(LIKE)
    assert one.abs().max() <= 1
    assert float(one.std()) == pytest.approx(Simplex(octaves=1).std, rel=0.02)
    assert abs(float(fields.mean())) < 0.05
    assert float(fields.std()) == pytest.approx(Simplex().std, rel=0.1)
    assert fields.abs().max() < (1 - 0.8**6) / 0.2


def test_power_falls_with_frequency(fields):
    """Wyatt et al.: at 64 pixels far above that at 4; Gaussian noise is flat."""
    found = power(fields)
    assert found[0] > 1000 * found[15]
    flat = power(gaussian(LIKE))
    assert flat[0] < 2 * flat[15]


@pytest.mark.parametrize("wavelength", [16.0, 8.0, 5.0])
def test_an_octave_has_its_wavelength(wavelength):
    torch.manual_seed(0)
    found = power(Simplex(octaves=1, wavelength=wavelength)(LIKE))
    at = torch.arange(1, 33)
    mean = 64 / float((found * at * at).sum() / (found * at).sum())  # of the energy
    assert 1.2 * wavelength < mean < 2.2 * wavelength


def test_decay_sets_the_slope():
    torch.manual_seed(0)
    smooth, rough = (power(Simplex(decay=decay)(LIKE)) for decay in (0.5, 0.9))
    assert rough[15] / rough[0] > 5 * smooth[15] / smooth[0]
    torch.manual_seed(0)
    few = power(Simplex(octaves=3)(LIKE))
    many = power(Simplex(octaves=6)(LIKE))
    assert many[31] > 50 * few[31]


def test_it_has_no_preferred_direction():
    torch.manual_seed(0)
    x = Simplex(octaves=1, wavelength=8.0)(torch.zeros(300, 1, 32, 32))

    def correlation(rows, columns):
        moved = torch.roll(x, (rows, columns), (2, 3))[..., 8:, 8:]
        return float((moved * x[..., 8:, 8:]).mean() / x.var())

    along = [correlation(5, 0), correlation(0, 5), correlation(3, 4), correlation(4, 3)]
    assert max(along) - min(along) < 0.1


def test_coarse_structure_is_corrupted():
    """At lambda = 250 of 1000 (sigma 0.69) block means move; under Gaussian noise they do not."""
    torch.manual_seed(0)
    blocks = torch.nn.functional.avg_pool2d
    assert float((0.69 * blocks(Simplex()(LIKE), 32)).std()) > 0.1
    assert float((0.69 * blocks(gaussian(LIKE), 32)).std()) < 0.03


# ------------------------------------------------------------------------------ one field a case
def test_a_case_does_not_depend_on_its_batch():
    simplex = Simplex(octaves=3, wavelength=8.0)
    like = torch.zeros(4, 2, 16, 16)
    together, alone = simplex.seeded([5, 6, 7, 8]), simplex.seeded([7])
    for _ in range(3):
        batch, case = together(like), alone(like[:1])
        assert torch.allclose(batch[2:3], case, atol=1e-6)
    fresh = simplex.seeded([5, 6, 7, 8])(like)
    assert not torch.allclose(fresh, batch, atol=0.1), "every draw is a new field"


def test_the_lattice_lies_elsewhere_in_every_draw(monkeypatch):
    """Else pixels at its vertices would never be noised; the same for a case in any batch."""
    places = []
    monkeypatch.setattr(
        Simplex, "_fields", lambda self, like, offsets, choose: places.append(offsets) or like
    )
    for seeds in ([1, 2], [2]):
        stream = Simplex().seeded(seeds)
        for _ in range(3):
            stream(LIKE[: len(seeds)])
    assert len({tuple(place.flatten().tolist()) for place in places}) == 3
    assert torch.equal(places[0], places[3]) and torch.equal(places[2], places[5])


def test_cases_and_channels_are_independent():
    torch.manual_seed(0)
    x = Simplex(octaves=1, wavelength=8.0)(torch.zeros(200, 2, 32, 32)).flatten(2)
    x = x / x.std(2, keepdim=True)
    between = (x[:-1, 0] * x[1:, 0]).mean(1)
    channels = (x[:, 0] * x[:, 1]).mean(1)
    assert abs(float(between.mean())) < 0.05 and abs(float(channels.mean())) < 0.05
    assert torch.equal(*(Simplex().seeded([3])(LIKE[:1]) for _ in range(2)))


def test_training_draws_from_the_global_generator():
    torch.manual_seed(4)
    first = Simplex()(LIKE[:2])
    torch.manual_seed(4)
    assert torch.equal(first, Simplex()(LIKE[:2]))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("size", [(48,), (20, 28), (12, 10, 8)])
def test_any_number_of_axes(size):
    torch.manual_seed(0)
    x = Simplex(octaves=2, wavelength=8.0)(torch.zeros(40, 1, *size, dtype=torch.float64))
    assert x.shape == (40, 1, *size) and x.dtype == torch.float64
    assert 0.2 < float(x.std()) < 0.6


def test_seeds_must_fit_the_batch():
    with pytest.raises(ValueError, match="2 seeds for a batch of 3"):
        Simplex().seeded([1, 2])(torch.zeros(3, 1, 8, 8))
