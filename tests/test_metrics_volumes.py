"""Measures of volumes on laws whose answers are known: Gaussian volumes, repeated slices, moved balls."""

import math

import pytest
import torch

from radiffuse.metrics.distribution import fid, kid, resampled
from radiffuse.metrics.diversity import ms_ssim, nearest
from radiffuse.metrics.features import DIMENSION, extract, trained_features
from radiffuse.metrics.volumes import (
    centred,
    coherence,
    median_distance,
    planes_fid,
    planes_metrics,
    slices_of,
    voxel_metric,
)


def normal(*shape, seed=0, mean=0.0, std=1.0):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + std * drawn


# ---------------------------------------------------------------------------------------------- slices
def test_slices_lie_evenly_in_the_middle_half_of_every_axis():
    cut = slices_of(normal(2, 1, 16, 16, 16), 4)
    assert cut.shape == (2, 3, 4, 1, 16, 16)
    volume = normal(2, 1, 16, 16, 16)[1, 0]
    places = torch.tensor([5, 7, 9, 11])
    for axis in range(3):
        wanted = volume.index_select(axis, places).movedim(axis, 0)
        assert torch.equal(cut[1, axis, :, 0], wanted)


def test_slices_of_smaller_planes_stand_in_a_black_frame():
    cut = slices_of(torch.ones(1, 1, 16, 12, 8), 4)
    assert cut.shape == (1, 3, 4, 1, 16, 12)
    white = [(12, 8), (16, 8), (16, 12)]
    for plane, (rows, columns) in enumerate(white):
        shown = cut[0, plane, 0, 0]
        assert int((shown == 1).sum()) == rows * columns
        assert int((shown == -1).sum()) == 16 * 12 - rows * columns
        above, beside = (16 - rows) // 2, (12 - columns) // 2
        assert (shown[above : above + rows, beside : beside + columns] == 1).all()


def test_a_short_axis_gives_fewer_slices():
    assert slices_of(torch.zeros(1, 1, 8, 8, 4)).shape[2] == 2


def test_the_frechet_distance_of_slices_is_the_mean_over_the_planes():
    """A set moved by 1, 2 and 3 in its planes: the mean of d, 4 d and 9 d."""
    x = normal(40, 3, 4, 5)
    shift = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    assert planes_fid(x, x + shift) == pytest.approx(5 * (1 + 4 + 9) / 3, rel=1e-9)


def test_the_kernel_of_slices_is_that_of_volumes():
    """Four copies of one slice say no more than one of them, and never stand for four volumes."""
    x, y = normal(20, 5), normal(24, 5, seed=1, mean=0.5)
    many = [each[:, None, None].expand(-1, 3, 4, -1) for each in (x, y)]
    found = planes_metrics(*many)["kid_planes"]
    assert found["mean"] == pytest.approx(kid(x, y), rel=1e-9) and found["n"] == 20


def test_slices_of_one_volume_do_not_make_intervals_narrow():
    x, y = normal(60, 2), normal(60, 2, seed=1)
    alone, _ = resampled(fid, x, y)
    many = [each[:, None, None].expand(-1, 3, 8, -1) for each in (x, y)]
    low, high = planes_metrics(*many)["fid_planes"]["ci95"]
    assert high - low == pytest.approx(alone["ci95"][1] - alone["ci95"][0], rel=0.1)


@pytest.mark.parametrize("name", ["fid_planes", "kid_planes", "mmd"])
def test_volumes_of_one_person_do_not_make_intervals_narrow(name):
    """Eighty volumes of eight people, hardly unlike, are as uncertain as eight volumes are, and more so than eighty."""
    people = [f"p{k // 10}" for k in range(80)]
    once, made = normal(8, 2), normal(80, 2, seed=1)
    real = once.repeat_interleave(10, 0) + 0.01 * normal(80, 2, seed=2)

    def width(of):
        if name == "mmd":
            low, high = voxel_metric(real[:, :, None], made[:, :, None], 1.0, people=of)["ci95"]
        else:
            many = [each[:, None, None].expand(-1, 3, 2, -1) for each in (real, made)]
            low, high = planes_metrics(*many, people=of)[name]["ci95"]
        return high - low

    assert width((people, ())) > 1.5 * width(((), ()))


def test_slices_as_like_as_those_of_one_volume_leave_the_kernel_unbiased():
    """Features of a volume shared by its slices, plus a little of each: 0 on average for one law."""

    def volumes(seed):
        return normal(8, 1, 1, 3, seed=seed) + 0.1 * normal(8, 3, 4, 3, seed=seed + 10_000)

    found = [
        planes_metrics(volumes(2 * seed), volumes(2 * seed + 1))["kid_planes"]["mean"]
        for seed in range(60)
    ]
    values = torch.tensor(found)
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(60)


def test_few_volumes_are_refused_with_their_number():
    few = planes_metrics(normal(7, 3, 8, 4), normal(30, 3, 8, 4))
    assert {found["refused"] for found in few.values()} == {"needs 8 volumes a set, there are 7"}
    wide = planes_metrics(normal(10, 3, 8, 100), normal(30, 3, 8, 100))
    assert wide["fid_planes"]["refused"].startswith("needs 200 slices a plane (100 features)")
    assert wide["fid_planes"]["n"] == 10 and "mean" in wide["kid_planes"]
    assert "refused" in voxel_metric(normal(7, 1, 3, 3, 3), normal(9, 1, 3, 3, 3), 1.0)


# --------------------------------------------------------------------------------------------- voxels
def expected_discrepancy(shift, std_1, std_2, width, d):
    """Of N(0, s_1^2 I) and N(m, s_2^2 I): the mean of k is a Gaussian integral, and |x - y|^2 grows by |m|^2."""

    def mean(variance, gap):
        return (width**2 / (width**2 + variance)) ** (d / 2) * math.exp(
            -(gap**2) / (2 * (width**2 + variance))
        )

    return mean(2 * std_1**2, 0) + mean(2 * std_2**2, 0) - 2 * mean(std_1**2 + std_2**2, shift)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 1.0), (0.0, 1.5), (0.0, 1.0)])
def test_the_discrepancy_of_gaussian_volumes_is_known(mean, std):
    """Mean of 15 sets, for it is unbiased; the interval of one holds it."""
    size, width = (1, 2, 3, 2), 4.0
    sets = [
        voxel_metric(
            normal(200, *size, seed=2 * k),
            normal(200, *size, seed=2 * k + 1, mean=mean, std=std),
            width,
        )
        for k in range(15)
    ]
    wanted = expected_discrepancy(mean * math.sqrt(12), 1.0, std, width, 12)
    found = sum(each["mean"] for each in sets) / 15
    assert found == pytest.approx(wanted, abs=0.006)
    assert sum(each["ci95"][0] < wanted < each["ci95"][1] for each in sets) >= 12
    if mean or std != 1:
        assert wanted > 0.05


def test_the_median_distance_of_gaussian_volumes():
    """|x - y|^2 of D = 64 voxels is 2 s^2 times a chi squared of D."""
    found = median_distance(normal(300, 1, 4, 4, 4, std=0.5))
    assert found == pytest.approx(math.sqrt(2 * 0.25 * 63.3), rel=0.01)


# ------------------------------------------------------------------------------------------ coherence
def correlated(count, side, shares):
    """Gaussian volumes whose correlation falls by a share a voxel along each axis."""
    x = normal(count, 1, side, side, side).float()
    place = torch.arange(side)
    for axis, share in enumerate(shares, start=2):
        law = share ** (place[:, None] - place).abs().float()
        x = (torch.linalg.cholesky(law) @ x.movedim(axis, -2)).movedim(-2, axis)
    return x


@pytest.mark.parametrize("shares", [(0.9, 0.8, 0.5), (0.6, 0.9, 0.9), (0.9, 0.7, 0.9)])
def test_coherence_is_the_correlation_of_neighbours_where_it_is_least(shares):
    found = coherence(correlated(100, 20, shares))
    assert float(found.mean()) == pytest.approx(min(shares), abs=0.02)


def test_slices_drawn_alone_and_flat_volumes_have_no_coherence():
    volumes = correlated(40, 16, (0.95, 0.95, 0.95))
    apart = torch.stack([volumes.roll(k, 0)[:, :, k] for k in range(16)], 2)
    assert float(coherence(volumes).mean()) > 0.9
    assert abs(float(coherence(apart).mean())) < 0.15
    assert coherence(torch.full((2, 1, 4, 4, 4), 0.3)).tolist() == [0, 0]


# ------------------------------------------------------------------------------------------ alignment
def blob(*centre, side=16):
    axes = torch.meshgrid(*(torch.arange(side) - place for place in centre), indexing="ij")
    distance = sum(axis.float() ** 2 for axis in axes)
    return (2 * torch.exp(-distance / 2) - 1).where(distance < 16, torch.tensor(-1.0))[None]


def test_the_nearest_volume_is_found_wherever_it_lies():
    train = torch.stack([blob(8, 8, 8).mul(0.5).sub(0.5), blob(8, 8, 8)])
    moved = blob(5, 9, 10)[None]
    assert (
        nearest(moved, train).index.tolist() == [0] and float(nearest(moved, train).distance) > 0.05
    )
    found = nearest(centred(moved), centred(train))
    assert found.index.tolist() == [1] and float(found.distance) == 0


def test_what_is_moved_in_is_black_and_an_empty_volume_stays():
    volume = torch.full((1, 1, 8, 8, 8), -1.0)
    volume[:, :, 7] = 0.5
    moved = centred(volume)
    assert (moved[:, :, 4] == 0.5).all() and int((moved == -1).sum()) == 7 * 8 * 8
    empty = torch.full((1, 1, 4, 4, 4), -1.0)
    assert torch.equal(centred(empty), empty)
    once = centred(blob(4, 5, 6)[None])
    assert torch.equal(centred(once), once)


# ------------------------------------------------------------------- the measures of pictures, on volumes
def test_the_feature_network_takes_volumes_and_tells_them_from_noise():
    real = correlated(80, 8, (0.9, 0.9, 0.9)).mul(0.4).clamp(-1, 1)
    network = trained_features(real[:40], fingerprint="volumes", steps=25)
    noise = normal(40, 1, 8, 8, 8, std=0.4).float()
    features = [extract(network, x) for x in (real[:40], real[40:], noise)]
    assert features[0].shape == (40, DIMENSION)
    assert fid(features[0], features[2]) > 2 * fid(features[0], features[1])


def test_similarity_of_volumes_has_as_many_scales_as_its_window_fits():
    x, y = (correlated(1, side, (0.9,) * 3).mul(0.4) for side in (9, 32))
    assert float(ms_ssim(x, x)) == pytest.approx(1) and float(ms_ssim(y, -y)) < 0.5
