"""How far a prior is trusted is chosen by samples of the scan that were kept back."""

import dataclasses

import pytest
import torch

from radiffuse import papers
from radiffuse.acquisition import MRI
from radiffuse.acquisition.splitting import centre_of
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.reconstruction import by_scan
from radiffuse.applications.reconstruction.by_scan import (
    PRIOR,
    Stack,
    classical,
    parted,
    remembered,
    stacked,
    weights_of,
)
from radiffuse.applications.reconstruction.evaluate import evaluate_reconstruction
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError
from radiffuse.metrics.fidelity import nmse

SIZE = (32, 32)


def brains(count=2, size=32):
    return open_cases(f"brains:count={count},size={size}", mapping={"image": "t1"})


def scan(mask="gaussian-columns", rows=(0, 1), **more):
    images = (brains().batch(list(rows))["image"] + 1) / 2
    scanner = MRI(mask, acceleration=2.0, calibration=8, coils=4, refinements=0, **more)
    return scanner.simulate(images, [1 + row for row in rows]), images


def answering(x):
    """A prior whose draws are an image under noise, and which says so of their mean."""

    def draw(acquired, seeds):
        torch.manual_seed(seeds[0] % 1000)
        return x + 0.05 * torch.randn_like(x), x

    return draw


# ------------------------------------------------------------------------------- what is kept back
@pytest.mark.parametrize("mask", ["gaussian-columns", "uniform-points"])
def test_a_part_outside_of_the_calibration_region_is_kept_back(mask):
    acquired, _ = scan(mask)
    rest, kept = parted(acquired, 0.2)
    assert torch.equal(kept | rest.mask, acquired.mask.expand_as(kept))
    assert not bool((kept & rest.mask).any())
    assert bool(kept.flatten(1).any(1).all())
    for one, sampled in zip(kept.split(1), acquired.mask.split(1), strict=True):
        assert not bool((one & centre_of(sampled, True)).any())
    y = rest.measurement.y
    assert float((y * kept).abs().max()) == 0
    x = torch.randn(2, 1, *SIZE)
    assert float((rest.measurement.A(x) * kept).abs().max()) == 0
    assert torch.allclose(rest.measurement.A(x), acquired.measurement.A(x) * rest.mask)
    if mask == "gaussian-columns":
        columns = kept.any(2, keepdim=True)
        assert torch.equal(kept, columns & acquired.mask), "lines are kept back whole"


def test_what_is_kept_back_of_a_scan_does_not_depend_on_its_batch():
    both, _ = scan()
    alone, _ = scan(rows=(1,))
    assert torch.equal(parted(both, 0.2)[1][1:], parted(alone, 0.2)[1])


def test_rows_are_lines_too():
    acquired, _ = scan()
    turned = dataclasses.replace(
        acquired,
        mask=acquired.mask.transpose(2, 3),
        measurement=dataclasses.replace(
            acquired.measurement, y=acquired.measurement.y.transpose(2, 3)
        ),
    )
    _, kept = parted(turned, 0.2)
    assert torch.equal(kept, kept.any(3, keepdim=True) & turned.mask)


# ----------------------------------------------------------------------------------------- weights
def test_weights_are_those_that_predict_best_and_add_to_one():
    torch.manual_seed(0)
    p = torch.randn(3, 2, 1, 20, dtype=torch.complex64)
    kept = torch.stack([0.3 * p[0, 0] + 0.7 * p[2, 0], p[1, 1]])
    found = weights_of(p, kept).float()
    wanted = torch.tensor([[0.3, 0.0], [0.0, 1.0], [0.7, 0.0]])
    assert torch.allclose(found, wanted, atol=1e-4)
    away = weights_of(p, kept + 5 * torch.randn_like(kept))
    assert torch.allclose(away.sum(0), torch.ones(2, dtype=torch.float64))
    assert bool((away >= 0).all())
    # half of what would be best alone, were the sum not held
    assert torch.allclose(weights_of(p[:1], 0.5 * p[0]).float(), torch.ones(1, 2))


def test_a_prior_that_fits_is_taken_and_one_that_does_not_is_left():
    acquired, truth = scan()
    rest = classical(acquired)
    best = min(float(nmse(x, truth).mean()) for x in rest.values())
    close = truth + 0.5 * (rest["l1_wavelet 0.004"] - truth)
    right = stacked(answering(close), acquired, 0.2)
    assert float(right.weights[PRIOR].min()) > 0.8
    wrong = stacked(answering(truth.flip(2).roll(3, 3)), acquired, 0.2)
    assert float(wrong.weights[PRIOR].max()) < 0.1
    _, mean = wrong.applied(*answering(truth.flip(2).roll(3, 3))(acquired, [1, 2]))
    assert float(nmse(mean, truth).mean()) < 1.1 * best
    assert float(wrong.errors[PRIOR].min()) > float(right.errors[PRIOR].max())
    said = wrong.said()
    assert set(said) == {"prior_weight", "prior_misses", "classical_misses"}
    assert bool((said["classical_misses"] < said["prior_misses"]).all())


def test_draws_keep_their_distance_from_what_their_chain_tells():
    ones = torch.ones(1, 1, 2, 2)
    stack = Stack({PRIOR: torch.tensor([0.25])}, {PRIOR: torch.zeros(1)}, 0.75 * 3 * ones)
    x, mean = stack.applied(1.5 * ones, 1.0 * ones)
    assert torch.allclose(mean, (0.25 * 1 + 0.75 * 3) * ones)
    assert torch.allclose(x - mean, 0.5 * ones)
    told = 1.0 * ones  # a chain that tells no mean
    x, mean = stack.applied(told, told)
    assert x is mean and torch.allclose(mean, 2.5 * ones)


def test_draws_of_one_scan_ask_it_once(monkeypatch):
    acquired, truth = scan()
    asked = []
    monkeypatch.setattr(by_scan, "stacked", lambda *words: asked.append(words) or len(asked))

    class Prior:
        pass

    one, two = Prior(), Prior()
    draw = answering(truth)
    assert remembered(one, "a", draw, acquired, 0.2) == remembered(one, "a", draw, acquired, 0.2)
    assert len(asked) == 1
    remembered(two, "a", draw, acquired, 0.2)
    remembered(one, "b", draw, acquired, 0.2)
    remembered(one, "a", draw, scan(rows=(1, 0))[0], 0.2)
    assert len(asked) == 4


# ---------------------------------------------------------------------------------------- a recipe
@pytest.fixture(scope="module")
def prior():
    cases = brains()
    recipe = papers.by_id("score-mri").load().tiny().fitted(cases.facts())
    torch.manual_seed(0)
    return dataclasses.replace(
        recipe, solver="probed", highest=2.0, steps=3, acceleration=2.0, kept_back=0.2
    )


def test_a_prediction_says_how_far_the_prior_was_trusted(prior):
    batch = {"image": brains().batch([0, 1])["image"], "seed": torch.tensor([1, 2])}
    objective = prior.objective()
    found = prior.predict(objective, batch)
    for key in ("prior_weight", "prior_misses", "classical_misses"):
        assert found[key].shape == (2,) and bool(torch.isfinite(found[key]).all())
    # an untrained network knows nothing
    assert float(found["prior_weight"].max()) < 0.5
    alone = dataclasses.replace(prior, kept_back=0.0).predict(objective, batch)
    assert "prior_weight" not in alone
    truth = (batch["image"] + 1) / 2
    errors = [nmse((each["image"] + 1) / 2, truth).mean() for each in (found, alone)]
    assert float(errors[0]) < float(errors[1])
    again = prior.predict(objective, {key: value[1:] for key, value in batch.items()})
    assert torch.allclose(again["image"], found["image"][1:], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measurement": "noise"}, "kept_back=0"),
        ({"acceleration": 4.0, "calibration": 8}, "no sample outside"),
    ],
)
def test_a_scan_that_can_keep_nothing_back_is_said_in_one_line(prior, changes, words):
    batch = {"image": brains().batch([0])["image"], "seed": torch.tensor([1])}
    recipe = dataclasses.replace(prior, **changes)
    with pytest.raises(UserError, match=words) as error:
        recipe.predict(recipe.objective(), batch)
    assert "\n" not in str(error.value)


def test_an_evaluation_says_how_far_the_prior_was_trusted(prior):
    cases = brains(4)
    recipe = dataclasses.replace(prior, samples=2)
    record = evaluate_reconstruction(
        recipe, recipe.objective(), cases, cases, Asked(count=2), baselines={}
    )
    assert record["method"]["prior_weight"]["n"] == record["method"]["psnr"]["n"]
    assert record["method"]["prior_weight"]["mean"] < 0.5
    plain = dataclasses.replace(recipe, kept_back=0.0)
    alone = evaluate_reconstruction(
        plain, plain.objective(), cases, cases, Asked(count=2), baselines={}
    )
    assert "prior_weight" not in alone["method"]
    assert record["method"]["psnr"]["mean"] > alone["method"]["psnr"]["mean"]


def test_the_refined_image_of_diffuse_recon_keeps_nothing_back():
    small = papers.by_id("diffuse-recon").load().tiny()
    with pytest.raises(UserError, match="refined image"):
        dataclasses.replace(small, kept_back=0.1)
    assert dataclasses.replace(small, kept_back=0.1, solver="probed").kept_back
