"""Windows and tiles: nothing is lost, nothing is seen twice, no seam."""

import pytest
import torch
import torch.nn.functional as F

from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.network import Network
from radiffuse.diffusion.parametrization import CLEAN
from radiffuse.diffusion.schedule import EDM
from radiffuse.diffusion.tiling import Tiled
from radiffuse.diffusion.windows import (
    Windows,
    continued,
    cut_back,
    random_windows,
    tile_weights,
    tiled,
)

SIZES = [((37,), (16,), (8,)), ((45, 90), (16, 32), (4, 16)), ((19, 13, 9), (8, 8, 4), (4, 4, 0))]


class Of(Denoiser):
    """A denoiser made of a function of (x, sigma)."""

    def __init__(self, function):
        super().__init__()
        self.schedule, self.function, self.seen = EDM(), function, []

    def forward(self, x_t, t):
        self.seen.append(tuple(x_t.shape))
        return self.function(x_t, self.schedule(t, x_t)[1])


def images(size, cases=3, channels=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(cases, channels, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "side, tile, overlap", [(37, 16, 8), (16, 16, 8), (900, 96, 24), (9, 4, 0)]
)
def test_weights_cover_everything_and_add_to_one(side, tile, overlap):
    starts, weights = tile_weights(side, tile, overlap)
    assert torch.allclose(weights.sum(0), torch.ones(side).double(), atol=1e-15)
    assert (weights >= 0).all() and starts[0] == 0 and starts[-1] == side - tile
    for start, row in zip(starts, weights, strict=True):
        outside = torch.cat([row[:start], row[start + tile :]])
        assert (outside == 0).all()
    if len(starts) > 1 and overlap:
        assert float(weights.diff(dim=1).abs().max()) < 4 / overlap  # smooth: no jump at a border
        assert (weights[1, starts[1] : starts[1] + overlap // 4] == 0).all()


def test_tiles_that_cannot_be_laid_are_refused():
    for side, tile, overlap in ((8, 9, 2), (8, 4, 4), (8, 0, 0)):
        with pytest.raises(ValueError, match="do not fit"):
            tile_weights(side, tile, overlap)


@pytest.mark.parametrize("size, tile, overlap", SIZES)
def test_the_identity_gives_the_image_back(size, tile, overlap):
    x = images(size)
    same = Tiled(Of(lambda x, sigma: x), tile, overlap)(x, torch.tensor(0.5))
    assert torch.allclose(same, x, atol=1e-14)


@pytest.mark.parametrize("size, tile, overlap", SIZES)
def test_a_pixelwise_denoiser_commutes_with_tiling_and_times_go_by_case(size, tile, overlap):
    whole = Of(lambda x, sigma: torch.tanh(x) / (1 + sigma**2))
    x, t = images(size), torch.tensor([0.1, 0.4, 0.7]).double()
    for batch in (1, 5, 1000):
        made = Tiled(whole, tile, overlap, batch=batch)(x, t)
        assert torch.allclose(made, whole(x, t), atol=1e-14)


def local_filter(x, sigma):
    """A box of 5 along the last axis: reaches 2 voxels; zeros beyond the image."""
    kernel = torch.full((1, 1, 5), 0.2, dtype=x.dtype)
    rows = x.reshape(-1, 1, x.shape[-1])
    return F.conv1d(rows, kernel, padding=2).reshape(x.shape)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_local_filter_shows_no_seam(axes):
    size = (12, 14, 50)[3 - axes :]
    tile, overlap = (8, 8, 16)[3 - axes :], (4, 4, 8)[3 - axes :]
    whole, x, t = Of(local_filter), images(size), torch.tensor(0.5)
    made = Tiled(whole, tile, overlap)(x, t)
    assert torch.allclose(made, whole(x, t), atol=1e-14)
    # with an overlap that hides less than the filter's reach, the seams are there
    seams = Tiled(whole, tile, (*overlap[:-1], 4))(x, t)
    assert float((seams - whole(x, t)).abs().max()) > 1e-3


def test_memory_is_bounded_by_the_batch():
    denoiser = Of(lambda x, sigma: x)
    Tiled(denoiser, (8, 8), (2, 2), batch=4)(images((60, 60)), torch.tensor(0.5))
    assert {shape[1:] for shape in denoiser.seen} == {(2, 8, 8)}
    assert max(shape[0] for shape in denoiser.seen) == 4


def test_a_tile_of_one_slice_is_seen_without_its_axis():
    denoiser, x = Of(lambda x, sigma: 2 * x), images((12, 10, 5))
    made = Tiled(denoiser, (8, 10, 1), (4, 0, 0))(x, torch.tensor(0.5))
    assert {shape[1:] for shape in denoiser.seen} == {(2, 8, 10)}
    assert torch.allclose(made, 2 * x, atol=1e-14)


def test_conditions_are_cut_like_the_image_and_others_go_by_case():
    class Sum(torch.nn.Module):
        def forward(self, x, clock, image=None, vector=None):
            return x + image + vector[:, :1, None]

    network = Network(Sum(), EDM(), CLEAN)
    x, image, vector = images((21,), 3, 1), images((21,), 3, 1).flip(0), images((1,), 3, 1)[..., 0]
    made = Tiled(network, (8,), (4,), batch=2, image=image, vector=vector)(x, torch.tensor(0.5))
    assert torch.allclose(made, x + image + vector[:, :, None], atol=1e-12)


@pytest.mark.parametrize("size", [(4,), (8, 16), (8, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75, 0.99])
def test_every_overlap_allowed_can_be_laid(size, overlap):
    x = images(tuple(19 if side > 1 else 3 for side in size))
    made = Windows(size, overlap=overlap).whole(lambda cuts: cuts[0], [x])
    assert torch.allclose(made, x, atol=1e-12)


def test_a_learned_variance_is_tiled_like_the_mean():
    class Twice(torch.nn.Module):
        def forward(self, x, clock, image):
            return torch.cat([x + image, (2 * image).clamp(-1, 1)], 1)

    network = Network(Twice(), EDM(), CLEAN)
    x, image = images((21,), 3, 1), images((21,), 3, 1).flip(0)
    mean, w = Tiled(network, (8,), (4,), image=image).with_variance(x, torch.tensor(0.5))
    assert torch.allclose(mean, x + image, atol=1e-12)
    assert torch.allclose(w, ((2 * image).clamp(-1, 1) + 1) / 2, atol=1e-12)


@pytest.mark.parametrize("side, wanted", [(5, 5), (5, 8), (3, 16), (1, 4)])
def test_images_are_continued_by_reflection(side, wanted):
    x = torch.arange(float(side)).expand(2, 1, 4, side)
    made = continued(x, (4, wanted))
    assert made.shape == (2, 1, 4, wanted) and torch.equal(cut_back(made, (4, side)), x)
    steps = made[0, 0, 0].diff().abs()
    assert (steps == (1 if side > 1 else 0)).all()


def test_random_windows_are_the_same_in_all_images_and_repeat():
    x = torch.arange(2 * 20 * 30.0).reshape(2, 1, 20, 30)
    torch.manual_seed(3)
    one, other = random_windows([x, 10 * x], (8, 12), 4)
    assert one.shape == (8, 1, 8, 12) and torch.equal(other, 10 * one)
    assert (one[:4] < 600).all() and (one[4:] >= 600).all()  # by case
    assert len({float(window[0, 0, 0]) for window in one}) > 4
    torch.manual_seed(3)
    assert torch.equal(random_windows([x], (8, 12), 4)[0], one)
    (small,) = random_windows([x], (24, 12))
    assert small.shape == (2, 1, 24, 12)


def test_the_function_of_tiles_may_change_the_channels():
    x = images((10,), 2, 1)
    made = tiled(lambda cuts, rows: torch.cat([cuts[0], -cuts[0]], 1), [x], (4,), (2,))
    assert torch.allclose(made, torch.cat([x, -x], 1), atol=1e-14)
