"""One number with its interval: exact on small sets, refused where it cannot be had."""

import json
import math

import pytest
import torch

from radiffuse.metrics.estimate import (
    Sums,
    average,
    average_per_patient,
    measured,
    proportion,
    refused,
)


def test_wilson_interval_of_none_in_ten_is_the_published_one():
    metric = proportion(torch.zeros(10, dtype=torch.bool))
    # z^2 / (n + z^2) with z = 1.96: 3.8415 / 13.8415
    assert metric["mean"] == 0
    assert metric["ci95"] == pytest.approx([0.0, 0.27753], abs=1e-4)
    assert proportion(~torch.zeros(10, dtype=torch.bool))["ci95"][0] == pytest.approx(
        0.72247, abs=1e-4
    )


def test_bootstrap_interval_of_a_mean_has_the_width_of_the_normal_law():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    metric = average(values)
    error = float(values.double().std()) / 20
    low, high = metric["ci95"]
    assert metric["mean"] == pytest.approx(float(values.double().mean()))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_patients_count_once_however_many_images_they_have():
    metric = average_per_patient([0.0] * 8 + [4.0, 6.0], ["a"] * 8 + ["b", "b"])
    assert metric["mean"] == 2.5
    assert metric["n"] == 2
    assert metric["per_patient"] == {"a": 0.0, "b": 5.0}


def test_a_value_that_is_no_number_is_refused_and_the_result_is_json():
    metrics = [measured(float("nan"), 0, 1, 5), average(torch.tensor([1.0])), refused("few", 3)]
    assert all("refused" in metric for metric in metrics)
    json.dumps(metrics, allow_nan=False)


def test_one_patient_alone_has_a_value_and_no_interval():
    metric = average_per_patient([0.25, 0.75], ["a", "a"])
    assert metric == {"mean": 0.5, "ci95": None, "n": 1, "per_patient": {"a": 0.5}}
    assert average_per_patient([math.nan], ["a"])["refused"] == "the value of a is not finite"
    told = average_per_patient([math.inf, 1.0, math.nan], ["equal", "b", "c"])["refused"]
    assert told == "the value of equal and of 1 more is not finite"
    assert "refused" in average_per_patient([], [])


def test_sums_of_complex_draws_have_the_complex_mean_and_the_variance_of_both_parts():
    draws = torch.randn(5, 3, 4, dtype=torch.complex64)
    sums = Sums()
    for draw in draws:
        sums.add(draw)
    assert torch.allclose(sums.mean, draws.mean(0).to(torch.complex128))
    both = draws.real.var(0) + draws.imag.var(0)
    assert torch.allclose(sums.std() ** 2, both, rtol=1e-4)
