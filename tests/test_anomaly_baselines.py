"""Baselines of anomaly detection: each finds what it must, and is told and trained as much as the method."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from radiffuse import papers
from radiffuse.applications.anomaly import autoencoders as autoencoders
from radiffuse.applications.anomaly import baselines as baselines
from radiffuse.applications.anomaly import rivals as rivals
from radiffuse.applications.anomaly.anoddpm import AnoDDPM
from radiffuse.applications.anomaly.attribution import (
    Attributed,
    grad_cam,
    integrated_gradients,
    plain_classifier,
)
from radiffuse.applications.anomaly.autoencoders import (
    Autoencoder,
    DenoisingAutoencoder,
    Reconstruction,
    coarse_noise,
    cut_to_body,
)
from radiffuse.applications.anomaly.led import class_loss
from radiffuse.applications.anomaly.rivals import (
    Sound,
    guide_of,
    plain_ddpm,
    rivals_of,
    sound_cases,
)
from radiffuse.applications.anomaly.swiss_army import SwissArmy
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.segmentation.segmenter import Segmenter
from radiffuse.applications.supervised import Rival, direct_unet, shares, trained_beside
from radiffuse.data.dataset import from_iterable, open_cases
from radiffuse.errors import UserError
from radiffuse.training.options import TrainOptions

SIDE = 16
QUICK = TrainOptions(
    steps=60, batch=16, learning_rate=3e-3, warmup=5, cooldown=0.3, ema=(0.05,), seed=1
)


@pytest.fixture
def narrow(monkeypatch):
    """U-Nets of eight channels, for tests that train them."""
    small = functools.partial(direct_unet, width=8, multiples=(1, 2))
    for room in (autoencoders, rivals):
        monkeypatch.setattr(room, "direct_unet", small)


def squares(n=48, sick=0.5, seed=0):
    """Grey noise in which the first share `sick` has a bright square somewhere: images and masks."""
    draw = torch.Generator().manual_seed(seed)
    image = 0.1 * torch.randn(n, 1, SIDE, SIDE, generator=draw)
    mask = torch.zeros(n, 1, SIDE, SIDE, dtype=torch.uint8)
    for row in range(round(sick * n)):
        y, x = torch.randint(SIDE - 4, (2,), generator=draw).tolist()
        mask[row, :, y : y + 4, x : x + 4] = 1
    return image.clamp(-0.5, 0.5) + 0.9 * mask.float() - 0.2, mask


def cases_of(image, mask, **more):
    """In-memory cases whose images are already on [-1, 1]."""
    items = [
        {"image": one, "mask": its, **{key: value[row] for key, value in more.items()}}
        for row, (one, its) in enumerate(zip(image, mask, strict=True))
    ]
    return from_iterable(items, range=(-1, 1))


def trained_on(make, cases, folder, options=QUICK, name="it"):
    return trained_beside({name: Rival(make, cases, options)}, folder)[name]


# ------------------------------------------------------------------------------- denoising auto-encoder
def hats(side, points):
    """Weights (side, points) of linear interpolation between points from border to border."""
    at = np.linspace(0, points - 1, side)
    return np.stack([np.interp(at, np.arange(points), row) for row in np.eye(points)], 1)


def test_the_noise_has_the_spectrum_of_linear_interpolation_between_independent_points():
    """Power of each frequency, which no shift changes: the product over axes of that of the weights."""
    like = torch.zeros(3000, 1, 24, 32)
    drawn = coarse_noise(like, std=0.5, grid=8).double().numpy()
    found = (np.abs(np.fft.fft2(drawn)) ** 2).mean((0, 1))
    along = [(np.abs(np.fft.fft(hats(*n), axis=0)) ** 2).sum(1) for n in ((24, 6), (32, 8))]
    expected = 0.25 * np.outer(*along)
    strong = expected > 1e-3 * expected.max()
    assert strong.sum() > 30
    assert found[strong] == pytest.approx(expected[strong], rel=0.15)
    assert found.sum() == pytest.approx(expected.sum(), rel=0.02)


def test_the_noise_is_alike_everywhere_for_its_points_lie_elsewhere_each_time():
    like = torch.zeros(8, 1, 32, 32)
    drawn = torch.cat([coarse_noise(like, std=1.0, grid=4) for _ in range(400)])
    variance = drawn.var(0)[0]
    assert float(variance.mean()) == pytest.approx((2 / 3) ** 2, rel=0.15)
    assert float(variance.std() / variance.mean()) < 0.12, "0.4 where points stay"


@pytest.mark.parametrize(
    ("size", "points"), [((128, 128), [16, 16]), ((64, 32), [16, 8]), ((16, 16), [4, 4])]
)
def test_sixteen_points_of_the_longest_side_four_pixels_apart_at_least(size, points, monkeypatch):
    shapes = []
    plain = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *s, **o: shapes.append(s) or plain(*s, **o))
    coarse_noise(torch.zeros(2, 1, *size))
    assert shapes == [(2, 1, *points)]
    assert pytest.approx(2 * 0.2) == autoencoders.STD, "the paper's deviation for [0, 1]"


def test_only_the_body_is_noised_and_learned():
    image, _ = squares(4, 0)
    image[..., :8] = -1
    objective = DenoisingAutoencoder(1, (SIDE, SIDE))
    heard = []

    def hear(module, told, out):
        heard.append(told[0])
        out.register_hook(heard.append)

    objective.players["network"].register_forward_hook(hear)
    ((_, loss),) = objective.losses({"image": image})
    loss.backward()
    told, gradient = heard
    assert torch.equal(told[..., :8], image[..., :8])
    assert float((told - image)[..., 8:].std()) > 0.1
    assert float(gradient[..., :8].abs().max()) == 0 and float(gradient[..., 8:].abs().min()) > 0


def test_the_map_is_the_median_inside_the_body():
    image = torch.full((1, 1, SIDE, SIDE), -1.0)
    image[..., 3:, :] = 0
    found = torch.zeros_like(image)
    found[..., 10, 10] = 5.0  # one voxel alone is noise
    found[..., 8:13, 2:7] = 1.0
    found[..., :5, :] = 7.0  # beside the border of the body
    cut = cut_to_body(found, image)
    assert float(cut[..., 10, 10]) == 0 and float(cut[..., 10, 4]) == 1
    assert float(cut[..., :5, :].max()) == 0
    volume = torch.zeros(1, 1, 8, 8, 8)
    assert cut_to_body(volume + 2, volume).min() == 2, "the border of the image is none of the body"


def test_a_trained_denoiser_removes_a_blob(tmp_path, narrow):
    healthy = cases_of(*squares(64, 0))
    torch.manual_seed(0)
    auto = trained_on(lambda: DenoisingAutoencoder(1, (SIDE, SIDE)), healthy, tmp_path)
    image, mask = squares(24, 0.5, seed=5)
    found = auto.predict({"image": image})
    assert average_precision_score(mask.flatten(), found.flatten()) > 0.6
    inside = float(found[mask > 0].mean())
    assert inside > 4 * float(found[mask == 0].mean())


# ------------------------------------------------------------------------------------- auto-encoders
@pytest.mark.parametrize("variational", [False, True])
def test_auto_encoders_do_not_rebuild_a_blob(variational, tmp_path):
    healthy = cases_of(*squares(64, 0))
    auto = trained_on(
        lambda: Autoencoder(Reconstruction(1, (SIDE, SIDE), variational)), healthy, tmp_path
    )
    image, mask = squares(24, 0.5, seed=5)
    found = auto.predict({"image": image})
    assert average_precision_score(mask.flatten(), found.flatten()) > 0.8


@pytest.mark.parametrize("size", [(24,), (9, 15), (8, 8, 8)])
@pytest.mark.parametrize("variational", [False, True])
def test_auto_encoders_of_any_size(size, variational):
    images = torch.randn(4, 2, *size)
    model = Autoencoder(Reconstruction(2, size, variational))
    assert model.predict({"image": images}).shape == (4, 1, *size)
    assert bool(model.players["network"](images)[1] > 0) == variational
    denoising = DenoisingAutoencoder(2, size)
    ((_, loss),) = denoising.losses({"image": images})
    assert torch.isfinite(loss) and denoising.predict({"image": images}).shape == (4, 1, *size)


@pytest.mark.parametrize(
    "make",
    [
        lambda outside: Autoencoder(Reconstruction(1, (SIDE, SIDE), True), outside),
        lambda outside: DenoisingAutoencoder(1, (SIDE, SIDE), outside),
    ],
)
def test_nothing_is_learned_inside_lesions_where_every_image_is_sick(make):
    image, mask = squares(6, 1.0)
    for outside in (True, False):
        objective, heard = make(outside), []

        def hear(module, told, out, heard=heard):
            (out[0] if isinstance(out, tuple) else out).register_hook(heard.append)

        objective.players["network"].register_forward_hook(hear)
        ((_, loss),) = objective.losses({"image": image, "mask": mask})
        loss.backward()
        assert (float(heard[0][mask > 0].abs().max()) == 0) == outside
        assert float(heard[0][mask == 0].abs().max()) > 0


# --------------------------------------------------------------------------------------- attribution
def test_integrated_gradients_add_up_to_the_difference_of_the_scores():
    """Exactly where the gradient is linear in the image (Sundararajan et al. 2017, completeness)."""
    weights = torch.randn(1, 2, 6, 5)
    image, reference = torch.randn(3, 2, 6, 5), torch.randn(1, 2, 6, 5)
    reference[..., 0] = image[:1, ..., 0]

    def score(x):
        return (weights * x).flatten(1).sum(1).square() + x.flatten(1).sum(1)

    found = integrated_gradients(score, image, reference, points=3)
    assert torch.allclose(found.flatten(1).sum(1), score(image) - score(reference), atol=1e-3)
    assert float(found[0, ..., 0].abs().max()) == 0, "what is as in the reference adds nothing"


def test_grad_cam_weighs_features_by_their_mean_gradient():
    image = torch.randn(2, 2, 8, 8)

    def score(h):
        return 3 * h[:, 0].flatten(1).mean(1) - h[:, 1].flatten(1).mean(1)

    found = grad_cam(lambda x: x, score, image)
    by_hand = (3 * image[:, :1] - image[:, 1:]).clamp_min(0) / 64
    assert torch.allclose(found, by_hand, atol=1e-6)
    halves = grad_cam(lambda x: torch.nn.functional.avg_pool2d(x, 2), score, image)
    assert halves.shape == (2, 1, 8, 8)


def test_the_score_is_the_log_odds_of_not_being_healthy():
    read = torch.randn(5, 3)
    s = Attributed(plain_classifier(1, (8, 8), 3), class_loss(1), 1).sickness(read)
    assert torch.allclose(torch.sigmoid(-s), read.softmax(1)[:, 1])


def test_a_trained_classifier_says_where_the_squares_are(tmp_path):
    """Told which images have one, not where."""
    cases = cases_of(*squares(128))
    objective = trained_on(
        lambda: Attributed(plain_classifier(1, (SIDE, SIDE), 2), class_loss(0), 0),
        cases,
        tmp_path,
    )
    image, mask = squares(32, 0.5, seed=7)
    found = baselines.answers_of({"classifier": objective}, image, torch.zeros(1, 1, 1, 1), 8)
    assert set(found) == {"integrated_gradients", "grad_cam"}
    sick = mask.flatten(1).any(1)
    by_chance = float(mask.double().mean())
    for name, times in (("integrated_gradients", 15), ("grad_cam", 8)):
        assert roc_auc_score(sick, found[name].scores) > 0.95
        precision = average_precision_score(mask.flatten(), found[name].maps.flatten())
        assert precision > times * by_chance, name
    assert not any(p.requires_grad for p in objective.players["network"].parameters())


# -------------------------------------------------------------------------- what is fitted to health
def test_fitted_baselines_find_what_is_bright(hasty_features):
    healthy = 0.1 * torch.randn(40, 1, 16, 16)
    images = 0.1 * torch.randn(20, 1, 16, 16)
    images[:10, :, 4:8, 4:8] += 1.5
    found = baselines.fitted_baselines(healthy, images, fingerprint="x" * 12)
    assert set(found) == {"brightness", "intensity", "atlas", "nearest_features", "patches"}
    sick = torch.arange(20) < 10
    for name, each in found.items():
        assert each.scores.shape == (20,)
        if name != "nearest_features":
            assert roc_auc_score(sick, each.scores) > 0.95, name
        if each.maps is not None:
            assert each.maps.shape == images.shape
            inside = each.maps[:10, :, 4:8, 4:8].mean()
            assert inside > 1.2 * each.maps[10:, :, 4:8, 4:8].mean(), name


def test_baselines_of_sick_images_learn_nothing_from_their_lesions(hasty_features):
    """Every image has the same bright lesion: known only to whom it is not hidden from."""
    images = 0.1 * torch.randn(40, 1, 16, 16)
    images[:, :, 4:12, 4:12] += 1.5
    lesions = torch.zeros(40, 1, 16, 16, dtype=torch.bool)
    lesions[:, :, 4:12, 4:12] = True
    told = baselines.fitted_baselines(images, images[:5], fingerprint="x" * 12, lesions=lesions)
    blind = baselines.fitted_baselines(images, images[:5], fingerprint="x" * 12)
    assert set(blind) - set(told) == {"nearest_features"}
    for name in ("atlas", "patches"):
        inside = [float(each[name].maps[:, :, 5:11, 5:11].mean()) for each in (told, blind)]
        assert inside[0] > 1.5 * inside[1], name


# ------------------------------------------------------------------ which stand beside which method
HEALTH = {"autoencoder", "vae", "denoising_autoencoder"}
TOLD = {
    ("anoddpm", ""): set(),
    ("fast-anomaly", ""): set(),
    ("diff-scm", ""): {"classifier"},
    ("diffusion-anomaly", ""): {"classifier"},
    ("swiss-army", "class"): {"classifier"},
    ("swiss-army", "regression"): {"regression"},
    ("swiss-army", "segmentation"): {"supervised_unet"},
}


@pytest.fixture(scope="module")
def brains():
    mapping = {"image": "t2", "mask": "lesion"}
    return open_cases("brains:count=60,size=16,lesions=0.5,label=lesion", mapping=mapping)


def fitted(method, guide, cases):
    recipe = papers.by_id(method).load().tiny().fitted(cases.facts())
    return dataclasses.replace(recipe, guide=guide) if guide else recipe


def test_every_method_of_the_room_is_in_the_table():
    there = {
        name for name in papers.implemented() if papers.by_id(name).load().task.name == "anomaly"
    }
    assert there == {method for method, _ in TOLD}


@pytest.mark.parametrize(("method", "guide"), TOLD)
def test_beside_each_method_stands_one_that_is_told_as_much(method, guide, brains):
    """And all have the budget of the method: its minutes, its steps, its batch."""
    train = brains.split("train")
    recipe = fitted(method, guide, brains)
    run = TrainOptions(minutes=24.0, steps=7000, batch=6, mirror=(0,), precision="bf16", seed=3)
    sound = sound_cases(train, recipe.healthy)
    found = rivals_of(recipe, train, sound, Asked(trained=run))
    assert set(found) == HEALTH | TOLD[method, guide] | {"plain_ddpm"}
    for name, rival in found.items():
        for option in ("minutes", "steps", "batch", "mirror", "precision"):
            assert getattr(rival.options, option) == getattr(run, option), (name, option)
        told = rival.cases.batch(range(len(rival.cases)))["mask"].flatten(1).any(1)
        assert bool(told.any()) == (name in TOLD[method, guide]), (
            "sick cases only where labels are told"
        )
        ((_, loss),) = rival.make().losses(rival.cases.batch(range(4)))
        assert torch.isfinite(loss)


def test_a_method_led_by_nothing_has_no_guide(brains):
    assert guide_of(AnoDDPM()) == "" and plain_ddpm(AnoDDPM(noise="gaussian")) is None
    assert plain_ddpm(AnoDDPM()) == AnoDDPM(noise="gaussian")


def test_the_supervised_unet_answers_with_the_probability_of_any_lesion(brains, tmp_path, narrow):
    recipe = fitted("swiss-army", "segmentation", brains)
    train = brains.split("train")
    rival = rivals_of(recipe, train, Sound(train), Asked(options=QUICK))["supervised_unet"]
    unet = rival.make()
    assert isinstance(unet, Segmenter) and unet.labels == recipe.mask_classes - 1
    image, mask = squares(64)
    told = cases_of(image, mask)
    unet = trained_on(rival.make, told, tmp_path)
    image, mask = squares(24, 0.5, seed=9)
    found = baselines.answers_of({"supervised_unet": unet}, image, image[:1], 8)
    maps = found["supervised_unet"].maps
    assert maps.shape == mask.shape and bool(((maps >= 0) & (maps <= 1)).all())
    assert average_precision_score(mask.flatten(), maps.flatten()) > 0.9


def test_the_regression_is_told_the_size_of_the_lesion(brains):
    train = brains.split("train")
    recipe = fitted("swiss-army", "regression", brains)
    assert isinstance(recipe, SwissArmy)
    objective = rivals_of(recipe, train, Sound(train), Asked(options=QUICK))["regression"].make()
    batch = train.batch(range(8))
    share = (batch["mask"] > 0).double().flatten(1).mean(1).sqrt()

    class Knows(torch.nn.Module):
        def forward(self, x, clock):
            return share[:, None].float()

    objective.players["network"] = Knows()
    ((_, loss),) = objective.losses(batch)
    assert float(loss) == pytest.approx(0, abs=1e-9)
    assert torch.equal(objective.sickness(share[:, None]), share), "the larger, the sicker"


def test_health_is_learned_from_healthy_cases_or_outside_lesions():
    image, mask = squares(20, 0.5)
    some = sound_cases(cases_of(image, mask), 0)
    assert len(some.cases) == 10 and not some.outside
    every = sound_cases(cases_of(*squares(20, 0.8)), 0)
    assert len(every.cases) == 20 and every.outside, "four healthy ones are too few"
    with pytest.raises(UserError, match=r"0 healthy training cases.*the baselines need 8"):
        sound_cases(cases_of(*squares(6, 1.0)), 0)


# ------------------------------------------------------------------------------------- the budget
def test_what_is_trained_and_how_long_is_said_once(tmp_path, capsys):
    healthy = cases_of(*squares(12, 0))
    options = dataclasses.replace(QUICK, steps=2)
    rival = Rival(lambda: Autoencoder(Reconstruction(1, (SIDE, SIDE), False)), healthy, options)
    both = {"one": rival, "other_one": rival}
    trained_beside(both, tmp_path)
    said = capsys.readouterr().err
    assert "training what the method is compared with, once: one 2 steps, other_one 2 steps" in said
    assert (tmp_path / "baseline-other-one" / "log.jsonl").is_file()
    trained_beside(both, tmp_path)
    assert "once" not in capsys.readouterr().err


def test_initial_weights_depend_on_the_seed_of_the_options_alone(tmp_path, narrow):
    healthy = cases_of(*squares(12, 0))
    options = dataclasses.replace(QUICK, steps=1)

    def weights(folder, **changes):
        its = dataclasses.replace(options, **changes)
        made = trained_on(lambda: DenoisingAutoencoder(1, (SIDE, SIDE)), healthy, folder, its)
        return torch.cat([p.flatten() for p in made.players["network"].parameters()])

    first = weights(tmp_path / "a")
    torch.rand(5)
    assert torch.equal(weights(tmp_path / "b"), first)
    assert not torch.equal(weights(tmp_path / "c", seed=9), first)


@pytest.mark.parametrize(
    ("steps", "minutes", "parts"), [(10, None, 4), (3, 2.0, 3), (None, 20.0, 4)]
)
def test_networks_that_share_a_budget_take_it_together(steps, minutes, parts):
    each = shares(TrainOptions(steps=steps, minutes=minutes), 4)
    assert len(each) == parts and len({one.seed for one in each}) == parts
    assert steps is None or sum(one.steps for one in each) == steps
    assert minutes is None or math.fsum(one.minutes for one in each) == pytest.approx(minutes)
    assert sum(one.steps for one in shares(TrainOptions(), 4)) == 10_000
