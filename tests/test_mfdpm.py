"""mfdpm: one stain before anything is learned, P2 weights, classes; and what is measured beside it."""

import dataclasses
import json
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from skimage.color import rgb2lab
from torch import nn

from radiffuse import cli
from radiffuse.applications.generation import evaluate as generation
from radiffuse.applications.generation.by_class import by_class
from radiffuse.applications.generation.mfdpm import MFDPM
from radiffuse.applications.generation.page import section
from radiffuse.applications.generation.tiles import taught
from radiffuse.applications.generation.tiles.baselines import GAN, gan_of
from radiffuse.applications.generation.tiles.evaluate import _turned
from radiffuse.data import stain
from radiffuse.data.dataset import Facts, from_iterable, open_cases
from radiffuse.data.stained import with_stain
from radiffuse.diffusion.network import Network
from radiffuse.diffusion.noise import derive
from radiffuse.diffusion.parametrization import NOISE
from radiffuse.errors import UsageError, UserError
from radiffuse.metrics import distribution, features, turned
from radiffuse.metrics.distribution import kernel_metric
from radiffuse.metrics.diversity import find_copies
from radiffuse.metrics.estimate import average
from radiffuse.metrics.turned import turned_copies
from radiffuse.nn.augment import moved, rotation
from radiffuse.nn.blocks import Attention, Residual
from radiffuse.training.objective import Hybrid

REFERENCE = (0.65, 0.70, 0.29, 0.07, 0.99, 0.11, 1.6, 1.0)
HE = torch.tensor(REFERENCE[:6]).double().reshape(2, 3)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def concentrations(seed, blobs=8, size=32):
    """How much of both dyes (2, S, S): `blobs` nuclei of haematoxylin on eosin that varies smoothly."""
    draw, line = seeded(seed), (torch.arange(size) + 0.5) / size
    nuclei = torch.zeros(size, size)
    for _ in range(blobs):
        y, x = torch.rand(2, generator=draw)
        nuclei += torch.exp(-((line[:, None] - y) ** 2 + (line - x) ** 2) / 0.003)
    phase = torch.rand(2, generator=draw) * 6.3
    waves = torch.sin(6 * line[:, None] + phase[0]) * torch.sin(6 * line + phase[1])
    return torch.stack([0.05 + 1.2 * nuclei.clamp_max(1), 0.45 + 0.25 * waves]).double()


def dyed(amounts, vectors=HE):
    """The tile (3, S, S), 0 to 255, that two dyes of these vectors make of white light."""
    dense = torch.einsum("kyx,kc->cyx", amounts, nn.functional.normalize(vectors, dim=1))
    return (240 * torch.exp(-dense) - 1).round().clamp(0, 255)


def other_stain(seed):
    """Vectors of another laboratory."""
    return (HE + 0.12 * torch.randn(2, 3, generator=seeded(seed)).double()).clamp_min(0.02)


LABORATORIES = [
    torch.tensor(vectors).double()
    for vectors in (
        [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]],
        [[0.75, 0.60, 0.28], [0.25, 0.95, 0.20]],
        [[0.50, 0.70, 0.50], [0.05, 0.90, 0.40]],
        [[0.60, 0.78, 0.15], [0.40, 0.90, 0.05]],
    )
]


def items(count=96, size=16, first=0, held=32):
    """Tiles of three classes, by their number of nuclei, of four laboratories; two views of each."""
    made = []
    for k in range(first, first + count):
        label, lab = k % 3, (k // 3) % 4
        tile = dyed(concentrations(k, (4, 10, 24)[label], size), LABORATORIES[lab]).to(torch.uint8)
        made.append(
            {
                "image": tile,
                "label": label,
                "case": f"t{k}",
                "lab": str(lab),
                "patient": f"p{k}",
                "split": "test" if k - first >= count - held else "train",
            }
        )
    return made


@pytest.fixture(scope="module")
def raw():
    return from_iterable(items(), range=(0.0, 255.0))


@pytest.fixture(scope="module")
def tiles(raw):
    return with_stain(raw)


def recipe_of(cases, **changes):
    return dataclasses.replace(MFDPM.tiny(), **changes).fitted(cases.facts())


# ------------------------------------------------------------------------------------------- stain
def test_the_dyes_of_a_tile_are_found_again():
    """Where a few pixels hold one of them alone."""
    amounts = 0.2 + 0.8 * torch.rand(2, 32, 32, generator=seeded(0)).double()
    amounts[1, :, :2] = amounts[0, :, -2:] = 0
    found = stain.stains(dyed(amounts))
    assert torch.allclose(found[:6].reshape(2, 3), nn.functional.normalize(HE, dim=1), atol=0.02)
    assert torch.allclose(found[6:], amounts.flatten(1).quantile(0.99, dim=1), atol=0.03)


def test_stains_are_those_of_torchstain():
    """torchstain 1.4.1, numpy, on the same tile, all of which is tissue in every colour."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    amounts = torch.stack(
        [0.6 + 0.5 * torch.sin(x / 3) * torch.cos(y / 5), 0.9 + 0.2 * torch.cos(x / 7 + y)]
    )
    tile = dyed(amounts.double(), torch.tensor([[0.65, 0.70, 0.29], [0.3, 0.9, 0.25]]).double())
    theirs = [0.52057, 0.80595, 0.28189, 0.3496, 0.89964, 0.2616, 1.75503, 1.20128]
    assert torch.allclose(stain.stains(tile), torch.tensor(theirs).double(), atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_two_laboratories_show_one_colour_and_keep_the_structure(seed):
    amounts = concentrations(seed, 14, 48)
    one, two = (dyed(amounts, other_stain(10 * seed + k)) for k in (1, 2))
    to = torch.tensor(REFERENCE).double()
    made = [stain.normalised(tile, stain.stains(tile), to) for tile in (one, two)]
    before, after = lab_distance(one, two), lab_distance(*made)
    assert after < 3 and after < 0.1 * before, (before, after)
    for tile, done in zip((one, two), made, strict=True):
        slopes = [torch.stack(torch.gradient(each.mean(0))).flatten() for each in (tile, done)]
        assert float(torch.corrcoef(torch.stack(slopes))[0, 1]) > 0.95


def test_a_thinner_section_is_brought_to_one_strength():
    amounts = concentrations(5, 14, 48)
    to = torch.tensor(REFERENCE).double()
    thick, thin = dyed(amounts), dyed(0.7 * amounts)
    made = [stain.normalised(tile, stain.stains(tile), to) for tile in (thick, thin)]
    assert lab_distance(*made) < 3 < 0.3 * lab_distance(thick, thin)


def lab_distance(a, b):
    a, b = (rgb2lab(each.permute(1, 2, 0).numpy() / 255) for each in (a, b))
    return float(np.linalg.norm(a - b, axis=-1).mean())


def test_its_own_stain_changes_nothing():
    tile = dyed(concentrations(3))
    own = stain.stains(tile)
    assert float((stain.normalised(tile, own, own) - tile).abs().max()) <= 1


def test_white_and_black_do_not_count():
    tile = dyed(concentrations(3))
    edge = torch.full((3, 16, 32), 243.0)
    own = stain.stains(tile)
    assert torch.allclose(stain.stains(torch.cat([tile, edge], 1)), own)
    assert torch.allclose(stain.stains(torch.cat([tile, torch.zeros_like(edge)], 1)), own)
    done = stain.normalised(torch.cat([tile, edge], 1), own, torch.tensor(REFERENCE).double())
    assert float(done[:, 32:].min()) > 235, "white stays white"


def test_the_reference_is_of_training_tiles_alone(raw):
    changed = [dict(item) for item in items()]
    for item in changed[-32:]:
        item["image"] = 255 - (255 - item["image"]) // 2
    twin = with_stain(from_iterable(changed, range=(0.0, 255.0)))
    tiles = with_stain(raw)
    assert tiles.facts().stain == twin.facts().stain != ()
    assert raw.facts().stain == ()
    assert "brought to one stain: haematoxylin 0.5" in tiles.notices[-1]
    assert tiles.fingerprint != raw.fingerprint


def test_a_reference_that_is_given_is_kept_and_names_the_data(raw, tiles):
    given = with_stain(raw, REFERENCE)
    assert given.facts().stain == REFERENCE
    assert given.fingerprint != tiles.fingerprint
    assert not torch.equal(given.batch([0])["image"], tiles.batch([0])["image"])
    image = tiles.image(0, "image").data
    assert (
        torch.equal(image, image.round()) and 0 <= float(image.min()) <= float(image.max()) <= 255
    )
    assert torch.allclose(tiles.batch([0])["image"][0], image / 127.5 - 1, atol=1e-6)


def test_the_stain_of_its_laboratory_cannot_be_told_from_a_tile(raw, tiles):
    """The stain-leak test: a linear classifier of the colour, trained on a half and tested on the other."""
    labs = torch.tensor([int(name) for name in raw.texts["lab"]])

    def told(cases):
        x = cases.batch(range(len(cases)))["image"]
        x = nn.functional.normalize(-((x + 1.01) / 2).log().mean((2, 3)), dim=1)
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        first, then = slice(0, None, 2), slice(1, None, 2)
        weights = torch.linalg.lstsq(
            x[first], nn.functional.one_hot(labs[first], 4).float()
        ).solution
        return float(((x[then] @ weights).argmax(1) == labs[then]).float().mean())

    assert told(raw) > 0.8
    assert told(tiles) < 0.45, "chance is a quarter"


@pytest.mark.parametrize(
    ("tile", "said"),
    [
        (torch.full((3, 16, 16), 250), "is empty: 0.0% of its pixels are tissue"),
        (torch.zeros(3, 16, 16), "is empty: 0.0% of its pixels are tissue"),
        (
            dyed(concentrations(1, size=16)).mean(0).expand(3, -1, -1).round(),
            "has one colour alone, as grey",
        ),
        (torch.full((1, 16, 16), 90), "is grey, and stains are told from red, green and blue"),
        (torch.full((4, 16, 16), 90), "is of 4 channels, and stains"),
    ],
    ids=["white", "black", "grey in colour", "grey", "four channels"],
)
def test_a_tile_without_two_stains_is_named(tile, said):
    channels = len(tile)
    good = [{**item, "image": item["image"][:1].repeat(4, 1, 1)[:channels]} for item in items(8)]
    if channels == 3:
        good = items(8)
    bad = {**good[0], "image": tile.to(torch.uint8), "case": "bad", "patient": "bad"}
    cases = from_iterable([bad, *good], range=(0.0, 255.0))
    with pytest.raises(UserError, match=f"case bad: {said}.*leave it out, or take --stain none"):
        with_stain(cases)


# ------------------------------------------------------------------------------------------- P2
def p2(t, gamma=1.0, k=1.0):
    recipe = MFDPM(gamma=gamma, k=k)
    return recipe.weight()(recipe.schedule(), t, NOISE)


def test_the_weights_are_those_of_p2_in_double_precision():
    t = (torch.arange(1000).double() + 1) / 1000
    w = p2(t)
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    assert w.dtype == torch.float64
    assert torch.allclose(w, 1 - kept, rtol=1e-9)
    assert float(w[0]) == pytest.approx(1e-4, abs=1e-6)
    assert float(w[250]) == pytest.approx(0.479, abs=1e-3)
    assert float(w[999]) > 0.9999 and bool((w.diff() > 0).all())
    assert float(w.mean()) == pytest.approx(0.724, abs=1e-3)
    assert torch.equal(p2(t, gamma=0.0), torch.ones(1000).double())
    assert torch.allclose(p2(t, 0.5, 2.0), (2 + kept / (1 - kept)) ** -0.5)


def test_a_wrong_guess_without_noise_costs_a_ten_thousandth():
    z = torch.randn(2, 3, 4, 4)
    t = torch.full((2,), 1 / 1000).double()

    def cost(gamma):
        recipe = MFDPM(gamma=gamma, learned_variance=False)
        denoising = recipe.denoising(Network(nn.Identity(), recipe.schedule(), NOISE))
        return float(denoising.loss(z + 1, torch.zeros_like(z), z, z, t))

    assert cost(0.0) / cost(1.0) == pytest.approx(1e4, rel=1e-3)


def test_the_bound_of_the_variance_is_not_weighted():
    x, z = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    t = torch.tensor([0.05, 0.5]).double()
    slopes = {}
    for gamma in (0.0, 1.0):
        recipe = MFDPM(gamma=gamma)
        hybrid = recipe.denoising(Network(nn.Identity(), recipe.schedule(), NOISE))
        assert type(hybrid) is Hybrid
        alpha, sigma = recipe.schedule()(t, x)
        out = torch.cat([z + 0.1, torch.full_like(z, 0.3)], 1).requires_grad_()
        hybrid.loss(out, x, z, alpha * x + sigma * z, t).backward()
        slopes[gamma] = out.grad.split(3, 1)
    assert torch.equal(slopes[0.0][1], slopes[1.0][1]), "of the variance"
    assert bool((slopes[0.0][1] != 0).any())
    assert float(slopes[1.0][0][0].norm() / slopes[0.0][0][0].norm()) < 0.05


class OneGain(nn.Module):
    """The same gain at every noise level: what it is good at shows what it was trained for."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, clock):
        return self.gain * x


def test_p2_moves_what_is_learned_from_fine_detail_to_content():
    """Images of white noise, whose best gain is sigma; the gain of least cost, exactly."""
    errors = {}
    for gamma in (0.0, 1.0):
        recipe, model = MFDPM(gamma=gamma, learned_variance=False), OneGain()
        denoising = recipe.denoising(Network(model, recipe.schedule(), NOISE))
        slopes = []
        for at in (0.0, 1.0):
            torch.manual_seed(0)
            model.gain.data.fill_(at)
            ((_, loss),) = denoising.losses({"image": torch.randn(4000, 1, 2, 2)})
            slopes.append(float(torch.autograd.grad(loss, model.gain)[0]))
        sigma = recipe.schedule().sigma((torch.arange(1000).double() + 1) / 1000)
        errors[gamma] = (slopes[0] / (slopes[0] - slopes[1]) - sigma) ** 2
    flat, weighted = errors[0.0], errors[1.0]
    assert float(weighted[300:700].mean()) < 0.7 * float(flat[300:700].mean())
    assert bool((weighted[:50] > flat[:50]).all())


# ------------------------------------------------------------------------------------------- network
def test_three_resolutions_attend_and_blocks_resample():
    facts = Facts(("image", "label"), {"image": 3}, {"image": (128, 128)}, 3, (), 0.5, 0.0, 9.0, 8)
    recipe = MFDPM(width=8, stain="none", learned_variance=False).fitted(facts)
    network = recipe.body()
    seen = set()
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_pre_hook(lambda _, args: seen.add(args[0].shape[-1]))
    with torch.no_grad():
        network(torch.zeros(1, 3, 128, 128), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    assert seen == {32, 16, 8}
    assert sum(isinstance(m, Residual) and m.resample != 0 for m in network.modules()) == 8


def test_an_impulse_comes_back_without_a_checkerboard():
    down, up = (Residual(2, 4, 4, 8, resample=way) for way in (-1, 1))
    impulse = torch.zeros(1, 4, 16, 16)
    impulse[..., 7, 8] = 1
    told = torch.zeros(1, 8)
    with torch.no_grad():
        power = torch.fft.fft2(up(down(impulse, told), told)).abs()
    assert float(power[..., 8, :].max()) < 1e-6 and float(power[..., :, 8].max()) < 1e-6
    assert float(power.max()) > 0.5


# ------------------------------------------------------------------------------------------- classes
@pytest.fixture(scope="module")
def learned(tiles):
    """The tiny preset after some hundred steps."""
    recipe = recipe_of(tiles, multiples=(1,))
    torch.manual_seed(0)
    objective = recipe.objective()
    batch = tiles.split("train").batch(range(48))
    optimiser = torch.optim.Adam(objective.players["network"].parameters(), 5e-3)
    for step in range(120):
        torch.manual_seed(step)
        ((_, loss),) = objective.losses(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return recipe, objective


def darkness(recipe, objective, label):
    drawn = recipe.predict(objective, {"seed": torch.arange(16), "label": torch.full((16,), label)})
    return (1 - drawn["image"][:, 0].mean((1, 2))) / 2  # the red that haematoxylin takes out


def test_classes_are_drawn_as_they_are_told(learned):
    recipe, objective = learned
    few, some, many = (darkness(recipe, objective, label) for label in range(3))
    for less, more in ((few, some), (some, many)):
        apart = (more.mean() - less.mean()) / ((more.var() + less.var()) / 16).sqrt()
        assert float(apart) > 3, "p < 0.01"


def test_without_the_embedding_of_the_class_all_are_alike(learned):
    recipe, objective = learned
    embedding = objective.players["network"].conditioning.label
    kept = embedding.weight.detach().clone()
    try:
        embedding.weight.data.zero_()
        assert torch.equal(darkness(recipe, objective, 0), darkness(recipe, objective, 2))
    finally:
        embedding.weight.data.copy_(kept)


# ------------------------------------------------------------------------------------------- refusals
def test_tiles_in_another_stain_are_refused(raw, tiles):
    with pytest.raises(UserError, match="not in the stain that mfdpm learns from"):
        MFDPM.tiny().fitted(raw.facts())
    with pytest.raises(UserError, match="not in the stain that mfdpm learns from"):
        dataclasses.replace(MFDPM.tiny(), stain_reference=REFERENCE).fitted(tiles.facts())
    assert recipe_of(raw, stain="none").stain_reference == ()
    fitted = recipe_of(tiles)
    assert fitted.stain_reference == tiles.facts().stain and fitted == fitted.fitted(tiles.facts())
    with pytest.raises(UsageError, match="--stain-reference takes eight numbers"):
        MFDPM(stain_reference=(0.1, 0.2))
    with pytest.raises(UsageError, match="two quantiles of more than 0"):
        MFDPM(stain_reference=(*REFERENCE[:7], 0.0))


# ------------------------------------------------------------------------------------------- the GAN
def test_the_gan_pairs_what_it_judges_and_punishes_both_slopes(tiles):
    torch.manual_seed(0)
    gan = gan_of(recipe_of(tiles))
    assert set(gan.unaveraged) == {"critic"}
    batch = tiles.batch(range(4))
    torch.manual_seed(1)
    turns = dict(gan.losses(batch))
    torch.manual_seed(1)
    label, critic, generator = batch["label"], gan.players["critic"], gan.players["generator"]
    fake = generator(torch.randn(4, gan.latent), label).detach()
    shown = [each.clone().requires_grad_() for each in (batch["image"], fake)]
    judged = [critic(each, label) for each in shown]
    slopes = torch.autograd.grad(judged[0].sum() + judged[1].sum(), shown)
    steep = sum(slope.flatten(1).square().sum(1).mean() for slope in slopes)
    expected = nn.functional.softplus(judged[1] - judged[0]).mean() + 0.5 * steep
    assert turns["critic"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert float(steep) > 0
    turns["generator"].backward()
    assert any(bool(p.grad.abs().sum() > 0) for p in generator.parameters() if p.grad is not None)


def test_the_critic_is_told_the_class_by_projection(tiles):
    critic = gan_of(recipe_of(tiles)).players["critic"]
    x = tiles.batch([0, 1])["image"]
    zero, one = (critic(x, torch.full((2,), label)) for label in (0, 1))
    assert not torch.allclose(zero, one)
    critic.of_class.weight.data.zero_()
    assert torch.equal(critic(x, torch.zeros(2).long()), critic(x, torch.ones(2).long()))


def test_a_drawn_tile_depends_on_its_seed_and_class_alone(tiles):
    torch.manual_seed(0)
    gan = gan_of(recipe_of(tiles))
    assert isinstance(gan, GAN)
    labels = torch.tensor([0, 1, 2, 0, 1])
    seeds = [derive(3, k) for k in range(5)]
    whole = gan.drawn(seeds, labels, 5)
    assert whole.shape == (5, 3, 16, 16) and float(whole.abs().max()) <= 1
    assert torch.allclose(gan.drawn(seeds[3:], labels[3:], 1), whole[3:], atol=1e-5)
    assert not torch.allclose(gan.drawn(seeds[:1], torch.tensor([2]), 1), whole[:1])


# ------------------------------------------------------------------------------------------- copies
def test_the_other_view_of_a_tile_is_found_to_be_a_copy():
    def several(first, count):
        return torch.stack(
            [dyed(concentrations(first + k, 10)).float() / 127.5 - 1 for k in range(count)]
        )

    train, unseen = several(0, 40), several(100, 40)
    angle = torch.linspace(0.4, 5.9, 12)
    views = moved(train[:12].flip(-1), rotation(angle, 2, 0, 1) / 1.1, torch.zeros(12, 2))
    found = turned_copies({"views": views, "fresh": several(200, 12)}, unseen, train)
    assert float((found["views"].found.index == torch.arange(12)).float().mean()) > 0.9
    assert float(found["views"].flagged.float().mean()) > 0.9
    assert float(found["fresh"].flagged.float().mean()) <= 0.1
    as_they_are = find_copies(views, unseen, train)
    assert float(as_they_are.flagged.float().mean()) < 0.5, "which is what this test is for"


# ------------------------------------------------------------------------------------------- commands
def written(folder, made):
    """A folder of pictures with cases.csv."""
    folder.mkdir()
    lines = ["case,patient,split,image,label,label_name"]
    for item in made:
        shown = item["image"].permute(1, 2, 0).numpy()
        Picture.fromarray(shown).save(folder / f"{item['case']}.png")
        name = ("normal", "adeno", "squamous")[item["label"]]
        lines.append(
            f"{item['case']},{item['patient']},{item['split']},{item['case']}.png,{item['label']},{name}"
        )
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of few steps by the command line, and the data."""
    place = tmp_path_factory.mktemp("mfdpm")
    data = written(place / "tiles", items(100, held=40))
    words = ["train", "mfdpm", "--preset", "tiny", "--data", data, "--out", place / "run"]
    assert cli.main([str(word) for word in [*words, "--train.steps", "3"]]) == 0
    return place / "run"


def test_the_stain_of_training_is_kept_and_is_that_of_the_evaluation(run, monkeypatch):
    monkeypatch.setattr(features, "STEPS", 1)
    monkeypatch.setattr(distribution, "BOOTSTRAP", 5)
    monkeypatch.setattr(turned, "STEP", 90)
    monkeypatch.setattr(generation, "_bits", lambda *given: {})
    monkeypatch.setattr(taught, "STEPS", 3)
    recipe = tomllib.loads((run / "config.toml").read_text())["recipe"]
    assert recipe["stain"] == "macenko" and len(recipe["stain_reference"]) == 8
    assert cli.main(["evaluate", str(run), "--count", "40", "--batch", "40"]) == 0
    record = json.loads((run / "metrics.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    own = with_stain(open_cases(run.parent / "tiles"), recipe["stain_reference"])
    assert record["data"]["train"]["fingerprint"] == own.split("train").fingerprint
    assert manifest["data"]["fingerprint"] == own.fingerprint
    keys = {
        f"{metric}_of_{name}" for metric in ("fid", "kid", "coverage") for name in own.class_names
    }
    keys |= {"fid", "kid", "coverage", "copies_turned", "nearest_turned"}
    shown = (record["method"], record["baselines"]["gan"], record["reference"])
    assert all(keys <= its.keys() for its in shown)
    assert keys - {"copies_turned", "nearest_turned"} <= record["baseline"].keys()
    assert all({"taught_accuracy", "taught_f1", "taught_auroc"} <= its.keys() for its in shown)
    page = "\n".join(
        section({**record, "note": "", "trained": {"method": WAS}, "trained_by": ""}, "x", ())
    )
    assert "FID of adeno" in page and "accuracy on real images, learned from these" in page


WAS = {"minutes": 1, "steps": 3, "images": 24}


def test_tiles_of_a_class_are_measured_against_their_class_alone():
    real = torch.randn(120, 4, generator=seeded(0)).double()
    truth = torch.arange(120) % 2
    real[truth == 1] += 5
    right = by_class(real, truth, real + 0.01, truth, ("a", "b"))
    wrong = by_class(real, truth, real + 0.01, 1 - truth, ("a", "b"))
    for name in ("a", "b"):
        assert (
            right[f"coverage_of_{name}"]["mean"] == 1 and wrong[f"coverage_of_{name}"]["mean"] == 0
        )
        assert right[f"fid_of_{name}"]["mean"] < 0.1 < 50 < wrong[f"fid_of_{name}"]["mean"]


def test_an_empty_or_a_grey_tile_is_named_by_the_command(tmp_path, refused):
    made = items(8, held=2)
    made[3]["image"] = torch.full((3, 16, 16), 251, dtype=torch.uint8)
    data = written(tmp_path / "white", made)
    said = refused("train", "mfdpm", "--preset", "tiny", "--data", data, "--out", tmp_path / "run")
    assert "t3.png: case t3: is empty" in said and "leave it out, or take --stain none" in said
    said = refused("train", "mfdpm", "--data", "brains:count=12,size=16", "--out", tmp_path / "run")
    assert "is grey, and stains are told from red, green and blue" in said


def test_classes_of_people_with_many_images_are_measured_by_person():
    torch.manual_seed(0)
    sets = [
        torch.randn(20, 1, 3).expand(20, 20, 3).reshape(-1, 3) + 0.1 * torch.randn(400, 3)
        for _ in "ab"
    ]
    people = [[f"{name}{k}" for k in range(20) for _ in range(20)] for name in "pq"]
    label = torch.zeros(400, dtype=torch.long)
    found = by_class(sets[0], label, sets[1], label, (), *people)
    whole = kernel_metric(*sets, people=tuple(people))
    assert found["kid_of_0"]["ci95"] == whole["ci95"]


def test_the_reference_of_turned_tiles_is_of_people():
    torch.manual_seed(0)
    base = torch.randn(12, 1, 3, 24, 24)
    images = (base + 0.05 * torch.randn(12, 20, 3, 24, 24)).flatten(0, 1)
    cases = from_iterable(
        {"image": image, "patient": f"p{k // 20}", "split": "train" if k < 120 else "test"}
        for k, image in enumerate(images)
    )
    test = cases.split("test")
    found = _turned({"method": torch.randn(30, 3, 24, 24)}, cases.split("train"), test)
    nearest = found["reference"]["nearest_turned"]
    values = torch.tensor(list(nearest["per_patient"].values()))
    assert nearest["ci95"] == pytest.approx(average(values, people=test.patients)["ci95"])
