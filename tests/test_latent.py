"""Latent diffusion: codes and images, two stages by one command, covariates told and drawn."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.generation.brain_ldm import BrainLDM
from radiffuse.applications.generation.privacy.attacks import loss_scores
from radiffuse.applications.generation.privacy.people import read_people
from radiffuse.applications.generation.told import follows
from radiffuse.applications.latent.covariates import Covariates, settings_of
from radiffuse.commands.tiles import in_tiles
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.latent import Latent
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.sample import DDIM, Heun, grids, last, prior
from radiffuse.diffusion.schedule import VP
from radiffuse.errors import UsageError, UserError
from radiffuse.inverse import DPS, Measurement
from radiffuse.nn.autoencoder import AutoEncoder
from radiffuse.nn.told import Told
from radiffuse.nn.unet import UNet
from radiffuse.runs.run import open_run
from radiffuse.testing import CorrelatedDenoiser, GaussianDenoiser, check_denoiser
from radiffuse.training.footprint import measured

DATA = "brains3d:count=24,size=16"
MAP = ["--map", "image=t1", "brain_size=brain_size", "ventricles=ventricles"]


class Linear:
    """Codes (B, 2, 3) of images (B, 2, 3): twice the image and one; of a deviation."""

    stride, reach = 1, 0.0

    def encode(self, x):
        return 2 * x + 1, torch.full_like(x, 0.3)

    def decode(self, code):
        return (code - 1) / 2


# ------------------------------------------------------------------------------ codes and images
def test_a_code_is_shifted_and_scaled_and_its_image_comes_back():
    latent = Latent(GaussianDenoiser(VP(), 0.0, 1.0), Linear(), (1.0, 2.0), (0.5, 4.0))
    x = torch.randn(5, 2, 3)
    z = latent.encode(x)
    torch.testing.assert_close(z[:, 0], (2 * x[:, 0] + 1 - 1) * 0.5)
    torch.testing.assert_close(z[:, 1], (2 * x[:, 1] + 1 - 2) * 4)
    torch.testing.assert_close(latent.decode(z), x)


def test_a_drawn_code_has_the_deviation_of_its_law():
    latent = Latent(GaussianDenoiser(VP(), 0.0, 1.0), Linear(), (0.0,), (10.0,))
    drawn = latent.encode(torch.zeros(20_000, 2, 3), gaussian)
    assert float(drawn.mean()) == pytest.approx(10, abs=0.05)
    assert float(drawn.std()) == pytest.approx(3, rel=0.02)


def test_a_latent_denoiser_is_a_denoiser():
    inner = GaussianDenoiser(VP(), 0.2, 0.7)
    check_denoiser(Latent(inner, Linear()), torch.randn(3, 2, 4))


def test_samples_of_codes_decode_to_the_law_of_images():
    """Images N(m, C), an affine code: the codes' law is known, and decoded samples must have that of the images."""
    root = torch.tensor([[1.0, 0, 0], [0.6, 0.5, 0], [-0.3, 0.2, 0.4]], dtype=torch.float64)
    covariance = root @ root.T
    schedule, shift, scale = VP(), (1.0,), (0.5,)  # of codes: z = x here
    denoiser = CorrelatedDenoiser(schedule, torch.tensor([0.5, -1.0, 0.0]).double(), covariance)
    latent = Latent(denoiser, Linear(), shift, scale)
    noise = Seeded(range(4000))
    z = prior(schedule, torch.zeros(4000, 1, 3, dtype=torch.float64), noise)
    images = latent.decode(last(Heun(latent, noise).trajectory(z, grids.uniform(60, 1.0, 1e-4))))
    flat = images.flatten(1)
    np.testing.assert_allclose(flat.mean(0), [0.5, -1.0, 0.0], atol=0.06)
    np.testing.assert_allclose(torch.cov(flat.T), covariance, atol=0.09)


def test_a_solver_of_measured_images_works_on_codes():
    """y = x + noise, told to a prior of codes through the decoder: the estimate moves from the prior to the data."""
    latent = Latent(GaussianDenoiser(VP(), 0.0, 1.0), Linear(), (1.0,), (0.5,))
    y = torch.full((64, 1, 4), 1.5)
    measurement = Measurement(y, latent.decode, 0.1)
    noise = Seeded(range(64))
    z = prior(VP(), torch.zeros(64, 1, 4), noise)
    made = latent.decode(
        last(DPS(latent, measurement, noise, 0.3).trajectory(z, grids.uniform(100)))
    )
    assert float(made.mean()) == pytest.approx(1.5, abs=0.2)


# ---------------------------------------------------------------------------------- being told
def unet(length, by):
    torch.manual_seed(0)
    needs = Told.needs(length, by)
    net = UNet(2, 1, 8, (1, 1), 1, (1,), **needs, crossed=needs["context"] > 0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Told(net, length, by).eval()


@pytest.mark.parametrize(
    ("by", "told"), [("both", True), ("channels", True), ("attention", True), ("none", False)]
)
def test_a_vector_is_told_by_each_way_and_by_none(by, told):
    net, x, clock = unet(2, by), torch.randn(1, 1, 8, 8), torch.zeros(1)
    with torch.no_grad():
        out = [net(x, clock, torch.tensor([vector])) for vector in ([0.0, 0.0], [1.0, -1.0])]
    assert bool((out[0] - out[1]).abs().max() > 1e-4) == told


def test_both_ways_are_wired():
    net = unet(2, "both")
    assert net.unet.seen == 3  # image and two constant channels
    crossed = [module for module in net.modules() if type(module).__name__ == "Crossed"]
    assert crossed and all(part.told.in_features == 2 for part in crossed)


def test_one_token_of_cross_attention_is_a_bias_the_same_at_every_voxel():
    from radiffuse.nn.blocks import Crossed

    part = Crossed(2, 8, context=3, head=8)
    torch.nn.init.normal_(part.answer.weight)
    x = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        one, other = (part(x, token) for token in torch.randn(2, 1, 1, 3))
    change = (one - other).flatten(2)
    torch.testing.assert_close(change, change[..., :1].expand_as(change), rtol=1e-4, atol=1e-5)


def law(**changes):
    given = {
        "names": ("age", "sex"),
        "quantiles": ((20.0, 40.0, 80.0), (0.0, 0.0, 1.0)),
        "correlation": ((1.0, 0.8), (0.8, 1.0)),
    }
    return Covariates(**{**given, **changes})


def test_covariates_are_told_from_0_to_1_by_their_range_in_training():
    told = law().told(torch.tensor([[20.0, 0.0], [80.0, 1.0], [50.0, 0.5]]))
    assert told.tolist() == [[0, 0], [1, 1], [0.5, 0.5]]


def test_drawn_covariates_have_the_law_of_training():
    drawn = law().drawn(torch.arange(4000), {})
    age, sex = drawn.unbind(1)
    assert float(age.median()) == pytest.approx(40, abs=1.5)
    assert float(age.min()) >= 20 and float(age.max()) <= 80
    assert float((sex == 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(torch.corrcoef(drawn.T)[0, 1]) > 0.6
    alone = law(correlation=((1.0, 0.0), (0.0, 1.0))).drawn(torch.arange(4000), {})
    assert abs(float(torch.corrcoef(alone.T)[0, 1])) < 0.05


def test_a_value_asked_for_is_taken_and_changes_no_other():
    free, asked = law().drawn(torch.arange(5), {}), law().drawn(torch.arange(5), {"age": 99.0})
    assert asked[:, 0].tolist() == [99.0] * 5 and torch.equal(free[:, 1], asked[:, 1])
    (line,) = law().outside({"age": 99.0, "sex": 1.0})
    assert line == "age = 99 lies outside of what was trained, 20 to 80"


@pytest.mark.parametrize("word", ["aeg=3", "age=old", "age", "age=nan"])
def test_covariates_that_cannot_be_are_refused(word):
    with pytest.raises(UsageError, match="covariate"):
        settings_of([word], ("age", "sex"))


# ----------------------------------------------------------------------------------- the recipe
def test_the_schedule_is_scaled_linear():
    betas = BrainLDM().schedule().betas
    assert float(betas[0]) == pytest.approx(0.0015) and float(betas[-1]) == pytest.approx(0.0205)
    roots = betas.sqrt().diff()
    assert float(roots.std()) < 1e-6 * float(roots.mean())


def test_the_paper_s_shapes():
    recipe = replace(
        BrainLDM(), channels=1, size=(160, 224, 160), width=8, names=tuple("abcd"),
        quantiles=((0.0, 1.0),) * 4, correlation=tuple(tuple(float(i == j) for j in range(4)) for i in range(4)),
    )  # fmt: skip
    with torch.device("meta"):
        body, coder = recipe.of_codes().body(), recipe.coder()
        assert coder.encode(torch.empty(1, 1, 160, 224, 160))[0].shape == (1, 3, 20, 28, 20)
    assert recipe.of_codes().size == (20, 28, 20)
    assert body.unet.seen == 7  # three of the code, four constant
    crossed = [module for module in body.modules() if type(module).__name__ == "Crossed"]
    assert {part.heads for part in crossed} == {1} and {
        part.told.in_features for part in crossed
    } == {4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("latent") / "run"
    words = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, *MAP, "--out", str(out)]
    assert cli.main(words) == 0
    return out


def test_codes_have_unit_variance_by_a_scale_from_the_data(trained):
    opened = open_run(trained)
    train = open_cases(DATA, mapping={"image": "t1"}, range=(0, 255)).split("train")
    codes = opened.objective.codes(train.batch(range(len(train)))["image"])
    assert 0.8 < float(codes.std()) < 1.25
    assert all(0.8 < float(d) < 1.25 for d in codes.movedim(1, 0).flatten(1).std(1))
    assert len(opened.recipe.latent_scale) == 3


def test_codes_are_drawn_in_training(trained):
    objective = open_run(trained).objective
    x = torch.zeros(1, 1, 16, 16, 16)
    mean, deviation = objective.first.encode(x)
    torch.manual_seed(0)
    change = (objective.codes(x) - objective.latent.encode(x)) / torch.tensor(
        objective.latent.scale
    ).reshape(-1, 1, 1, 1)
    torch.manual_seed(0)
    torch.testing.assert_close(change, deviation * torch.randn_like(mean), rtol=1e-3, atol=1e-4)


def test_one_number_scales_codes_where_that_is_asked_for(trained, tmp_path):
    words = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, "--map", "image=t1"]
    words += [
        "--autoencoder",
        str(trained),
        "--standardised",
        "whole",
        "--out",
        str(tmp_path / "run"),
    ]
    assert cli.main(words) == 0
    recipe = open_run(tmp_path / "run").recipe
    codes = json.loads((tmp_path / "run/autoencoder/codes.json").read_text())
    assert recipe.latent_scale == pytest.approx([1 / codes["overall"][1]], rel=1e-3)
    assert recipe.names == ()


def test_the_auto_encoder_is_looked_at_before_the_diffusion(trained):
    found = json.loads((trained / "autoencoder/codes.json").read_text())
    assert found["code"] == [3, 4, 4, 4] and found["ratio"] == pytest.approx(16**3 / 192)
    assert found["psnr"]["n"] > 0 and len(found["deviation"]) == 3


def test_samples_are_the_same_from_the_same_seed_and_follow_what_is_told(trained):
    opened = open_run(trained)
    batch = {"seed": torch.tensor([1, 2])}
    one, two = (opened.recipe.predict(opened.objective, batch)["image"] for _ in range(2))
    assert torch.equal(one, two) and one.shape == (2, 1, 16, 16, 16)
    small, large = (
        opened.recipe.predict(
            opened.objective, {**batch, "covariates": torch.tensor([[v, 0.0]] * 2)}
        )
        for v in (0.9, 1.1)
    )
    assert not torch.equal(small["image"], large["image"])


def test_resumed_in_either_stage_it_is_the_same_run(trained, tmp_path):
    words = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, *MAP, "--out"]
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for name in ("model.safetensors", "checkpoint", "config.toml", "manifest.json", "log.jsonl"):
        path = run / name  # stopped between the stages
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert cli.main([*words, str(run), "--resume"]) == 0
    assert open_run(run).model_sha256 == open_run(trained).model_sha256


def test_an_auto_encoder_that_is_there_is_taken(trained, tmp_path):
    words = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, *MAP]
    assert cli.main([*words, "--autoencoder", str(trained), "--out", str(tmp_path / "run")]) == 0
    ours, theirs = (
        open_run(path).objective.first.state_dict() for path in (tmp_path / "run", trained)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not (tmp_path / "run/autoencoder/log.jsonl").exists()


def test_an_auto_encoder_that_is_gone_or_another_is_told(trained, tmp_path, refused):
    shutil.copytree(trained, tmp_path / "run")
    model = tmp_path / "run/autoencoder/model.safetensors"
    words = ["sample", tmp_path / "run", "--count", 1, "--out", tmp_path / "out"]
    model.unlink()
    assert "model.safetensors: the auto-encoder (SHA-256" in refused(*words)
    shutil.copyfile(trained / "model.safetensors", model)
    assert "is another auto-encoder than this run was trained on" in refused(*words)


def test_a_covariate_that_never_differs_is_refused(tmp_path, refused):
    np.savez(
        tmp_path / "set.npz",
        image=np.random.default_rng(0).integers(0, 255, (8, 16, 16), dtype=np.uint8),
        age=np.full(8, 40.0),
    )
    words = ["train", "brain-ldm", "--preset", "tiny", "--data", tmp_path / "set.npz"]
    line = refused(*words, "--map", "image=image", "age=age", "--out", tmp_path / "run")
    assert "covariate 'age' is 40 in every training case" in line


def test_tiles_decode_to_the_same_volume():
    """`--tile` of a latent run."""
    recipe = replace(BrainLDM.tiny(), channels=1, size=(48,) * 3)
    torch.manual_seed(0)
    objective = recipe.objective()
    codes = torch.randn(1, recipe.latent_channels, *recipe.code_size)
    whole = recipe.decoded(objective, codes)
    run = SimpleNamespace(recipe=recipe, objective=objective, config=None)
    in_tiles(run, (24,), 0.25)
    assert objective.latent.tile == (6, 6, 6)
    assert float((recipe.decoded(objective, codes) - whole).abs().max()) < 1e-4
    made = recipe.predict(objective, {"seed": torch.arange(1)})["image"]
    assert made.shape == (1, 1, 48, 48, 48) and bool(made.isfinite().all())


def test_decoding_in_parts_takes_the_memory_of_a_part():
    coder = AutoEncoder(2, 1, 2, 8, (1, 2), 1, local=True)
    latent = Latent(GaussianDenoiser(VP(), 0.0, 1.0), coder)

    def peak(places, tile):
        latent.tile, z = tile, torch.zeros(1, 2, places, places)
        with torch.no_grad():
            images = 4 * 4 * places**2
            return measured(lambda: latent.decode(z), 1e12) - images - 2 * 4 * z.numel()

    assert peak(96, (16, 16)) < 1.1 * peak(64, (16, 16))
    assert peak(96, ()) > 2 * peak(64, ())


def test_an_auto_encoder_of_whole_images_decodes_them_whole_and_says_so(capsys):
    recipe = replace(BrainLDM.tiny(), channels=1, size=(16,) * 3, coder_local=False)
    run = SimpleNamespace(recipe=recipe, objective=recipe.objective(), config=None)
    in_tiles(run, (8,), 0.25)
    assert run.objective.latent.tile == ()
    assert "are of whole images, so that codes are decoded whole" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"--tile 6: sides must divide .* take 8 8 8"):
        in_tiles(run, (6,), 0.25)


def test_volumes_that_an_auto_encoder_halves_too_often_are_told():
    thick = replace(BrainLDM.tiny(), channels=1, size=(32, 32, 6), data_std=1.0)
    (line,) = thick.notices()
    assert "codes of 8 x 8 x 2 places of volumes of 32 x 32 x 6" in line and "--size" in line
    assert replace(thick, size=(32, 32, 24)).notices() == []


def test_odd_volumes_come_back_in_their_size_and_small_ones_are_refused():
    facts = open_cases("brains3d:count=4,size=20").facts()
    tiny = BrainLDM.tiny()
    recipe = tiny.fitted(replace(facts, size={"image": (9, 10, 13)}))
    assert recipe.code_size == tuple(-(-side // recipe.coder_stride) for side in (9, 10, 13))
    made = recipe.predict(recipe.objective(), {"seed": torch.arange(1)})["image"]
    assert made.shape == (1, 1, 9, 10, 13)
    with pytest.raises(
        UserError, match=r"8 x 3 x 8 are smaller than this network's stride 8; .* --size 8 8 8"
    ):
        tiny.fitted(replace(facts, size={"image": (8, 3, 8)}))


def test_the_chain_of_codes_is_deterministic_ddim_in_the_paper():
    recipe = replace(BrainLDM(), channels=1, size=(16, 16, 16))
    assert (recipe.sampler, recipe.steps, recipe.eta) == ("ddim", 50, 0.0)
    assert isinstance(
        recipe.of_codes().make_sampler(GaussianDenoiser(VP(), 0.0, 1.0), gaussian), DDIM
    )


def test_attacks_tell_the_network_the_numbers_of_each_image(trained):
    opened = open_run(trained)
    cases = open_cases(DATA, mapping=dict(word.split("=") for word in MAP[1:])).split("train")
    who = read_people(cases.take(range(6)))
    assert set(opened.recipe.names) <= set(who.numbers)
    told = loss_scores(opened.recipe, opened.objective, who.images, None, 0, who.numbers)
    others = {name: values.flip(0) for name, values in who.numbers.items()}
    assert told.shape == (6, 5) and torch.isfinite(told).all()
    assert not torch.equal(
        told, loss_scores(opened.recipe, opened.objective, who.images, None, 0, others)
    )


def test_samples_are_told_covariates_and_say_which(trained, tmp_path, refused, capsys):
    words = ["sample", str(trained), "--count", "2", "--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert cli.main([*words, "--covariates", "ventricles=9"]) == 0
    assert "note: ventricles = 9 lies outside of what was trained" in capsys.readouterr().err
    found = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert [entry["covariates"]["ventricles"] for entry in found] == [9.0, 9.0]
    assert len({entry["covariates"]["brain_size"] for entry in found}) == 2
    words = ["sample", trained, "--count", 1, "--out", tmp_path / "other"]
    assert "covariate 'age' is none" in refused(*words, "--covariates", "age=3", code=2)


# ------------------------------------------------------------------------------------ evaluation
def balls(radius, bright):
    """Pictures of discs, their radius and grey value told."""
    at = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij"))
    far = (at - 7.5).square().sum(0).sqrt()
    inside = torch.sigmoid(2 * (radius[:, None, None] - far))
    return (2 * bright[:, None, None] * inside - 1)[:, None]


def numbers(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return 2 + 4 * torch.rand(count, generator=generator), 0.4 + 0.6 * torch.rand(
        count, generator=generator
    )


def test_numbers_are_read_off_images_they_were_not_fitted_to():
    from radiffuse.metrics.readout import Readout

    known, unseen = numbers(120, 0), numbers(60, 1)
    for place in (0, 1):
        read = Readout(balls(*known), known[place])(balls(*unseen))
        assert float(torch.corrcoef(torch.stack([read, unseen[place].double()]))[0, 1]) > 0.97


def test_the_gaussian_of_codes_and_what_was_told_stand_beside_a_latent_diffusion(
    trained, monkeypatch
):
    """24 volumes are too few to read numbers off; the auto-encoder's own baseline is measured."""
    monkeypatch.setattr("radiffuse.metrics.features.STEPS", 3)
    metrics = trained / "metrics.json"
    assert cli.main(["evaluate", str(trained), "--count", "10"]) == 0
    found = json.loads(metrics.read_text())
    assert "fid" in found["method"] and "bits_per_dimension" not in found["method"]
    assert set(found["baselines"]) == {"Gaussian of codes"}
    assert set(found["baselines"]["Gaussian of codes"]) <= set(found["method"])
    torch.rand(7)
    assert cli.main(["evaluate", str(trained), "--count", "10"]) == 0
    assert json.loads(metrics.read_text())["baselines"] == found["baselines"], (
        "drawn from its own seed"
    )


class Few(dict):
    """Cases as a dictionary of columns."""

    def __len__(self):
        return len(self["image"])

    def batch(self, rows):
        return self


@pytest.mark.parametrize(("obeys", "low", "high"), [(True, 0.9, 1), (False, -0.35, 0.35)])
def test_images_that_follow_what_was_told_have_its_correlation(obeys, low, high):
    from types import SimpleNamespace

    from radiffuse.applications.generation.told import follows

    def cases(count, seed):
        radius, bright = numbers(count, seed)
        images = balls(radius, bright)
        return Few({"image": images, "radius": radius}), images

    (train, seen), (held_out, unseen) = cases(120, 0), cases(60, 1)
    asked = 2 + 4 * torch.rand(60, 1, generator=torch.Generator().manual_seed(2))
    recipe = SimpleNamespace(names=("radius",), values=lambda seeds: asked)
    radius = asked[:, 0] if obeys else asked[torch.randperm(60), 0]
    samples = balls(radius, torch.full((60,), 0.7))
    real = SimpleNamespace(train=seen, held_out=unseen)
    made, true = follows(recipe, real, train, held_out, samples, 0)
    assert low < made["told_radius"]["mean"] <= high
    assert true["told_radius"]["mean"] > 0.95 and made["told_radius"]["n"] == 60


def test_codes_that_are_kept_train_the_same_network_as_images_that_are_encoded(
    trained, tmp_path, monkeypatch
):
    """Every image is encoded once for the second stage, and where that is not possible at every step: no difference."""
    monkeypatch.setattr("radiffuse.applications.latent.kept.SHARE", 0.0)
    words = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, *MAP]
    assert cli.main([*words, "--autoencoder", str(trained), "--out", str(tmp_path / "run")]) == 0
    ours, theirs = (open_run(path) for path in (tmp_path / "run", trained))
    assert ours.model_sha256 == theirs.model_sha256


def test_augmented_images_are_encoded_as_they_come(trained):
    from radiffuse.commands.first import with_kept_codes
    from radiffuse.training.options import TrainOptions

    objective = open_run(trained).objective
    train = open_cases(DATA, mapping={"image": "t1"}, range=(0, 255)).split("train")
    assert with_kept_codes(objective, train, TrainOptions(steps=1, mirror=(0,))) is train
    kept = with_kept_codes(objective, train, TrainOptions(steps=1))
    batch = kept.batch([3, 1])
    assert "image" not in batch and batch["code"].shape == (2, 3, 4, 4, 4)
    mean, deviation = objective.law(train.batch([3, 1])["image"])
    torch.testing.assert_close(batch["code"], mean)
    torch.testing.assert_close(batch["deviation"], deviation)


def test_the_perceptual_distance_is_the_user_s_where_weights_are_given(tmp_path, capsys, refused):
    from radiffuse.metrics.resnet import ResNet50
    from radiffuse.training.tensorfile import save

    torch.manual_seed(0)
    save(tmp_path / "net.safetensors", ResNet50().state_dict(), {})
    words = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, "--map", "image=t1"]
    words += [
        "--perceptual-weights",
        str(tmp_path / "net.safetensors"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert "--perceptual is 0" in refused(*words)
    more = ["--perceptual", "0.1", "--first.steps", "1", "--first.batch", "1", "--train.steps", "1"]
    assert cli.main([*words, *more]) == 0
    assert "perceptual distance: the ResNet-50 of" in "".join(capsys.readouterr())
    assert not (tmp_path / "run/autoencoder/features").exists()


def test_a_first_stage_that_codes_were_learned_from_is_not_changed(trained, tmp_path, refused):
    """It was overwritten, and the run could be opened no more."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = (run / "autoencoder/model.safetensors").read_bytes()
    other = tmp_path / "other"
    start = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, *MAP]
    assert cli.main([*start, "--first.seed", "1", "--out", str(other)]) == 0
    words = [*start, "--out", str(run), "--resume"]
    assert cli.main([*words, "--first.steps", "1000"]) == 1
    assert cli.main([*words, "--autoencoder", str(other)]) == 1
    assert (run / "autoencoder/model.safetensors").read_bytes() == before
    assert open_run(run).model_sha256 == open_run(trained).model_sha256


def test_numbers_that_the_held_out_data_lack_are_refused_not_missed():
    cases = open_cases(
        "brains:count=60,size=16,label=none", mapping={"image": "t1", "height": "height"}
    )
    other = open_cases("brains:count=24,size=16,label=none,first=500", mapping={"image": "t1"})
    train = cases.split("train")
    recipe = SimpleNamespace(names=("height",), values=lambda seeds: torch.rand(len(seeds), 1))
    images = (each.batch(range(len(each)))["image"] for each in (train, other))
    real = SimpleNamespace(**dict(zip(("train", "held_out"), images, strict=True)))
    made, true = follows(recipe, real, train, other, torch.randn(24, 1, 16, 16), 0)
    assert "mean" in made["told_height"] and "no height" in true["told_height"]["refused"]
