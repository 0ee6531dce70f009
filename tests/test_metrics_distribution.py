"""Distances between sets: closed forms, brute force and unbiasedness."""

import math

import pytest
import torch

from radiffuse.metrics import distribution
from radiffuse.metrics.distribution import (
    distances_between_sets,
    fid,
    frechet_distance,
    frechet_metrics,
    kernel_metric,
    kid,
    neighbourhood_hits,
    neighbourhood_metrics,
)
from radiffuse.metrics.estimate import proportion


def normal(n, d, seed, mean=0.0, std=1.0):
    return mean + std * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).double()


def test_frechet_distance_of_commuting_gaussians_is_the_sum_over_axes():
    # N(m, diag s^2): sum (m1 - m2)^2 + (s1 - s2)^2
    mean_1, std_1 = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    mean_2, std_2 = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([2.0, 2.0, 0.5])
    value = frechet_distance(mean_1, std_1.square().diag(), mean_2, std_2.square().diag())
    assert float(value) == pytest.approx(1 + 0 + 4 + 1 + 0 + 6.25, abs=1e-12)


def test_frechet_distance_of_gaussians_that_do_not_commute():
    # In two dimensions Tr sqrt(M) = sqrt(Tr M + 2 sqrt(det M)), M = C_1 C_2.
    cov_1 = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    cov_2 = torch.tensor([[1.0, -0.3], [-0.3, 3.0]]).double()
    product = cov_1 @ cov_2
    root = math.sqrt(float(product.trace()) + 2 * math.sqrt(float(torch.linalg.det(product))))
    zero = torch.zeros(2)
    exact = float(cov_1.trace() + cov_2.trace()) - 2 * root
    assert float(frechet_distance(zero, cov_1, zero, cov_2)) == pytest.approx(exact, abs=1e-12)


def test_frechet_distance_stands_a_singular_covariance():
    flat = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    zero = torch.zeros(2)
    assert float(frechet_distance(zero, flat, zero, flat)) == pytest.approx(0, abs=1e-7)


def test_fid_of_a_shifted_set_is_the_square_of_the_shift():
    x = normal(500, 4, 0)
    assert fid(x, x + 3) == pytest.approx(4 * 9, rel=1e-9)


def test_correction_takes_the_bias_of_fid_away():
    plain, corrected = [], []
    for seed in range(6):
        metrics = frechet_metrics(normal(200, 8, 2 * seed), normal(200, 8, 2 * seed + 1))
        plain.append(metrics["fid"]["mean"])
        corrected.append(metrics["fid_corrected"]["mean"])
    assert min(plain) > 0.05
    assert abs(sum(corrected) / 6) < 0.35 * sum(plain) / 6


def test_interval_of_fid_holds_the_value_it_stands_for():
    metrics = frechet_metrics(normal(300, 4, 0), normal(300, 4, 1, mean=1.0))
    low, high = metrics["fid"]["ci95"]
    assert low < 4.0 < high
    assert low < metrics["fid"]["mean"] < high
    assert high - low < 2.5


def test_kid_is_the_brute_force_sum_over_pairs():
    x, y = normal(5, 3, 0), normal(4, 3, 1)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    within_x = sum(k(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(k(a, b) for a in x for b in y) / 20
    assert kid(x, y) == pytest.approx(within_x + within_y - 2 * between, abs=1e-10)


def test_kid_is_zero_on_average_for_sets_of_one_law():
    values = torch.tensor([kid(normal(50, 4, s), normal(50, 4, 1000 + s)) for s in range(200)])
    error = float(values.std()) / math.sqrt(200)
    assert abs(float(values.mean())) < 3 * error
    # The same mean with each image paired with itself would lie 10 errors away.
    assert error < 0.05


def test_kid_interval_holds_zero_for_one_law_and_not_for_two():
    low, high = kernel_metric(normal(200, 4, 0), normal(200, 4, 1))["ci95"]
    assert low < 0 < high
    low, _ = kernel_metric(normal(200, 4, 0), normal(200, 4, 1, mean=1.0))["ci95"]
    assert low > 0


def test_neighbourhood_metrics_on_points_counted_by_hand():
    # Real points at 0, 1, 2, 10 on a line, k = 1: balls of radius 1, 1, 1, 8.
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    generated = torch.tensor([[0.5], [30.0], [30.5]])  # balls of radius 29.5, 0.5, 0.5
    hits = neighbourhood_hits(real, generated, near=1, wide=1)
    assert hits["precision"].tolist() == [True, False, False]
    assert hits["recall"].tolist() == [True, True, True, True]
    assert hits["density"].tolist() == [2.0, 0.0, 0.0]  # 0.5 lies in the balls of 0 and 1
    assert hits["coverage"].tolist() == [True, True, False, False]


def test_lost_variety_costs_recall_and_lost_realism_costs_precision():
    real = normal(300, 4, 0)
    narrow = neighbourhood_metrics(real, normal(300, 4, 1, std=0.3))
    wide = neighbourhood_metrics(real, normal(300, 4, 1, std=3.0))
    assert narrow["precision"]["mean"] > 0.95 and narrow["recall"]["mean"] < 0.3
    assert wide["precision"]["mean"] < 0.3 and wide["recall"]["mean"] > 0.9


def test_sets_too_small_are_refused_with_the_reason_and_n():
    metrics = distances_between_sets(normal(60, 64, 0), normal(70, 64, 1))
    assert metrics["fid"] == {
        "refused": "needs 128 images a set (64 features), there are 60",
        "n": 60,
    }
    assert "mean" in metrics["kid"] and "mean" in metrics["coverage"]
    few = distances_between_sets(normal(49, 4, 0), normal(70, 4, 1))
    assert all("refused" in metric and metric["n"] == 49 for metric in few.values())


# ------------------------------------------------------------------------------- people with several images
@pytest.mark.parametrize("name", ["fid", "fid_corrected", "kid", "recall", "coverage"])
def test_intervals_draw_people_not_their_slices(name):
    """20 people of 10 slices that are much alike say little more than 20 people do."""
    once, made = normal(20, 4, 0), normal(200, 4, 1, mean=0.5)
    real, people = once.repeat_interleave(10, 0), [f"p{row // 10}" for row in range(200)]
    real = real + 0.3 * normal(200, 4, 2)
    alone = distances_between_sets(real, made)[name]
    found = distances_between_sets(real, made, people=(people, ()))[name]
    if name != "fid_corrected":
        assert found["mean"] == pytest.approx(alone["mean"])
    width, narrow = (high - low for low, high in (found["ci95"], alone["ci95"]))
    assert width > 1.3 * narrow


def test_slices_of_one_person_give_no_interval():
    real, made = normal(60, 4, 0), normal(60, 4, 1)
    found = distances_between_sets(real, made, people=(["p"] * 60, ()))
    assert {name for name in found if found[name]["ci95"] is None} == {
        *("fid", "fid_corrected", "kid", "recall", "coverage"),
    }


def test_images_of_people_of_their_own_have_the_interval_of_images():
    real, made = normal(60, 4, 0), normal(60, 4, 1)
    people = [f"p{row}" for row in range(60)]
    assert distances_between_sets(real, made, people=(people, ())) == distances_between_sets(
        real, made
    )


def test_no_hit_among_slices_of_few_people_is_as_uncertain_as_the_people():
    people = [f"p{row // 10}" for row in range(50)]
    assert (
        proportion(torch.zeros(50, dtype=bool), people)["ci95"]
        == proportion(torch.zeros(5, dtype=bool))["ci95"]
    )


def test_large_sets_in_the_order_of_their_classes_are_not_cut_to_the_first(monkeypatch):
    """Folders stand by class: the first 3000 of 4000 images lacked the last ones."""
    monkeypatch.setattr(distribution, "LARGEST_KERNEL", 150)
    x = torch.cat([normal(100, 4, seed, mean=float(seed)) for seed in range(4)])
    y = torch.cat([normal(100, 4, 9 + seed, mean=float(seed)) for seed in range(4)])
    low, high = kernel_metric(x, y[torch.randperm(400)])["ci95"]
    assert low < 0 < high
