"""Denoising: the simulations, self-fusion, both recipes, the measures and the files."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.denoising.baselines import BlindSpot, means, tuned_means
from radiffuse.applications.denoising.degrade import low_counts, noised
from radiffuse.applications.denoising.fusion import fusion_weights, moved, offset, self_fused
from radiffuse.applications.denoising.oct_ddpm import OCT
from radiffuse.applications.denoising.pet_ddpm import PET, Pulled
from radiffuse.applications.tuning import TRIALS
from radiffuse.data.cases import with_one_range
from radiffuse.data.checks import check_one_range
from radiffuse.data.dataset import Facts, from_iterable, open_cases
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.kernels import posterior
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.sample import DDPM, grids, prior
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UserError
from radiffuse.metrics.fidelity import psnr
from radiffuse.metrics.regions import Regions, activity_bias, cnr, enl, homogeneous_regions
from radiffuse.operators.blur import blurred
from radiffuse.testing import CorrelatedDenoiser, GaussianDenoiser, check_recipe

DATA = Path(__file__).parents[2] / "shared" / "data"
SIDE = 24


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def facts(size=(SIDE, SIDE), keys=("clean", "noisy", "mr"), **more):
    channels = dict.fromkeys(keys, 1) | more
    sizes = dict.fromkeys(channels, size)
    return Facts(tuple(channels), channels, sizes, 0, (), 0.5, -0.2, 9.0, 8)


# ------------------------------------------------------------------------------------ simulations
@pytest.mark.parametrize("counts", [5.0, 80.0])
def test_few_counts_have_the_mean_and_variance_of_poisson(counts):
    x = torch.tensor([-1.0, 0.0, 0.6]).reshape(1, 3, 1, 1).expand(2, 3, 200, 200)
    y = low_counts(x, counts, noise=Seeded([1, 2]))
    activity = (x + 1) / 2
    for channel in range(3):
        a = float(activity[0, channel, 0, 0])
        # y = 2 P/c - 1: mean 2 a - 1, variance 4 a / c
        error = 4 * math.sqrt(max(4 * a / counts, 0) / 80_000) + 1e-6
        assert float(y[:, channel].mean()) == pytest.approx(2 * a - 1, abs=error)
        assert float(y[:, channel].var()) == pytest.approx(4 * a / counts, rel=0.03)
    assert torch.equal(low_counts(x[1:], counts, noise=Seeded([2])), y[1:])  # by case
    each = low_counts(x, torch.tensor([5.0, 500.0]))
    assert float(each[0, 2].var() / each[1, 2].var()) == pytest.approx(100, rel=0.05)


def test_the_point_spread_function_has_its_width_and_keeps_the_counts():
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[..., 20, 20] = 1
    line = blurred(x, 5.0)[0, 0, 20]
    assert float(blurred(x, 5.0).sum()) == pytest.approx(1, abs=1e-6)
    half = float(line.max()) / 2
    # 5 voxels wide at half height: crossing 2.5 from the centre
    assert float(line[22]) > half > float(line[23])
    crossing = 2 + float((line[22] - half) / (line[22] - line[23]))
    assert crossing == pytest.approx(2.5, abs=0.05)
    assert torch.equal(blurred(x, 0.0), x)
    assert noised(x, 0.3, gaussian).std() == pytest.approx(0.3, rel=0.1)


# ------------------------------------------------------------------------------------ self-fusion
def layers(shift=0):
    """Bright layers, a blurred edge each, (64, 64)."""
    depth = torch.arange(64).double()[:, None] + 0 * torch.arange(64) - shift
    return torch.tanh((depth - 20) / 1.5) - 0.7 * torch.tanh((depth - 40) / 1.5) - 0.5


def stack(sigma=0.3, seed=0):
    """A B-scan, four neighbours that drift, all noisy."""
    clean = torch.stack([layers(s) for s in (0, -3, 2, 3, -2)])[:, None]
    noisy = clean + sigma * draws(*clean.shape, seed=seed)
    return layers()[None, None], noisy[:1], noisy[1:][None]


def error_in_decibel(x, clean):
    return -10 * math.log10(float((x - clean).square().mean()))


def test_self_fusion_removes_noise_and_keeps_edges():
    clean, image, beside = stack()
    fused = self_fused(image, beside)
    gained = error_in_decibel(fused, clean) - error_in_decibel(image, clean)
    assert gained > 4  # ideal: 10 log10 4 = 6 dB

    def sharpness(x):
        return float(x.mean(-1).diff(dim=-1).abs().max())

    assert sharpness(fused) > 0.8 * sharpness(clean)
    assert sharpness(beside.mean(1)) < 0.8 * sharpness(clean)  # without registration


def test_the_shift_of_a_neighbour_is_found():
    for by in ((3, -2), (0, 0), (-4, 1)):
        image = draws(1, 32, 32)
        assert offset(moved(image, by), image, 4) == tuple(-step for step in by)
    assert offset(moved(image, (4, 1)), image, 0) == (0, 0)
    assert offset(draws(1, 9, 8, 7), draws(1, 9, 8, 7), 2) == (0, 0, 0)


def test_weights_prefer_the_similar_neighbour_and_solve_their_equation():
    similar, other = 0.1 * draws(1, 1, 16, 16), 1 + 0.1 * draws(1, 1, 16, 16, seed=1)
    weights = fusion_weights(torch.stack([similar, other], 1), radius=2, alpha=0.1, beta=2)
    assert torch.allclose(weights.sum(1), torch.ones(1, 16, 16).double())
    assert (weights[:, 0] > 0.99).all()
    # one voxel, radius 0: M = |d_i d_j|^2 + alpha I, by hand
    d = torch.tensor([0.2, 0.5]).double()
    m = torch.outer(d, d) ** 2 + 0.01 * torch.eye(2).double()
    w = torch.linalg.solve(m, torch.ones(2).double())
    made = fusion_weights(d.reshape(1, 2, 1, 1), radius=0, alpha=0.01, beta=2)
    assert torch.allclose(made.flatten(), w / w.sum())


def test_alike_neighbours_are_averaged():
    """Noise falls by between 1 and sqrt(n); a large alpha makes weights equal."""
    flat = torch.zeros(1, 1, 40, 40).double()
    beside = draws(1, 4, 1, 40, 40)
    left = self_fused(flat + draws(1, 1, 40, 40, seed=9), beside, reach=0).std()
    assert 0.49 < float(left) < 1
    equal = self_fused(flat, beside, alpha=1e12, reach=0)
    assert torch.allclose(equal, beside.mean(1), atol=1e-6)


# ------------------------------------------------------------------------------------- oct-ddpm
def test_the_step_matches_the_noise():
    """The card's table: sigma at the authors' indices 41, 46, 48, 50 (from 0: steps 42 .. 51)."""
    recipe = OCT()
    std = torch.tensor([0.239, 0.268, 0.279, 0.291])
    assert recipe.entry(std).tolist() == [42, 47, 49, 51]
    assert recipe.entry(torch.tensor([1e-9, 5.0])).tolist() == [1, 100]
    assert dataclasses.replace(recipe, step=48).entry(std).tolist() == [48] * 4
    schedule = recipe.schedule()
    sigma = torch.exp(-schedule.log_ratio(recipe.entry(std) / 100))
    assert torch.allclose(sigma, std.double(), atol=1e-3)


@pytest.mark.parametrize("mode", ["one-shot", "chain"])
def test_a_gaussian_prior_gives_the_posterior_mean(mode):
    recipe = dataclasses.replace(OCT(), mode=mode)
    schedule = recipe.schedule()
    steps = torch.tensor([12, 42, 90])
    std = torch.exp(-schedule.log_ratio(steps / 100))
    y = draws(3, 1, 6, 5)
    denoiser = GaussianDenoiser(schedule, 0.3, 0.2)
    made = recipe.restored(denoiser, y, std, gaussian)
    s2 = std.reshape(3, 1, 1, 1) ** 2
    wanted = 0.3 + 0.04 / (0.04 + s2) * (y - 0.3)
    assert torch.allclose(made, wanted, atol=1e-9)


class Points(Denoiser):
    """The exact denoiser of pixels that are -0.5 or 0.5."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t, t):
        alpha, sigma = self.schedule(t, x_t)
        return 0.5 * torch.tanh(0.5 * alpha * x_t / sigma**2)


def test_the_best_step_grows_with_the_noise_and_a_later_one_removes_more():
    clean = 0.5 * draws(1, 1, 60, 60).sign()
    best = []
    for sigma in (0.15, 0.3):
        y = clean + sigma * draws(1, 1, 60, 60, seed=1)
        errors, removed = {}, []
        for step in range(2, 101, 4):
            recipe = dataclasses.replace(OCT(), step=step)
            x = recipe.restored(Points(recipe.schedule()), y, torch.ones(1), gaussian)
            errors[step] = float((x - clean).square().mean())
            smooth = recipe.restored(
                GaussianDenoiser(recipe.schedule(), 0.0, 0.5), y, torch.ones(1), gaussian
            )
            removed.append(float((y - smooth).abs().mean()))
        best.append(min(errors, key=errors.get))
        matched = int(OCT().entry(torch.tensor([sigma])))
        assert abs(best[-1] - matched) <= 8
        first = dataclasses.replace(OCT(), step=1)
        x = first.restored(Points(first.schedule()), 0.5 + 0 * y, torch.ones(1), gaussian)
        assert float((x - 0.5).abs().max()) < 1e-6  # brightness is kept
        assert removed == sorted(removed) and removed[-1] > 10 * removed[0]
    assert best[1] > best[0]


def test_training_sees_fused_scans_of_volumes_and_of_numbered_slices():
    volume = facts((20, 20, 9), ("noisy",))
    recipe = OCT.tiny().fitted(volume)
    assert recipe.learns == "fused" and recipe.size == (16, 16, 1)
    torch.manual_seed(0)
    scans = draws(2, 1, 20, 20, 9).float()
    image = recipe.examples({"noisy": scans})["image"]
    assert image.shape == (4, 1, 16, 16) and float(image.std()) < 0.8  # noise fused away
    numbered = facts((20, 20), ("noisy",), noisy_neighbours=4)
    recipe = OCT.tiny().fitted(numbered)
    assert recipe.learns == "fused" and recipe.size == (16, 16)
    batch = {
        "noisy": scans[..., 2],
        "noisy_neighbours": scans[:, 0].movedim(-1, 1)[:, [0, 1, 3, 4]],
    }
    image = recipe.examples(batch)["image"]
    assert image.shape == (4, 1, 16, 16) and float(image.std()) < 0.8
    clean = OCT.tiny().fitted(facts(keys=("noisy", "clean")))
    batch = {"clean": torch.zeros(2, 1, SIDE, SIDE), "noisy": torch.ones(2, 1, SIDE, SIDE)}
    assert not clean.examples(batch)["image"].any()  # no noisy image, no pair
    with pytest.raises(UserError, match="no clean images to learn from: number the B-scans"):
        OCT.tiny().fitted(facts(keys=("noisy",)))


def test_level_and_batch_of_a_case():
    """Each case enters at its own level, the same alone and in a batch; larger than the window."""
    recipe = OCT.tiny().fitted(facts((37, 50), ("noisy", "clean")))
    objective = recipe.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    clean = torch.zeros(3, 1, 37, 50)
    y = clean + torch.tensor([0.05, 0.2, 0.4]).reshape(3, 1, 1, 1) * draws(3, 1, 37, 50).float()
    assert recipe.noise_level(y).tolist() == pytest.approx([0.05, 0.2, 0.4], rel=0.1)
    batch = {"noisy": y, "seed": torch.arange(3)}
    made = recipe.predict(objective, batch)["denoised"]
    assert made.shape == y.shape
    alone = recipe.predict(objective, {k: v[2:] for k, v in batch.items()})["denoised"]
    assert torch.allclose(alone, made[2:], atol=1e-5)
    more = dataclasses.replace(recipe, strength=1.5).noise_level(y)
    assert torch.allclose(more, 1.5 * recipe.noise_level(y))


# -------------------------------------------------------------------------------------- pet-ddpm
def test_without_a_prior_the_pull_is_geometric():
    """Noise 0 predicted and no noise added: the distance to y shrinks by 1 - sigma^2/sigma_d^2."""

    class Free(Denoiser):
        schedule = Discrete.linear(50)

        def forward(self, x_t, t):
            alpha, _ = self.schedule(t, x_t)
            return x_t / alpha

    y, x = draws(2, 1, 4, 4), draws(2, 1, 4, 4, seed=1)
    spread = torch.tensor([1.2, 2.4])
    sampler = Pulled(Free(), torch.zeros_like, y, spread)
    for t, s in ((1.0, 0.98), (0.6, 0.5)):
        t, s = torch.tensor(t).double(), torch.tensor(s).double()
        made, _ = sampler.step(x, t, s, None)
        mean, variance, _ = posterior(Free.schedule, x, Free()(x, t), t, s)
        rate = variance / spread.reshape(2, 1, 1, 1) ** 2
        assert torch.allclose(made - mean, rate * (y - x))
        assert float(rate[0].max() / rate[1].max()) == pytest.approx(4)
    tight = Pulled(Free(), torch.zeros_like, y, torch.tensor([1e-3, 1e-3]))
    made, _ = tight.step(x, t, s, None)
    assert torch.allclose(made, mean + (y - x))  # never beyond y
    last, _ = sampler.step(x, torch.tensor(0.02), torch.tensor(0.0), None)
    assert torch.allclose(last, Free()(x, torch.tensor(0.02)))  # no pull, no noise at the end


class Tissue:
    """Two tissues of random activity, their edges known: the card's toy, with its exact denoiser."""

    def __init__(self, cases=24):
        self.map = torch.zeros(64, 2).double()
        self.map[:40, 0], self.map[40:, 1] = 1, 1
        self.schedule = Discrete.linear(200)
        activity = torch.tensor([0.4, -0.2]) + 0.3 * draws(cases, 2)
        self.truth = activity @ self.map.mT
        covariance = 0.09 * self.map @ self.map.mT + 1e-4 * torch.eye(64).double()
        mean = torch.tensor([0.4, -0.2]).double() @ self.map.mT
        self.denoiser = CorrelatedDenoiser(self.schedule, mean, covariance)

    def noisy(self, sigma):
        return self.truth + sigma * draws(*self.truth.shape, seed=5)

    def denoised(self, y, spread, kind=Pulled):
        noise = Seeded(range(len(y)))
        sampler = kind(self.denoiser, noise, y, torch.full((len(y),), spread))
        return sampler(prior(self.schedule, y, noise), grids.uniform(200))

    def error(self, x):
        return float((x - self.truth).square().mean())


class Pushed(Pulled):
    """The sign of the reader's note: away from the measurement."""

    def step(self, x_t, t, s, state):
        mirrored = Pulled(self.denoiser, self.noise, 2 * x_t - self.y, self.spread.flatten())
        return mirrored.step(x_t, t, s, state)


def test_the_pull_recovers_the_activity_that_mr_does_not_show():
    toy = Tissue()
    y = toy.noisy(0.3)
    alone = toy.denoised(y, math.inf)
    pulled = toy.denoised(y, 0.5)
    assert toy.error(alone) > 0.05  # edges right, activity wrong
    assert toy.error(pulled) < 0.25 * toy.error(y)
    assert toy.error(pulled) < 0.25 * toy.error(alone)
    assert toy.error(toy.denoised(y, 0.5, Pushed)) > toy.error(alone)
    # the same network at twice the noise, by sigma_d alone
    y2 = toy.noisy(0.6)
    assert toy.error(toy.denoised(y2, 0.8)) < 0.25 * toy.error(y2)


def test_an_infinite_sigma_d_is_ancestral_sampling():
    toy = Tissue(4)
    y, noise = toy.noisy(0.3), Seeded(range(4))
    plain = DDPM(toy.denoiser, noise)(prior(toy.schedule, y, noise), grids.uniform(200))
    assert torch.equal(toy.denoised(y, math.inf), plain)


def test_what_the_network_is_told():
    batch = {
        "clean": torch.zeros(2, 1, SIDE, SIDE),
        "noisy": torch.full((2, 1, SIDE, SIDE), 0.5),
        "mr": torch.ones(2, 1, SIDE, SIDE),
    }
    values = {"mr-pull": [1.0], "pull": [], "pet": [0.5], "pet-mr": [0.5, 1.0], "mr": [1.0]}
    for told, wanted in values.items():
        recipe = dataclasses.replace(PET.tiny(), told=told).fitted(facts())
        made = recipe.examples(batch)
        assert not made["image"].any() and recipe.condition_channels == len(wanted)
        source = made.get("source")
        assert ([] if source is None else source[0, :, 0, 0].tolist()) == wanted
    simulated = dataclasses.replace(PET.tiny(), told="pet", counts=(4.0,)).fitted(facts())
    source = simulated.examples({"clean": torch.zeros(8, 1, SIDE, SIDE)})["source"]
    assert float(source.var()) == pytest.approx(4 * 0.5 / 4, rel=0.1)  # 4 a / c, a = 1/2


def test_every_variant_predicts_and_only_the_pull_reads_sigma_d():
    shape = (2, 1, SIDE, SIDE)
    batch = {"noisy": draws(*shape).float(), "mr": draws(*shape, seed=1).float()}
    batch["seed"] = torch.arange(2)
    for told in ("mr-pull", "pull", "pet", "pet-mr", "mr"):
        recipe = dataclasses.replace(PET.tiny(), told=told).fitted(facts())
        objective = recipe.objective()
        one = recipe.predict(objective, batch)["denoised"]
        other = dataclasses.replace(recipe, sigma_d=0.3).predict(objective, batch)["denoised"]
        assert torch.equal(one, other) == (told in ("pet", "pet-mr", "mr"))
    recipe = dataclasses.replace(PET.tiny(), told="mr-pull").fitted(facts())
    with pytest.raises(UserError, match="trained with the key mr; --map mr=COLUMN"):
        recipe.predict(objective, {k: v for k, v in batch.items() if k != "mr"})


@pytest.mark.parametrize("size", [(SIDE, SIDE + 1), (20, 17, 6)])
@pytest.mark.parametrize("kind", [OCT, PET])
def test_conformance(kind, size):
    """Flat images, and volumes slice by slice; noise given or made."""
    generator = torch.Generator().manual_seed(0)
    batch = {key: torch.rand(4, 1, *size, generator=generator) - 0.5 for key in ("clean", "mr")}
    if kind is OCT:
        batch["noisy"] = batch["clean"] + 0.2 * torch.randn(4, 1, *size, generator=generator)
    check_recipe(kind, facts(size, tuple(batch)), batch)


def test_volumes_by_windows_of_three_axes():
    generator = torch.Generator().manual_seed(0)
    recipe = dataclasses.replace(PET.tiny(), slicewise=False, window=8).fitted(facts((16, 12, 10)))
    assert recipe.size == (8, 8, 8)
    batch = {key: torch.rand(2, 1, 16, 12, 10, generator=generator) for key in ("clean", "mr")}
    objective = recipe.objective()
    ((_, loss),) = objective.losses(batch)
    made = recipe.predict(objective, {**batch, "seed": torch.arange(2)})["denoised"]
    assert bool(torch.isfinite(loss)) and made.shape == (2, 1, 16, 12, 10)


# --------------------------------------------------------------------------------------- measures
def known():
    """Left: flat 0.75 with a known ripple; right: black with a known ripple; (1, 36, 36)."""
    sign = (-1.0) ** (torch.arange(36)[:, None] + torch.arange(36))
    intensity = torch.where(torch.arange(36) < 18, 0.75 + 0.05 * sign, 0.1 + 0.02 * sign)
    return (2 * intensity - 1)[None].double()


def test_enl_and_cnr_of_known_regions():
    image = known()
    where = homogeneous_regions(image, side=6, count=4)
    columns = (where.signal % 6).tolist()
    assert all(column < 3 for column in columns), "tissue lies left"
    assert all(column >= 3 for column in (where.background % 6).tolist())
    images = image[None]
    assert float(enl(images, [where])) == pytest.approx((0.75 / 0.05) ** 2, rel=1e-6)
    wanted = 0.65 / math.sqrt((0.05**2 + 0.02**2) / 2)
    assert float(cnr(images, [where])) == pytest.approx(wanted, rel=1e-6)
    darker = 0.9 * (images + 1) - 1
    assert float(activity_bias(darker, images, [where])) == pytest.approx(-0.1)


def test_the_most_homogeneous_tissue_is_chosen():
    image = known()[0]
    image[:6, :6] = 0.5  # one block without ripple
    where = homogeneous_regions(image[None], side=6, count=1)
    assert where.signal.tolist() == [0] and isinstance(where, Regions)
    volume = homogeneous_regions(image.expand(1, 10, 36, 36), side=5, count=3)
    assert len(volume.signal) == 3


def test_non_local_means_and_the_strength_tuned_on_pairs():
    clean = layers()[None, None].float()
    y = clean + 0.2 * draws(*clean.shape).float()
    found = tuned_means([(y, clean)])
    weight = found.weight
    assert found.trials == TRIALS
    assert float(psnr(means(y, weight), clean, 2.0)) > float(psnr(y, clean, 2.0)) + 5
    volume = torch.stack([y, y + 0.01], dim=-1)
    assert torch.allclose(means(volume, 1.0, sliced=True)[..., 0], means(y, 1.0), atol=1e-6)


def test_the_blind_spot_is_blind():
    """What stands in a masked pixel changes the target alone, never the input."""
    seen = []

    class Look(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            seen.append(x.detach())
            return self.scale * x

    y = draws(2, 1, 16, 16).float()
    spot = BlindSpot(Look(), lambda batch: batch["noisy"], (16, 16))
    torch.manual_seed(4)
    ((_, loss),) = spot.losses({"noisy": y})
    mask = seen[0] != y
    assert float(mask.float().mean()) == pytest.approx(1 / 16)
    changed = torch.where(mask, y + 7.0, y)
    torch.manual_seed(4)
    ((_, larger),) = spot.losses({"noisy": changed})
    assert torch.allclose(seen[1], seen[0]) and float((larger - loss).detach()) > 10
    row, column = mask[0, 0, 5:12, 5:12].nonzero()[0].add(5).tolist()
    around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    mean = sum(y[0, 0, r, c] for r, c in around) / 4
    assert float(seen[0][0, 0, row, column]) == pytest.approx(float(mean), abs=1e-6)
    whole = draws(1, 1, 30, 21).float()
    assert torch.allclose(spot.predict(whole), whole, atol=1e-6)


# ---------------------------------------------------------------------------- by the command line
def command(*words):
    assert cli.main([str(word) for word in words]) == 0


def scans(count=12):
    """Clean layered images, noisy ones, and another contrast of the same, uint8."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, : SIDE + 8]
    clean = []
    for _ in range(count):
        top, width = draw.uniform(6, 10), draw.uniform(5, 8)
        clean.append(np.where((y > top) & (y < top + width), 180, 60 + x))
    clean = np.stack(clean) + draw.integers(0, 3, (count, SIDE, SIDE + 8))
    noisy = clean + draw.normal(0, 30, clean.shape)
    return (
        clean.astype(np.uint8),
        noisy.clip(0, 255).astype(np.uint8),
        (255 - clean).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    clean, noisy, mr = scans()
    path = tmp_path_factory.mktemp("data") / "scans.npz"
    split = np.array(["train"] * 8 + ["val"] + ["test"] * 3)
    np.savez(path, averaged=clean, single=noisy, t1=mr, split=split)
    return path


def whole_way(method, data, tmp_path, mapped, *words, steps=3):
    """train, predict, evaluate, report; the record of the evaluation."""
    run = tmp_path / "run"
    command("train", method, "--data", data, "--map", *mapped, "--preset", "tiny",
            "--train.steps", steps, "--train.batch", 2, "--out", run, *words)  # fmt: skip
    command("predict", run, "--out", tmp_path / "predicted", "--samples", 2)
    entries = json.loads((tmp_path / "predicted" / "predictions.json").read_text())["predictions"]
    assert all((tmp_path / "predicted" / f).is_file() for e in entries for f in e["files"].values())
    command("evaluate", run)
    record = json.loads((run / "metrics.json").read_text())
    assert record["task"] == "denoising"
    assert {"non-local means", "blind-spot network", "noisy"} <= set(record["baselines"])
    for level in record["levels"].values():
        for metric in ("psnr", "ssim", "cnr", "enl", "activity_bias"):
            assert "mean" in level["method"][metric], metric
    assert record["method"] == record["levels"][record["settings"]["level"]]["method"]
    assert record["settings"]["tuning_trials"] == {"tuned": TRIALS, "non-local means": TRIALS}
    last = [json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
            for folder in (run, run / "baseline-blind-spot")]  # fmt: skip
    assert last[0]["step"] == last[1]["step"] and last[0]["images"] == last[1]["images"]
    assert (run / "pictures" / "denoised.png").is_file()
    command("report", run)
    assert "Denoised" in (run / "report.html").read_text()
    return record


def test_oct_on_pairs(data, tmp_path):
    record = whole_way("oct-ddpm", data, tmp_path, ("noisy=single", "clean=averaged"))
    assert list(record["levels"]) == ["measured x 0.5", "measured x 1", "measured x 1.5"]
    noisy = [level["noisy"]["psnr"]["mean"] for level in record["levels"].values()]
    assert noisy[0] - noisy[1] == pytest.approx(20 * math.log10(2), abs=0.1)
    assert set(record["settings"]["strengths_on_training_pairs"]) >= {"0.5", "1", "2"}
    command("predict", tmp_path / "run", "--out", tmp_path / "chain", "--set", "mode=chain",
            "step=30", "--map", "noisy=single")  # fmt: skip


def test_oct_from_numbered_scans_alone(tmp_path):
    """Noisy B-scans, numbered: fused in training, and no clean image anywhere."""
    _, noisy, _ = scans(16)
    path = tmp_path / "volume.npz"
    numbers = np.array([f"{k % 8}" for k in range(16)])
    patients = np.array(["a"] * 8 + ["b"] * 8)
    split = np.array(["train"] * 8 + ["test"] * 8)
    np.savez(path, image=noisy, slice=numbers, patient=patients, split=split)
    run = tmp_path / "run"
    command("train", "oct-ddpm", "--data", path, "--map", "noisy=image", "--preset", "tiny",
            "--train.steps", 2, "--train.batch", 2, "--out", run)  # fmt: skip
    assert 'learns = "fused"' in (run / "config.toml").read_text()
    command("predict", run, "--out", tmp_path / "predicted")
    assert cli.main(["evaluate", str(run)]) == 1  # nothing to compare with, one line


def test_pet_with_simulated_counts(data, tmp_path):
    record = whole_way("pet-ddpm", data, tmp_path, ("clean=averaged", "mr=t1"), "--psf", 1.0)
    assert list(record["levels"]) == ["simulated 5", "simulated 20", "simulated 80"]
    noisy = [level["noisy"]["psnr"]["mean"] for level in record["levels"].values()]
    assert noisy == sorted(noisy) and "deviation_correlation" in record["method"]


def test_pet_volumes_in_slices_with_measured_noise(tmp_path):
    draw = np.random.default_rng(0)
    clean = draw.random((6, 16, 16, 11), dtype=np.float32).cumsum(1) / 16
    noisy = clean + draw.normal(0, 0.1, clean.shape).astype(np.float32)
    path = tmp_path / "volumes.npz"
    split = np.array(["train"] * 3 + ["val"] + ["test"] * 2)
    np.savez(path, pet=clean, low=noisy, t1=1 - clean, split=split)
    record = whole_way("pet-ddpm", path, tmp_path, ("clean=pet", "noisy=low", "mr=t1"), steps=2)
    assert record["settings"]["level"] == "measured x 1"
    ranges = (tmp_path / "run" / "config.toml").read_text()
    cases = with_one_range(
        open_cases(path, mapping={"clean": "pet", "noisy": "low"}), ("noisy", "clean")
    )
    assert cases.ranges["noisy"] == cases.ranges["clean"] and "noisy" in ranges


def real(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} of the development data")
    return path


def test_oct_on_real_scans(tmp_path):
    run = tmp_path / "run"
    command("train", "oct-ddpm", "--data", real("duke_sdoct"), "--map", "noisy=noisy",
            "clean=averaged", "--preset", "tiny", "--train.steps", 2, "--out", run,
            "--window", 64)  # fmt: skip
    command("predict", run, "--out", tmp_path / "out")
    files = list((tmp_path / "out").glob("*-denoised.png"))
    assert len(files) == 3
    from radiffuse.data.formats.by_ending import read_image

    assert read_image(files[0]).size == (450, 900)


def test_pet_on_real_volumes(tmp_path):
    """Axial slices of the PET and T1 averages, slabs apart; counts simulated."""
    import nibabel

    folder = real("spm_templates")
    pet, t1 = (
        np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj, dtype=np.float32)
        for name in ("PET", "avg152T1")
    )
    places = range(10, 80, 5)
    split = np.array(["train" if k < 60 else "test" for k in places])
    path = tmp_path / "slices.npz"
    pet, t1 = (
        np.stack([(255 * volume[..., k]).round().astype(np.uint8) for k in places])
        for volume in (pet, t1)
    )
    np.savez(path, pet=pet, t1=t1, split=split)
    run = tmp_path / "run"
    command("train", "pet-ddpm", "--data", path, "--map", "clean=pet", "mr=t1",
            "--preset", "tiny", "--train.steps", 2, "--out", run, "--window", 32)  # fmt: skip
    command("predict", run, "--out", tmp_path / "out", "--set", "level=5")
    assert len(list((tmp_path / "out").glob("*-denoised*"))) == 4


# ------------------------------------------------------------------------------------- bad input
def test_bad_input_is_one_clear_line(data, tmp_path, refused):
    def train(method, path, *words):
        return refused("train", method, "--data", path, "--preset", "tiny",
                       "--out", tmp_path / "run", *words)  # fmt: skip

    clean, noisy, _ = scans()
    sizes = tmp_path / "sizes.npz"
    np.savez(sizes, clean=clean, noisy=noisy[:, ::2])
    said = train("oct-ddpm", sizes, "--map", "clean=clean", "noisy=noisy")
    assert "clean is 24 x 32 and noisy is 12 x 32" in said
    assert "needs MR images: --map mr=COLUMN, or take --told pull" in train(
        "pet-ddpm", data, "--map", "clean=averaged"
    )
    assert "learns from images of many counts" in train("pet-ddpm", data, "--map", "noisy=single")
    with pytest.raises(UserError, match=r"neither clean nor noisy images .there are: mr."):
        OCT.tiny().fitted(facts(keys=("mr",)))
    assert "--window 30 does not divide by this network's stride 4; take 32" in train(
        "oct-ddpm", data, "--map", "clean=averaged", "--window", 30
    )
    assert "no clean images to learn from" in train("oct-ddpm", data, "--map", "noisy=single")
    pair = [{"clean": draws(1, 4, 4, seed=k), "noisy": draws(1, 4, 4, seed=9 + k)} for k in (0, 1)]
    cases = from_iterable(pair, range={"clean": (0, 1), "noisy": (0, 2)})
    with pytest.raises(UserError, match=r"clean 0 to 1, noisy 0 to 2|noisy 0 to 2, clean 0 to 1"):
        check_one_range(cases, ("noisy", "clean"))
