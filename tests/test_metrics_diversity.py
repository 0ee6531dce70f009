"""Variety and copies, and fidelity, against values known beforehand."""

import math

import pytest
import torch

from radiffuse.metrics.diversity import copy_metrics, find_copies, ms_ssim, nearest, pair_similarity
from radiffuse.metrics.fidelity import psnr, ssim


def uniform(n, *shape, seed=0):
    return 2 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) - 1


def test_equal_images_have_similarity_one_and_noise_next_to_none():
    x = uniform(6, 1, 32, 32)
    assert ms_ssim(x, x).tolist() == pytest.approx([1.0] * 6, abs=1e-5)
    assert float(ms_ssim(x, x.roll(1, dims=0)).max()) < 0.2


def test_pairs_share_no_image_so_repeats_are_seen_as_such():
    same = uniform(1, 1, 32, 32).repeat(40, 1, 1, 1)
    assert pair_similarity(same)["mean"] == pytest.approx(1.0, abs=1e-5)
    varied = pair_similarity(uniform(40, 1, 32, 32))
    assert varied["n"] == 40 and varied["mean"] < 0.2


def test_similarity_of_pairs_is_as_uncertain_as_the_people_are_few():
    """Ten people of ten images that are much alike."""
    x = uniform(10, 1, 32, 32).repeat_interleave(10, 0) + 0.3 * uniform(100, 1, 32, 32, seed=1)
    people = [f"p{row // 10}" for row in range(100)]
    alone, of_ten = pair_similarity(x), pair_similarity(x, people=people)
    assert of_ten["mean"] == alone["mean"] and of_ten["n"] == alone["n"]
    low, high = of_ten["ci95"]
    assert high - low > 1.3 * (alone["ci95"][1] - alone["ci95"][0])
    assert pair_similarity(x, people=["p"] * 100)["ci95"] is None


def test_lines_and_volumes_have_a_similarity_and_tiny_images_a_reason():
    volume = uniform(20, 1, 12, 12, 12)
    assert pair_similarity(torch.cat([volume[:1]] * 20))["mean"] == pytest.approx(1, abs=1e-5)
    assert "9 voxels" in pair_similarity(uniform(40, 1, 8, 8))["refused"]
    assert pair_similarity(uniform(40, 1, 64))["mean"] < 0.5


def test_nearest_is_the_root_mean_square_to_the_closest_and_zero_for_a_copy():
    train = uniform(30, 1, 5, 5)
    queries = torch.cat([train[7:8], train[3:4] + 0.1])
    found = nearest(queries, train)
    assert found.index.tolist() == [7, 3]
    assert found.distance.tolist() == pytest.approx([0.0, 0.1], abs=1e-7)


def test_copies_are_flagged_and_honest_images_one_in_a_hundred():
    train, held_out, honest = (uniform(500, 12, seed=s) for s in range(3))
    generated = torch.cat([honest[:-5], train[:5] + 0.01])
    copies = find_copies(generated, held_out, train)
    assert copies.flagged[-5:].all()
    assert int(copies.flagged[:-5].sum()) < 15
    assert set(copies.closest(5).tolist()) == set(range(495, 500))
    assert float((copies.control.distance < copies.threshold).double().mean()) == 0.01


def test_copy_metrics_name_each_case_and_refuse_a_thin_control():
    train = uniform(50, 12)
    copies = find_copies(uniform(3, 12, seed=1), uniform(99, 12, seed=2), train)
    metrics = copy_metrics(copies, ("a", "b", "c"), "pixels")
    assert set(metrics["nearest_pixels"]["per_patient"]) == {"a", "b", "c"}
    assert "100 held-out" in metrics["copies_pixels"]["refused"]


def test_psnr_of_a_constant_error_is_known():
    x = uniform(2, 1, 16, 16)
    off = torch.tensor([0.1, 0.2])[:, None, None, None]
    exact = [20 * math.log10(2 / 0.1), 20 * math.log10(2 / 0.2)]
    assert psnr(x + off, x, span=2.0).tolist() == pytest.approx(exact, rel=1e-6)


def test_ssim_of_two_constant_images_is_its_luminance_term():
    # (2 a b + c1) / (a^2 + b^2 + c1), c1 = (0.01 span)^2
    a, b, c = 0.5, 0.25, 0.01**2
    value = ssim(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b), span=1.0)
    assert float(value) == pytest.approx((2 * a * b + c) / (a * a + b * b + c), abs=1e-4)
