"""fast-anomaly: the KL of denoising steps, masked codes made anew, gated maps, and a threshold of healthy images."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr

from radiffuse import cli
from radiffuse.applications.anomaly.anoddpm import AnoDDPM
from radiffuse.applications.anomaly.evaluate import evaluate_anomaly
from radiffuse.applications.anomaly.fast_anomaly import FastAnomaly
from radiffuse.applications.anomaly.masked_codes import divergence, enlarged, gate, inpainted
from radiffuse.applications.anomaly.rivals import plain_ddpm
from radiffuse.applications.anomaly.task import is_healthy
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.commands import calibrate, stage
from radiffuse.commands import train as training
from radiffuse.commands.calibrate import set_aside
from radiffuse.data.dataset import from_iterable, open_cases
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.kernels import diffuse
from radiffuse.diffusion.latent import Latent
from radiffuse.diffusion.likelihood import step_kl
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.sample import DDIM, DDPM, grids
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UsageError, UserError
from radiffuse.nn.autoencoder import Codebook
from radiffuse.runs.run import open_run

DATA = "brains:count=60,size=16,lesions=0.5,label=lesion"
MAP = ["image=t2", "mask=lesion"]
CHAIN = Discrete.scaled_linear(1000)


# ----------------------------------------------------------------------- divergence of the steps
@pytest.mark.parametrize("step", [2, 400, 500, 599, 1000])
def test_a_step_that_errs_by_delta_in_the_noise_diverges_by_w_delta_squared(step):
    """w_t = beta_t^2 / (2 beta~_t (1 - beta_t) (1 - abar_t)); a step that does not err, by nothing."""
    beta, kept = CHAIN.betas[step - 1], torch.cumprod(1 - CHAIN.betas, 0)
    abar, before = kept[step - 1], kept[step - 2]
    small = beta * (1 - before) / (1 - abar)
    weight = beta**2 / (2 * small * (1 - beta) * (1 - abar))
    t, s = (torch.tensor(k / 1000, dtype=torch.float64) for k in (step, step - 1))
    x_0, z, delta = torch.randn(3, 2, 2, 4, 4, dtype=torch.float64).unbind(0)
    x_t = diffuse(CHAIN, x_0, t, z)
    for off in (0 * delta, delta):
        estimate = (x_t - (1 - abar).sqrt() * (z + off)) / abar.sqrt()
        found = step_kl(CHAIN, x_t, x_0, estimate, t, s)
        torch.testing.assert_close(found, weight * off**2, rtol=1e-6, atol=1e-12)


class Smooth(Denoiser):
    """The exact denoiser of codes (B, C, 8, 8) of unit variance: smooth, and a grain of a deviation.

    Their covariance S is V L V^T: E[x_0 | x_t] = V a L / (a^2 L + s^2) V^T x_t.
    """

    def __init__(self, width, grain=0.01):
        super().__init__()
        place = torch.cartesian_prod(*[torch.arange(8, dtype=torch.float64)] * 2)
        covariance = torch.exp(-torch.cdist(place, place).square() / (2 * width**2))
        covariance += grain**2 * torch.eye(64)
        self.values, self.basis = torch.linalg.eigh(covariance / covariance[0, 0])
        self.schedule = CHAIN

    def forward(self, x_t, t):
        alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
        gain = alpha * self.values / (alpha**2 * self.values + sigma**2)
        filtered = (x_t.double().flatten(2) @ self.basis * gain) @ self.basis.T
        return filtered.reshape(x_t.shape).to(x_t)

    def drawn(self, count, channels=1):
        z = torch.randn(count, channels, 64, dtype=torch.float64)
        return ((z * self.values.sqrt()) @ self.basis.T).unflatten(2, (8, 8))


SMOOTH = Smooth(2.0)


def struck(count, model=SMOOTH, by=2.0, channels=1):
    """Healthy codes, the same with a place that does not fit its neighbours, and where that is."""
    z, where = model.drawn(count, channels), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    where[..., 3:5, 4:6] = True
    return z, z + by * where, where


def test_a_lesion_shows_at_intermediate_noise_alone():
    """Little noise hides no lesion from the denoiser; under much noise all codes are a guess as the lesion is."""
    model = Smooth(8.0, 0.4)
    _, sick, where = struck(1024, model, 1.0)

    def ratio(steps):
        found = divergence(model, CHAIN, sick, steps, gaussian).mean(0, keepdim=True)
        return float(found[where].mean() / found[~where].mean())

    assert ratio(range(400, 600, 10)) > 3
    assert ratio(range(950, 1000, 10)) < 2.3, "2 where nothing is known of either"
    assert ratio(range(2, 20)) < 1.5


def test_the_window_is_looked_at_step_by_step_each_time_under_new_noise():
    recipe = dataclasses.replace(FastAnomaly(), every=10)
    assert FastAnomaly().looked_at == list(range(400, 600))
    assert recipe.looked_at == list(range(400, 600, 10))
    drawn = []

    def noise(like):
        drawn.append(torch.randn_like(like))
        return drawn[-1]

    z = SMOOTH.drawn(1)
    found = divergence(SMOOTH, CHAIN, z, [400, 500], noise)
    assert len(drawn) == 2
    terms = []
    for step, eps in zip((400, 500), drawn, strict=True):
        t, s = (torch.tensor(k / 1000, dtype=torch.float64) for k in (step, step - 1))
        z_t = diffuse(CHAIN, z, t, eps)
        terms.append(step_kl(CHAIN, z_t, z, SMOOTH(z_t, t), t, s))
    torch.testing.assert_close(found, (terms[0] + terms[1]) / 2)


def test_channels_are_averaged():
    class Says(Denoiser):
        schedule = CHAIN

        def forward(self, x_t, t):
            return torch.zeros_like(x_t)

    z = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    z[:, 1] = 1
    both, one = (divergence(Says(), CHAIN, x, [500], torch.zeros_like) for x in (z, z[:, 1:]))
    assert both.shape == (1, 1, 3, 3)
    torch.testing.assert_close(both, one / 2)


# ------------------------------------------------------------------------------ codes made anew
def made_anew(z, mask, sampler=DDPM, steps=60, start=500):
    return inpainted(
        sampler, SMOOTH, z, mask, grids.strided(CHAIN, steps, start), Seeded(range(len(z)))
    )


@pytest.mark.parametrize("sampler", [DDPM, DDIM])
def test_codes_outside_the_mask_are_the_encoded_ones_to_the_bit(sampler):
    _, sick, where = struck(8)
    made = made_anew(sick, where, sampler)
    outside = ~where.expand_as(sick)
    assert torch.equal(made[outside], sick[outside])
    assert float((made - sick)[~outside].abs().min()) > 0


@pytest.mark.parametrize("sampler", [DDPM, DDIM])
def test_masked_codes_become_what_their_neighbours_say(sampler):
    healthy, sick, where = struck(64)
    made = made_anew(sick, where, sampler)[where.expand_as(sick)]
    error = made - healthy[where.expand_as(sick)]
    assert float(error.square().mean().sqrt()) < 0.6, "a lesion is 2, healthy codes deviate by 1"
    assert abs(float(error.mean())) < 0.5


def test_what_is_kept_is_under_the_noise_of_every_step_and_the_chain_begins_at_its_depth():
    heard = []

    class Hears(Smooth):
        def forward(self, x_t, t):
            heard.append((float(t), x_t))
            return super().forward(x_t, t)

    z = torch.full((200, 1, 8, 8), 1.5, dtype=torch.float64)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 0, 0] = True
    times = grids.strided(CHAIN, 5, 400)
    inpainted(DDPM, Hears(2.0), z, mask, times, gaussian)
    assert [t for t, _ in heard] == times[:-1].tolist() and times[0] == 0.4
    for t, x_t in heard:
        seen = x_t[..., 1:, 1:]
        alpha, sigma = CHAIN.alpha(torch.tensor(t)), CHAIN.sigma(torch.tensor(t))
        assert float(seen.mean()) == pytest.approx(1.5 * float(alpha), abs=0.05)
        assert float(seen.std()) == pytest.approx(float(sigma), rel=0.03)


# ------------------------------------------------------------------------------------ the gate
def test_the_gate_is_the_enlarged_mask_smoothed_and_nothing_far_from_it():
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 2:5, 2:5] = True
    sharp, soft = gate(mask, 4, 0.0), gate(mask, 4, 1.0)
    assert torch.equal(sharp, enlarged(mask.float(), 4)) and sharp.sum() == 12 * 12
    assert float(soft[0, 0, 14, 14]) > 0.98 and float(soft[0, 0, 14, 19]) == pytest.approx(
        0.6, abs=0.1
    )
    assert float(soft[0, 0, :4].max()) == 0 and float(soft[..., 28:].max()) == 0
    assert float(soft[soft > 0].min()) >= 0.01
    assert gate(torch.zeros_like(mask), 4, 1.0).max() == 0


# ------------------------------------------------------- a whole method whose answers are known
class Blocks:
    """Codes of images (B, 4, 32, 32) are the means of blocks of four, which the images are made of."""

    stride, reach = 4, 0.0

    def encode(self, x):
        code = x.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
        return code, torch.zeros_like(code)

    def decode(self, code):
        return enlarged(code, 4)


def known():
    """A recipe and its objective, whose denoiser is exact and whose auto-encoder loses nothing."""
    recipe = dataclasses.replace(
        FastAnomaly.tiny(), channels=4, size=(32, 32), every=10, steps=50, sampler="ddim"
    )
    latent = Latent(SMOOTH, Blocks(), (0.0,), (4.0,))
    player = torch.nn.Linear(1, 1)
    return recipe, SimpleNamespace(latent=latent, first=player, players={"network": player})


def pictures(codes):
    return {"image": enlarged(codes / 4, 4).float(), "seed": torch.arange(len(codes))}


@pytest.fixture(scope="module")
def calibrated():
    torch.manual_seed(3)
    recipe, objective = known()
    healthy = pictures(SMOOTH.drawn(120, 4))
    return recipe.calibrated(objective, [healthy]), objective, healthy


def shares(recipe, objective, images, masked=0.025):
    """Share of the codes above the threshold."""
    seen = recipe.seen(objective, images)[1]
    return float((seen > recipe.threshold_of(masked)).double().mean())


def test_the_threshold_lets_the_asked_share_of_healthy_codes_pass(calibrated):
    recipe, objective, healthy = calibrated
    assert shares(recipe, objective, healthy) == pytest.approx(0.025, abs=1 / (120 * 64))
    others = {**pictures(SMOOTH.drawn(120, 4)), "seed": torch.arange(900, 1020)}
    assert 0.01 < shares(recipe, objective, others) < 0.04
    assert 0.07 < shares(recipe, objective, others, 0.1) < 0.13


def test_a_lesion_is_found_made_anew_and_the_rest_of_the_image_kept(calibrated):
    recipe, objective, _ = calibrated
    healthy, sick, where = struck(16, channels=4)
    images = pictures(sick.clamp(-4, 4))
    made = recipe.predict(objective, images)
    inside = enlarged(where, 4).expand_as(made["anomaly"])
    mask = recipe.seen(objective, images)[1] > recipe.threshold_of(recipe.masked)
    far = gate(mask, 4, recipe.smooth) == 0
    assert float(mask[where.expand_as(mask)].double().mean()) > 0.95
    assert made["anomaly"][far].max() == 0, "nothing where the smoothed mask is nothing"
    untouched = ~enlarged(mask, 4).expand_as(images["image"])
    torch.testing.assert_close(
        made["healthy"][untouched], images["image"][untouched].clamp(-1, 1), atol=1e-6, rtol=0
    )
    outside = made["anomaly"][~inside].mean()
    assert float(made["anomaly"][inside].mean()) > 10 * float(outside)
    truth = pictures(healthy)["image"].clamp(-1, 1)
    before, after = (
        float((x - truth).square()[inside.expand_as(x)].mean())
        for x in (images["image"], made["healthy"])
    )
    assert after < before / 4


def test_the_score_tells_sick_from_healthy(calibrated):
    recipe, objective, _ = calibrated
    healthy, sick, _ = struck(24, channels=4)
    low, high = (recipe.predict(objective, pictures(codes))["score"] for codes in (healthy, sick))
    assert float((high[:, None] > low).double().mean()) > 0.99


def test_a_tenth_of_the_window_and_fifty_ddim_steps_rank_voxels_as_the_whole_method_does(
    calibrated,
):
    fast, objective, healthy = calibrated
    whole = dataclasses.replace(fast, every=1, sampler="ddpm", steps=500)
    whole = whole.calibrated(objective, [{key: value[:12] for key, value in healthy.items()}])
    images = pictures(struck(6, channels=4)[1])
    maps = [each.predict(objective, images)["anomaly"] for each in (fast, whole)]
    assert spearmanr(*(each.flatten() for each in maps)).statistic > 0.95


def test_the_window_is_asked_and_then_the_chain_that_begins_where_depth_says(calibrated):
    recipe, objective, _ = calibrated
    heard = []

    class Hears(Smooth):
        def forward(self, x_t, t):
            heard.append(round(1000 * float(t)))
            return super().forward(x_t, t)

    hearing = SimpleNamespace(
        latent=Latent(Hears(2.0), Blocks(), (0.0,), (4.0,)),
        first=objective.first,
        players=objective.players,
    )
    recipe = dataclasses.replace(recipe, depth=0.3, steps=4)
    recipe.predict(hearing, pictures(struck(1, channels=4)[1]))
    assert heard == [*range(400, 600, 10), 300, 200, 101, 1]


def test_several_maps_are_averaged(calibrated):
    recipe, objective, _ = calibrated
    images = pictures(struck(4, channels=4)[1])
    recipe = dataclasses.replace(recipe, sampler="ddpm")
    one, three = (
        dataclasses.replace(recipe, draws=draws).predict(objective, images) for draws in (1, 3)
    )
    same = (three["healthy"] - images["image"].clamp(-1, 1)).abs().amax(1, keepdim=True) < 1e-5
    assert 0.5 < float(same.double().mean()) < 1, "the mean of what is kept is what is kept"
    assert (one["anomaly"] - three["anomaly"]).abs().max() > 1e-3
    assert torch.equal(one["divergence"], three["divergence"])


def test_without_a_threshold_nothing_is_said(calibrated):
    recipe, objective, healthy = calibrated
    with pytest.raises(UserError, match="no threshold of codes yet"):
        dataclasses.replace(recipe, healthy_levels=()).predict(objective, healthy)


# ------------------------------------------------------------------------------------ the recipe
def test_the_codes_are_those_of_a_codebook():
    recipe = dataclasses.replace(FastAnomaly.tiny(), channels=1, size=(16, 16))
    coder = recipe.coder()
    assert isinstance(coder.law, Codebook) and len(coder.law.entries) == 32
    z = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(coder.decode(z), coder.decode(coder.law.settled(z)))


def test_the_paper_s_shapes():
    recipe = dataclasses.replace(FastAnomaly(), channels=1, size=(160, 224))
    assert recipe.coder_stride == 8 and recipe.of_codes().size == (20, 28)
    betas = recipe.schedule().betas
    assert (float(betas[0]), float(betas[-1])) == pytest.approx((0.0015, 0.0195))
    assert float(betas.sqrt().diff().std()) < 1e-9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": (0.6, 0.4)}, "--window must be two shares, LOW HIGH"),
        ({"window": (0.5, 0.9), "trained": 0.7}, "--window must lie within --trained, 0.7"),
        ({"depth": 0.9, "trained": 0.7}, "--depth must lie within --trained, 0.7"),
        ({"window": (0.0, 0.001)}, "--window holds no step of the chain"),
        ({"codes": 0}, "--codes must be at least 2, not 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        dataclasses.replace(FastAnomaly(), **change)


def test_beside_it_stands_a_plain_ddpm_of_images():
    recipe = dataclasses.replace(FastAnomaly.tiny(), channels=2, size=(24, 40), healthy=3)
    plain = plain_ddpm(recipe)
    assert isinstance(plain, AnoDDPM) and plain.noise == "gaussian"
    assert (plain.channels, plain.size, plain.healthy) == (2, (24, 40), 3)
    assert plain.unet().stride == 8, "as often as both sides can be halved"


# ----------------------------------------------------------------------- who sets the threshold
def cases_of(splits, sick=()):
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    items = [
        {
            "image": torch.full((1, 4, 4), k / 100) + torch.eye(4) / 9,
            "mask": mask + (k in sick),
            "split": split,
            "patient": f"p{k // 2}",
        }
        for k, split in enumerate(splits)
    ]
    return from_iterable(items, range=(-1, 1))


def aside(cases):
    recipe = FastAnomaly.tiny()
    return set_aside(cases.split("train").kept(recipe.suitable), cases, recipe)


def test_healthy_validation_patients_set_the_threshold_where_others_are_measured():
    cases = cases_of([*["train"] * 8, *["val"] * 6, *["test"] * 6], sick=(0, 9))
    training, healthy = aside(cases)
    assert set(healthy.split_of) == {"val"} and len(healthy) == 5
    assert set(training.split_of) == {"train"} and len(training) == 7


@pytest.mark.parametrize("other", ["val", "test"])
def test_where_validation_is_measured_training_patients_are_set_aside(other):
    cases = cases_of([*["train"] * 40, *[other] * 6], sick=(0,))
    training, healthy = aside(cases)
    assert set(healthy.split_of) == set(training.split_of) == {"train"}
    assert len(set(healthy.patients)) == 2 and len(training) + len(healthy) == 39
    assert not set(healthy.patients) & set(training.patients)
    assert aside(cases)[1].ids == healthy.ids


def test_one_healthy_patient_is_too_few():
    with pytest.raises(UserError, match="needs another patient than those trained on"):
        aside(cases_of([*["train"] * 2, *["test"] * 2]))


# ------------------------------------------------------------------------------ the command line
@pytest.fixture(scope="module")
def told():
    """What was trained on and calibrated by, by stage."""
    return {}


@pytest.fixture(scope="module")
def run(tmp_path_factory, told):
    out = tmp_path_factory.mktemp("fast") / "run"

    def spied(name, plain):
        def train(objective, cases, *rest, **more):
            told[name] = cases
            return plain(objective, cases, *rest, **more)

        return train

    def calibrating(recipe, objective, healthy, out):
        told["threshold"] = healthy
        return calibrate.calibrate(recipe, objective, healthy, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "train", spied("first", stage.train))
        patch.setattr(training, "train", spied("second", training.train))
        patch.setattr(training, "calibrate", calibrating)
        words = ["train", "fast-anomaly", "--preset", "tiny", "--data", DATA, "--map", *MAP]
        assert cli.main([*words, "--out", str(out)]) == 0
    return out


def test_both_stages_see_healthy_training_cases_and_no_other(run, told):
    for cases in (told["first"], told["second"].cases):
        assert set(cases.split_of) == {"train"} and len(cases) > 10
        assert is_healthy(cases.batch(range(len(cases))), 0).all()


def test_the_threshold_is_of_patients_that_are_neither_trained_on_nor_measured(run, told):
    healthy = told["threshold"]
    every = open_cases(DATA, mapping={"image": "t2", "mask": "lesion"})
    assert not set(healthy.patients) & {
        *every.split("test").patients,
        *told["second"].cases.patients,
    }
    assert is_healthy(healthy.batch(range(len(healthy))), 0).all()
    kept = json.loads((run / "calibration.json").read_text())
    assert (kept["cases"], kept["split"]) == (len(healthy), ["val"])


def test_the_threshold_is_kept_with_the_run_and_with_its_model(run, tmp_path, refused):
    opened = open_run(run)
    rows = json.loads((run / "calibration.json").read_text())["healthy_levels"]
    assert [list(row) for row in opened.recipe.healthy_levels] == rows
    assert 0.025 in {row[0] for row in rows}
    other = shutil.copytree(run, tmp_path / "run")
    path, words = other / "calibration.json", ["predict", other, "--out", tmp_path / "out"]
    changed = {**json.loads(path.read_text()), "model_sha256": "0" * 64}
    path.write_text(json.dumps(changed))
    assert "calibration.json: is of another model" in refused(*words)
    path.unlink()
    assert "calibration.json: is missing" in refused(*words)
    again = ["train", "fast-anomaly", "--preset", "tiny", "--data", DATA, "--map", *MAP]
    assert cli.main([*again, "--out", str(other), "--resume"]) == 0
    assert open_run(other).recipe.healthy_levels == opened.recipe.healthy_levels


def test_maps_divergences_and_pictures_are_written(run, tmp_path, hasty_features):
    words = ["predict", str(run), "--out", str(tmp_path / "out"), "--set", "masked=0.3"]
    assert cli.main(words) == 0
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert set(record[0]["files"]) == {"healthy", "anomaly", "mask", "divergence"}
    opened = open_run(run)
    cases = open_cases(DATA, mapping={"image": "t2", "mask": "lesion"})
    asked = Asked(count=8, folder_for_pictures=tmp_path / "pictures")
    found = evaluate_anomaly(
        opened.recipe, opened.objective, cases.split("train"), cases.held_out(), asked
    )
    assert found["settings"]["panels"][2] == "divergence of the denoising steps"
    assert (tmp_path / "pictures" / "anomalies.png").is_file()


def test_baselines_are_trained_as_long_as_both_stages(run):
    opened = open_run(run)
    assert opened.budget.steps == opened.options.steps + opened.config.first["steps"] == 40


def test_what_the_threshold_hangs_on_is_fixed_with_the_run(run, tmp_path, refused):
    words = ["predict", run, "--out", tmp_path / "out", "--set"]
    assert "has no such setting after training" in refused(*words, "every=1", code=2)
