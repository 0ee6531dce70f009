"""DiffuseMorph, DDM and the task registration: the cards' checks, the command line, bad input."""

import dataclasses
import json
import math

import nibabel
import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.evaluate import evaluate
from radiffuse.applications.registration.baselines import CLASSICAL, attempt, b_spline, demons
from radiffuse.applications.registration.ddm import DDM
from radiffuse.applications.registration.diffusemorph import DiffuseMorph
from radiffuse.applications.registration.losses import misfit
from radiffuse.applications.registration.registering import Registering
from radiffuse.applications.registration.voxelmorph import voxelmorph_of
from radiffuse.data.dataset import from_iterable, open_cases
from radiffuse.data.formats.nifti import write_nifti
from radiffuse.data.image import Image
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UserError
from radiffuse.metrics.deformation import end_point_error
from radiffuse.metrics.fidelity import psnr
from radiffuse.nn.augment import Varied, mirrored_alike
from radiffuse.nn.warp import warp
from radiffuse.testing import check_recipe
from radiffuse.training.options import TrainOptions

SIDE = 32
RADII = (10.0, 9.0, 8.0, 7.0, 6.0)


def disc(radius, side=SIDE):
    """A soft disc in [-1, 1], (1, 1, side, side)."""
    axis = torch.arange(side) - (side - 1) / 2
    away = (axis[:, None].square() + axis.square()).sqrt()
    return (2 * torch.sigmoid((radius - away) * 2) - 1)[None, None]


def radius(image):
    """Radius of the disc of this area, (...,)."""
    return (((image + 1) / 2).sum((-1, -2)) / math.pi).sqrt()


def fitted(kind, side, **changes):
    """The tiny recipe of pictures of this side, with other fields."""
    cases = from_iterable([{key: torch.rand(1, side, side) for key in ("moving", "fixed")}] * 2)
    return dataclasses.replace(kind.tiny(), **changes).fitted(cases.facts())


@pytest.fixture(scope="module")
def shrinking():
    """DDM trained for a few seconds on one heart beat: a disc of radius 10 that shrinks to 6."""
    recipe = dataclasses.replace(
        DDM.tiny(), size=(SIDE, SIDE), smooth=0.2, padding="border", mirrored=False, frames=5
    )
    torch.manual_seed(0)
    objective = recipe.objective()
    batch = {"moving": disc(10).expand(6, -1, -1, -1), "fixed": disc(6).expand(6, -1, -1, -1)}
    parameters = [p for player in objective.players.values() for p in player.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-3)
    for step in range(45):
        torch.manual_seed(step)
        ((who, loss),) = objective.losses(batch)
        assert who == ("score", "field")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return recipe, objective, {key: value[:1] for key, value in batch.items()}


# ------------------------------------------------------------------------- what the cards ask for
def test_the_scaled_latent_moves_the_disc_monotonically_through_the_known_frames(shrinking):
    recipe, objective, pair = shrinking
    prediction = recipe.predict(objective, pair)
    found = radius(prediction["path"][0])
    assert (found.diff() < 0).all()
    assert (found - torch.tensor(RADII)).abs().max() < 0.8
    truth = torch.cat([disc(r) for r in RADII], dim=1)
    blend = torch.stack(
        [torch.lerp(pair["moving"], pair["fixed"], t)[0] for t in (0.25, 0.5, 0.75)]
    )
    between = prediction["path"][:, 1:-1]
    assert psnr(between, truth[:, 1:-1], 2) > psnr(blend.transpose(0, 1), truth[:, 1:-1], 2) + 1
    assert torch.equal(prediction["path"][:, -1:], prediction["warped"])
    assert prediction["folded"].shape == (1,) and prediction["folded"] < 0.01


def test_the_frames_are_warps_so_their_values_are_those_of_the_moving_image(shrinking):
    recipe, objective, pair = shrinking
    textured = pair["moving"] * torch.where(torch.arange(SIDE) % 4 < 2, 1.0, 0.5)
    path = recipe.predict(objective, {**pair, "moving": textured})["path"]
    assert path.min() >= textured.min() - 1e-5 and path.max() <= textured.max() + 1e-5
    assert torch.allclose(path[:, :1], textured, atol=1e-4), "it begins there, texture and all"


def test_the_field_grows_with_the_latent_and_a_wrong_latent_does_not_register(shrinking):
    recipe, objective, pair = shrinking
    moving, fixed = pair["moving"], pair["fixed"]
    with torch.no_grad():
        fields = list(objective.path(moving, fixed, torch.linspace(0, 1, 5)))
        s = objective.latent(moving, fixed, fixed, torch.tensor(1 / recipe.timesteps))
        shuffled = s.flatten()[
            torch.randperm(s.numel(), generator=torch.Generator().manual_seed(0))
        ]
        wrong = objective.field(moving, shuffled.reshape(s.shape))
    sizes = torch.stack([field.norm(dim=1).mean() for field in fields])
    assert (sizes.diff() > 0).all() and sizes[0] < 0.25 * sizes[-1]
    right = (recipe.warped(moving, fields[-1]) - fixed).square().mean()
    assert (recipe.warped(moving, wrong) - fixed).square().mean() > 3 * right
    assert torch.equal(fields[-1], recipe.register(objective, moving, fixed))
    assert not torch.allclose(fields[2], fields[-1] / 2, atol=0.02), (
        "the latent is scaled, not the field"
    )


def test_prediction_has_no_randomness_and_a_case_does_not_see_its_batch(shrinking):
    recipe, objective, pair = shrinking
    both = {
        "moving": torch.cat([pair["moving"], disc(8)]),
        "fixed": torch.cat([pair["fixed"], disc(12)]),
        "seed": torch.tensor([1, 2]),
    }
    together = recipe.predict(objective, both)
    alone = recipe.predict(objective, {**pair, "seed": torch.tensor([9])})
    for key, value in alone.items():
        assert torch.allclose(together[key][:1], value, atol=1e-4), key


def erring(diffeomorphic=False):
    """A method whose field errs: 1.5 voxels along the first axis whatever it is shown."""
    recipe = fitted(DDM, SIDE, refine=40, padding="border", diffeomorphic=diffeomorphic)
    objective = recipe.objective()
    error = torch.tensor([1.5, 0.0]).reshape(1, 2, 1, 1)
    objective.raw = lambda moving, latent: error.expand(len(moving), -1, SIDE, SIDE) * latent.mean()
    objective.latent = lambda moving, *others: torch.ones_like(moving)
    return recipe, objective


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_refined_for_the_pair_a_field_that_errs_is_made_right(diffeomorphic):
    recipe, objective = erring(diffeomorphic)
    moving, fixed = disc(10), disc(8)
    near = (disc(11) - disc(6)).abs() > 0.5
    truth = recipe.warped(moving, recipe.register(objective, moving, fixed))
    before = dataclasses.replace(recipe, refine=0)
    as_trained = before.warped(moving, before.register(objective, moving, fixed))
    assert (truth - fixed)[near].abs().mean() < 0.2 * (as_trained - fixed)[near].abs().mean()
    shift = before.register(objective, moving, fixed)[0, 0]
    assert shift.min() > 1.4, "as trained where no step is asked for"


def test_the_steps_change_frames_by_their_scale_and_begin_at_the_identity():
    recipe, objective = erring()
    moving, fixed = disc(10), disc(8)
    start, half, whole = objective.path(moving, fixed, torch.linspace(0, 1, 3), recipe.refine)
    plain = [*objective.path(moving, fixed, torch.linspace(0, 1, 3))]
    assert start.abs().max() == 0
    assert torch.allclose(2 * (half - plain[1]), whole - plain[2], atol=1e-5)
    assert (whole - plain[2]).abs().max() > 1
    prediction = recipe.predict(objective, {"moving": moving, "fixed": fixed})
    assert torch.equal(prediction["displacement"], whole)
    assert torch.equal(recipe.register(objective, moving, fixed), whole)


def test_a_refined_pair_does_not_see_its_batch():
    recipe, objective = erring()
    moving, fixed = torch.cat([disc(10), disc(7)]), torch.cat([disc(8), disc(11)])
    both = recipe.register(objective, moving, fixed)
    for row in range(2):
        alone = recipe.register(objective, moving[row : row + 1], fixed[row : row + 1])
        assert torch.allclose(both[row : row + 1], alone, atol=1e-5)


def test_refining_makes_no_steps_of_rounding():
    """Adam would go as far by a gradient of 1e-9, in air, as by one of an edge."""
    recipe, objective = erring()
    moving, fixed = disc(6), disc(5)
    field = recipe.register(objective, moving, fixed)
    generator = torch.Generator().manual_seed(0)
    near = [
        image + 1e-6 * torch.rand(image.shape, generator=generator) for image in (moving, fixed)
    ]
    assert torch.allclose(recipe.register(objective, *near), field, atol=2e-2)


def test_the_steps_alone_start_from_no_displacement():
    recipe, objective = erring()
    moving, fixed = disc(10), disc(9)
    alone = recipe.steps_alone(objective, moving, fixed)
    assert not torch.allclose(alone, recipe.register(objective, moving, fixed), atol=0.05)
    none = dataclasses.replace(recipe, refine=0)
    assert none.steps_alone(objective, moving, fixed).abs().max() == 0


@pytest.mark.parametrize("kind", [DiffuseMorph, DDM])
def test_the_registration_loss_reaches_the_diffusion_network(kind):
    """And the loss is noise error + lambda (misfit), at the same random t, on a noisy fixed image."""
    recipe = fitted(kind, 16, mirrored=False, similarity=3.0)
    torch.manual_seed(0)
    objective = recipe.objective()
    batch = {"moving": torch.rand(2, 1, 16, 16), "fixed": torch.rand(2, 1, 16, 16)}
    seen = []
    latent = objective.latent
    objective.latent = lambda *given: seen.append((*given, latent(*given))) or seen[-1][-1]
    ((_, loss),) = objective.losses(batch)
    moving, fixed, x_t, t, s = seen[0]
    alpha, sigma = objective.schedule(t, fixed)
    z = (x_t - alpha * fixed) / sigma
    against = misfit(moving, fixed, objective.field(moving, s), padding=recipe.padding)
    assert float(loss.detach()) == pytest.approx(
        float(((s - z).square().mean() + 3 * against.mean()).detach()), rel=1e-4
    )
    objective.latent = latent
    gradients = []
    for similarity in (0.0, 3.0):
        torch.manual_seed(0)
        objective.similarity = similarity
        ((_, loss),) = objective.losses(batch)
        weight = objective.players["score"].leave.weight
        gradients.append(torch.autograd.grad(loss, weight)[0])
    assert (gradients[0] - gradients[1]).abs().max() > 1e-6, "the misfit does not reach the network"


def pair(seed=0, count=2, side=16):
    """Moving and fixed pictures of no meaning, in [-1, 1]."""
    draw = torch.Generator().manual_seed(seed)
    return tuple(2 * torch.rand(count, 1, side, side, generator=draw) - 1 for _ in range(2))


def alive(recipe):
    """The objective of a recipe, the layers that begin at 0 given weights."""
    torch.manual_seed(0)
    objective = recipe.objective()
    for parameter in objective.players["score"].parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return objective


@pytest.mark.parametrize("kind", [DiffuseMorph, DDM])
def test_the_diffusion_network_is_told_both_images(kind):
    objective, t = alive(fitted(kind, 16)), torch.tensor(0.5)
    (moving, fixed), (others, _) = pair(), pair(1)
    with torch.no_grad():
        said = objective.latent(moving, fixed, fixed, t)
        for told in ((others, fixed, fixed), (moving, others, fixed), (moving, fixed, others)):
            assert (objective.latent(*told, t) - said).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [DiffuseMorph, DDM])
def test_registration_is_one_pass_over_the_clean_fixed_image_at_the_first_step(kind):
    recipe = fitted(kind, 16)
    objective, seen = alive(recipe), []
    moving, fixed = pair()
    score = objective.players["score"]
    score.register_forward_pre_hook(
        lambda _, args, told: seen.append((*args, told)), with_kwargs=True
    )
    recipe.predict(objective, {"moving": moving, "fixed": fixed, "seed": torch.arange(2)})
    ((x_t, clock, told),) = seen
    assert torch.equal(x_t, fixed) and torch.equal(told["image"], torch.cat([moving, fixed], 1))
    assert torch.allclose(clock, torch.full((2,), 1 / recipe.timesteps))


def test_the_fixed_image_is_noised_at_random_times_of_the_whole_chain():
    objective, seen = alive(fitted(DDM, 16)), []
    latent = objective.latent
    objective.latent = lambda *given: seen.append(given) or latent(*given)
    moving, fixed = pair(count=32)
    torch.manual_seed(0)
    for _ in objective.losses({"moving": moving, "fixed": fixed}):
        pass
    t = seen[0][3]
    assert t.min() < 0.1 and t.max() > 0.9 and len(t.unique()) > 20


def test_the_chain_of_the_paper_has_2000_small_betas():
    paper, tiny = DDM(), fitted(DDM, 16)
    ends = {name: getattr(paper, name) for name in ("timesteps", "beta_start", "beta_end")}
    betas = dataclasses.replace(tiny, **ends).objective().schedule.betas
    assert torch.allclose(betas, torch.linspace(1e-6, 1e-2, 2000).double())


def test_the_path_has_as_many_frames_as_the_data():
    recipe, (moving, fixed) = fitted(DDM, 16), pair()
    batch = {"moving": moving, "fixed": fixed, "frames": torch.zeros(2, 6, 16, 16)}
    objective = alive(recipe)
    assert recipe.predict(objective, batch)["path"].shape[1] == 6
    del batch["frames"]
    assert recipe.predict(objective, batch)["path"].shape[1] == recipe.frames == 3


def authors_synthesis(objective, moving, fixed, steps, noise):
    """The moving image noised to step `steps`, then ancestral steps told both, the estimate clipped."""
    betas = objective.schedule.betas
    kept = torch.cumprod(1 - betas, 0)
    x = kept[steps - 1].sqrt() * moving + (1 - kept[steps - 1]).sqrt() * noise(moving)
    for i in range(steps - 1, -1, -1):
        before = kept[i - 1] if i else torch.ones(())
        out = objective.latent(moving, fixed, x.float(), torch.tensor((i + 1) / len(betas)))
        x_0 = ((x - (1 - kept[i]).sqrt() * out) / kept[i].sqrt()).clamp(-1, 1)
        mean = before.sqrt() * betas[i] * x_0 + (1 - betas[i]).sqrt() * (1 - before) * x
        spread = (betas[i] * (1 - before) / (1 - kept[i])).sqrt()
        x = mean / (1 - kept[i]) + spread * noise(x)
    return x


def test_synthesis_is_the_authors_chain_from_a_tenth_of_the_way():
    recipe = fitted(DiffuseMorph, 16, synthesis=True, timesteps=50, beta_end=0.3)
    objective, (moving, fixed) = alive(recipe), pair()
    batch = {"moving": moving, "fixed": fixed, "seed": torch.tensor([4, 5])}
    made = recipe.predict(objective, batch)["synthetic"]
    with torch.no_grad():
        wanted = authors_synthesis(objective, moving, fixed, 5, Seeded([4, 5]))
        bold = objective.latent(moving, fixed, moving, torch.tensor(0.1)).abs().max()
    assert bold > 1, "the network errs enough to leave [-1, 1]"
    assert torch.allclose(made, wanted.float().clamp(-1, 1), atol=1e-4)


def test_the_paper_has_its_numbers():
    schedule = Discrete(torch.linspace(1e-6, 1e-2, 2000).double())
    assert float(schedule.alpha(torch.tensor(1.0).double())) == pytest.approx(0.0066, abs=1e-4)
    assert float(schedule.alpha(torch.tensor(0.1).double())) == pytest.approx(0.951, abs=1e-3)
    pictures = from_iterable(
        [{"moving": torch.rand(1, 16, 16), "fixed": torch.rand(1, 16, 16)}] * 2
    )
    volumes = from_iterable(
        [{"moving": torch.rand(1, *(16,) * 3), "fixed": torch.rand(1, *(16,) * 3)}] * 2
    )
    flat, deep = (DiffuseMorph().fitted(cases.facts()) for cases in (pictures, volumes))
    assert (flat.width, flat.similarity, flat.encoder[-1], flat.padding) == (
        64,
        2.0,
        1024,
        "border",
    )
    assert (deep.width, deep.similarity, deep.encoder[-1], deep.padding) == (8, 20.0, 32, "zeros")
    assert (flat.convolutions, deep.convolutions) == (2, 1)
    rates = [recipe.objective().rates for recipe in (flat, deep)]
    assert rates == [{"score": 0.025, "field": 0.025}, {"score": 1.0, "field": 1.0}], (
        "5e-6 and 2e-4"
    )
    alone = DiffuseMorph(similarity=0.0).fitted(pictures.facts())
    assert alone.similarity == 0, "no registration loss, as was asked"
    assert flat.timesteps == 2000 and not flat.anchored and flat.clean == 0
    assert DDM().similarity == 20 and DDM().width == 8


def test_synthesis_begins_at_the_moving_image_and_follows_the_conditions():
    recipe = fitted(DiffuseMorph, 16, synthesis=True)
    torch.manual_seed(0)
    objective = recipe.objective()
    moving, fixed = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    batch = {"moving": moving, "fixed": fixed, "seed": torch.tensor([4, 5])}
    made = recipe.predict(objective, batch)["synthetic"]
    assert made.shape == moving.shape and made.abs().max() <= 1
    alone = recipe.predict(objective, {k: v[1:] for k, v in batch.items()})["synthetic"]
    assert torch.allclose(made[1:], alone, atol=1e-4)
    near = dataclasses.replace(recipe, depth=1 / recipe.timesteps)
    barely = near.generate(objective, {**batch, "moving": 0.5 * moving})
    assert (barely - 0.5 * moving).abs().max() < 0.05, "one step of 200 changes next to nothing"


def test_both_images_of_a_case_are_mirrored_alike():
    torch.manual_seed(1)
    a = torch.rand(8, 1, 5, 6)
    first, second = mirrored_alike(a, a + 1)
    assert torch.equal(first + 1, second) and not torch.equal(first, a)
    assert torch.allclose(first.flatten(1).sort().values, a.flatten(1).sort().values)


def test_pairs_vary_alike_and_half_of_them_change_roles():
    """Both ends are the same picture in other grey values, so any turn of one must be one of the other."""
    torch.manual_seed(2)
    moving = torch.rand(400, 1, 8, 8)
    fixed = moving / 2 + 3
    first, second = Varied(swapped=True, mirrored=True, turns=25.0)(moving, fixed)
    same = (first < 1.5).flatten(1).all(1)
    assert 0.4 < same.float().mean() < 0.6
    here = torch.where(same[:, None, None, None], first, second)
    there = torch.where(same[:, None, None, None], second, first)
    assert torch.allclose(here / 2 + 3, there, atol=1e-5)
    assert not torch.allclose(here, moving, atol=0.1)
    still = Varied()(moving, fixed)
    assert torch.equal(still[0], moving) and torch.equal(still[1], fixed)


def test_the_diffeomorphic_option_hardly_folds():
    recipe = fitted(DDM, 16, diffeomorphic=True, anchored=False)
    torch.manual_seed(0)
    objective = recipe.objective()
    torch.nn.init.normal_(objective.players["field"].leave.weight, std=4.0)
    batch = {"moving": torch.rand(2, 1, 16, 16), "fixed": torch.rand(2, 1, 16, 16)}
    torch.nn.init.normal_(objective.players["score"].leave.weight, std=0.3)
    plain = Registering(
        objective.players["score"], objective.players["field"], objective.schedule, similarity=1.0
    )
    wild = dataclasses.replace(recipe, diffeomorphic=False).predict(plain, batch)["folded"]
    tame = recipe.predict(objective, batch)["folded"]
    assert wild.mean() > 0.05 and tame.mean() < 0.2 * wild.mean()


@pytest.mark.parametrize("kind", [DiffuseMorph, DDM])
def test_conformance_in_two_and_three_axes(kind):
    for data, rows in (
        ("brains:count=6,size=17,pairs=people", 4),
        ("brains3d:count=3,size=9,pairs=people", 2),
    ):
        cases = open_cases(data)
        check_recipe(kind, cases.facts(), cases.batch(range(rows)), steps=6)


# ------------------------------------------------------------------------------- baselines, metrics
def known_pair(axes):
    from test_warp import blobs, smooth_field

    size = (40, 44) if axes == 2 else (24, 26, 28)
    moving, truth = 2 * blobs(size) - 1, smooth_field(size, 4.0, 2, waves=0.7)
    return moving, warp(moving, truth), truth


@pytest.mark.parametrize("register", [b_spline, demons])
def test_classical_methods_recover_a_known_field_in_voxels_whatever_the_spacing(register):
    moving, fixed, truth = known_pair(2)
    there = truth.norm(dim=1, keepdim=True) > 0.3
    before = float(end_point_error(0 * truth, truth, there))
    for spacing in ((1.0, 1.0), (1.5, 0.75)):
        field = register(moving[0, 0], fixed[0, 0], spacing)[None]
        assert float(end_point_error(field, truth, there)) < 0.6 * before


def test_what_simpleitk_cannot_register_is_a_reason_and_no_field():
    image = disc(9)[0, 0]
    nothing = torch.full_like(image, torch.nan)
    assert attempt(b_spline, nothing, image, (1.0, 1.0)) == (
        "no voxel of the two images could be compared"
    )
    assert attempt(demons, nothing, image, (1.0, 1.0)) == "the field is not finite"
    thin = torch.rand(2, 32)
    assert "less than 4" in attempt(b_spline, thin, thin, (1.0, 1.0))
    assert attempt(b_spline, disc(8)[0, 0], image, (1.0, 1.0)).shape == (2, SIDE, SIDE)


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_voxelmorph_learns_to_register_by_the_misfit_alone(diffeomorphic):
    recipe = fitted(DDM, SIDE, smooth=0.2, mirrored=False, diffeomorphic=diffeomorphic)
    objective = voxelmorph_of(recipe)
    draw = torch.Generator().manual_seed(0)

    def pair(n):
        radii = 6 + 5 * torch.rand(2, n, generator=draw)
        return [torch.cat([disc(float(r)) for r in side]) for side in radii]

    adam = torch.optim.Adam(objective.players["field"].parameters(), 3e-3)
    for _ in range(40):
        moving, fixed = pair(6)
        ((who, loss),) = objective.losses({"moving": moving, "fixed": fixed})
        assert who == "field"
        adam.zero_grad()
        loss.backward()
        adam.step()
    moving, fixed = pair(16)
    with torch.no_grad():
        field = objective.displacement(moving, fixed)
        expected = misfit(moving, fixed, field, 0.2, padding=recipe.padding).mean()
    ((_, loss),) = objective.losses({"moving": moving, "fixed": fixed})
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    gap = (recipe.warped(moving, field) - fixed).square().mean()
    assert gap < 0.5 * (moving - fixed).square().mean()


def evaluated(tmp_path, cases, rows, **options):
    """The record of some pairs, and the recipe; VoxelMorph is trained as an untrained method was."""
    recipe = DDM.tiny().fitted(cases.facts())
    torch.manual_seed(0)
    objective = recipe.objective()
    options = {"cache": tmp_path / "features", **options}
    return evaluate(recipe, objective, cases.split("train"), cases.take(rows), **options)


def test_evaluation_sets_every_method_beside_doing_nothing(tmp_path):
    cases = open_cases("brains:count=9,size=32,pairs=motion")
    run = TrainOptions(steps=2, batch=3, learning_rate=1e-4, betas=(0.5, 0.9), seed=4)
    rows = [0, 3, 6]
    record = evaluated(tmp_path, cases, rows, trained=run, folder_for_pictures=tmp_path)
    assert set(record["baselines"]) == {"unregistered", "b_spline", "demons", "voxelmorph"}
    before, best = record["baselines"]["unregistered"], record["baseline"]
    assert best["dice"]["mean"] > before["dice"]["mean"]
    assert best["frames_psnr"]["mean"] > before["frames_psnr"]["mean"]
    assert best["end_point_error"]["mean"] < before["end_point_error"]["mean"]
    assert record["method"]["dice"]["n"] == len(set(cases.take(rows).patients))
    assert {"dice_1", "correlation", "mse", "folded", "seconds_per_pair"} <= set(record["method"])
    assert (tmp_path / "registration.png").is_file() and (tmp_path / "path.png").is_file()
    json.dumps(record, allow_nan=False)
    folder = tmp_path / "baseline-voxelmorph"
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["images"]) == (2, 6), "trained as long as the method"
    (state,) = folder.glob("checkpoint/*/state.json")
    settings = json.loads(state.read_text())["settings"]
    assert settings["--train.learning-rate"] == 1e-4 and settings["--train.betas"] == [0.5, 0.9]
    log = (folder / "log.jsonl").read_bytes()
    again = evaluated(tmp_path, cases, rows, trained=run)
    assert (folder / "log.jsonl").read_bytes() == log, "found again, not trained again"
    assert again["baselines"]["voxelmorph"]["dice"] == record["baselines"]["voxelmorph"]["dice"]


def test_steps_without_the_network_stand_beside_a_method_that_refines(tmp_path):
    cases = open_cases("brains:count=6,size=32,pairs=motion")
    recipe = dataclasses.replace(DDM.tiny(), refine=2).fitted(cases.facts())
    objective = recipe.objective()
    options = {"cache": tmp_path / "features", "trained": TrainOptions(steps=1, batch=2)}
    record = evaluate(recipe, objective, cases.split("train"), cases.take([0]), **options)
    assert "steps_alone" in record["baselines"]


@pytest.fixture
def failing(monkeypatch):
    """B-splines that fail on images of some row, and Demons that always fail."""

    def install(cases, row):
        hard = cases.batch([row])["moving"][0, 0]

        def sometimes(moving, fixed, spacing_mm):
            if torch.equal(moving, hard):
                raise RuntimeError("Exception thrown in SimpleITK\nITK ERROR: no overlap\n")
            return torch.ones(2, *moving.shape)

        def never(moving, fixed, spacing_mm):
            return torch.full((2, *moving.shape), torch.nan)

        monkeypatch.setitem(CLASSICAL, "b_spline", sometimes)
        monkeypatch.setitem(CLASSICAL, "demons", never)

    return install


def test_a_pair_that_was_not_registered_is_named_and_in_no_metric(tmp_path, failing):
    cases = open_cases("brains:count=9,size=32,pairs=motion")
    rows = [0, 3, 6]
    failing(cases, 3)
    record = evaluated(tmp_path, cases, rows, cache=None)
    name = cases.ids[3]
    assert record["failures"]["b_spline"] == {name: "ITK ERROR: no overlap"}
    assert set(record["failures"]["demons"]) == {cases.ids[row] for row in rows}
    found = record["baselines"]["b_spline"]
    assert found["failed"]["mean"] == pytest.approx(1 / 3) and found["failed"]["n"] == 3
    others = evaluated(tmp_path, cases, [0, 6], cache=None)
    assert not others["failures"]["b_spline"]
    for metric, value in others["baselines"]["b_spline"].items():
        if metric not in ("failed", "seconds_per_pair"):
            assert found[metric] == value, metric
    assert found["dice"]["n"] == 2 and name not in found["dice"]["per_patient"]
    assert record["baselines"]["demons"]["failed"]["mean"] == 1
    assert record["baselines"]["demons"]["correlation"]["refused"] == "no pair was registered"
    assert record["settings"]["baseline"] == "b_spline"
    json.dumps(record, allow_nan=False)


# ------------------------------------------------------------------------------------ command line
AFFINE = torch.tensor([[0, -1.5, 0, 4], [1.2, 0, 0, -7], [0, 0, 3.0, 9], [0, 0, 0, 1]]).double()


@pytest.fixture
def folder(tmp_path):
    """A data set of 12 volumes of NIfTI pairs with masks."""
    pairs = open_cases("brains3d:count=12,size=8,pairs=people")
    rows = ["case,split,moving,fixed,moving_mask,fixed_mask"]
    for row in range(12):
        names = []
        for key in ("moving", "fixed", "moving_mask", "fixed_mask"):
            data = pairs.image(row, key).data
            write_nifti(Image(data, AFFINE), tmp_path / f"{key}{row}.nii.gz")
            names.append(f"{key}{row}.nii.gz")
        rows.append(",".join([f"c{row}", "train" if row < 10 else "test", *names]))
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    return tmp_path


def test_train_predict_evaluate_report(folder, capsys):
    run, out = folder / "run", folder / "out"

    def radiffuse(*words):
        assert cli.main([str(word) for word in words]) == 0, capsys.readouterr().err

    steps = ("--preset", "tiny", "--train.steps", 2, "--train.batch", 2)
    radiffuse("train", "diffusemorph", "--data", folder, "--out", run, *steps)
    radiffuse("predict", run, "--out", out)
    radiffuse("evaluate", run)
    radiffuse("report", run)
    radiffuse("report", out)
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    entry = entries[0]
    assert set(entry["files"]) == {"warped", "displacement", "path"}
    assert 0 <= entry["values"]["folded"] <= 1
    assert entry["displacement"] == {
        "unit": "mm", "axes": "LPS", "geometry": "of the fixed image"
    }  # fmt: skip
    field = nibabel.load(out / entry["files"]["displacement"])
    path = nibabel.load(out / entry["files"]["path"])
    assert field.shape == (8, 8, 8, 1, 3) and path.shape == (8, 8, 8, 3)
    for file in (field, path, nibabel.load(out / entry["files"]["warped"])):
        assert np.allclose(file.affine, AFFINE, atol=1e-4)
    radiffuse("predict", run, "--samples", 2, "--out", folder / "several")
    several = json.loads((folder / "several" / "predictions.json").read_text())["predictions"][0]
    assert set(several["files"]) == {"warped-mean", "displacement-mean", "path-mean"}
    mean = nibabel.load(folder / "several" / several["files"]["displacement-mean"])
    assert mean.header.get_intent()[0] == "vector" and mean.shape == field.shape
    assert np.allclose(mean.get_fdata(), field.get_fdata(), atol=1e-5), "in mm, as that of one draw"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "registration" and metrics["settings"]["spacing_mm"] == pytest.approx(
        [1.2, 1.5, 3.0]
    )
    page = (run / "report.html").read_text()
    assert "Registration" in page and "unregistered" in page


@pytest.mark.parametrize(
    "spoil, said",
    [
        ("grid", "c3 lie on different grids"),
        ("size", "c3 lie on different grids"),
        ("empty", "the moving image of case c3 is empty"),
    ],
)
def test_bad_pairs_are_refused_in_one_line(folder, capsys, spoil, said):
    data, affine = torch.rand(1, 8, 8, 8), AFFINE.clone()
    if spoil == "grid":
        affine[0, 3] += 2
    if spoil == "size":
        data = (data[:, :4] * 3).round()
    if spoil == "empty":
        data = torch.zeros_like(data)
    write_nifti(Image(data, affine), folder / "moving3.nii.gz")
    words = ["train", "ddm", "--data", folder, "--out", folder / "run", "--preset", "tiny"]
    assert cli.main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_mask_of_another_size_and_no_geometry_is_refused():
    pair = {"moving": torch.rand(1, 8, 8), "fixed": torch.rand(1, 8, 8)}
    masks = {f"{key}_mask": torch.ones(1, 8, 8, dtype=torch.uint8) for key in pair}
    masks["moving_mask"] = masks["moving_mask"][:, :4]
    with pytest.raises(
        UserError, match="moving_mask of case 0000 has 4 x 8 voxels, its image 8 x 8"
    ):
        from_iterable([{**pair, **masks}] * 2)


def test_missing_keys_sizes_and_colours_are_refused():
    pair = {"moving": torch.rand(1, 1, 16), "fixed": torch.rand(1, 1, 16)}
    with pytest.raises(UserError, match="stride"):
        DDM.tiny().fitted(from_iterable([pair] * 2).facts())
    colour = {key: torch.rand(3, 16, 16) for key in pair}
    with pytest.raises(UserError, match="moving has 3 channels"):
        DDM.tiny().fitted(from_iterable([colour] * 2).facts())
    with pytest.raises(UserError, match="--map fixed=COLUMN"):
        DDM.tiny().fitted(
            from_iterable(
                [{"moving": torch.rand(1, 16, 16), "other": torch.rand(1, 16, 16)}] * 2
            ).facts()
        )


# ----------------------------------------------------------------------------------- embedded pairs
def test_embedded_motion_has_known_frames_from_moving_to_fixed():
    batch = open_cases("brains:count=3,size=32,pairs=motion").batch(range(3))
    assert torch.equal(batch["frames"][:, :1], batch["moving"])
    assert torch.equal(batch["frames"][:, -1:], batch["fixed"])
    steps = (batch["frames"] - batch["frames"][:, :1]).square().flatten(2).mean(2)
    assert (steps.diff(dim=1) > 0).all(), "each frame is further from the first"


@pytest.mark.parametrize("data", ["brains:count=3,size=64", "brains3d:count=1,size=32"])
def test_embedded_motion_has_the_field_that_pulls_moving_onto_fixed(data):
    batch = open_cases(f"{data},noise=0,pairs=motion").batch([0])
    moving, fixed, field = batch["moving"], batch["fixed"], batch["field"]
    before, after = (fixed - moving).abs().mean(), (fixed - warp(moving, field)).abs().mean()
    wrong = (fixed - warp(moving, -field)).abs().mean()
    assert after < 0.5 * before < 0.5 * wrong


def test_a_known_motion_of_embedded_brains_is_recovered_to_half_a_voxel():
    """Trained on nine pairs that move by 0.9 voxels in the mean, told nothing of how they move."""
    cases = open_cases("brains:count=9,size=32,pairs=motion")
    changes = {"similarity": 10.0, "smooth": 0.3, "clean": 0.8, "mirrored": False}
    recipe = dataclasses.replace(DDM.tiny(), padding="border", **changes).fitted(cases.facts())
    torch.manual_seed(0)
    objective, batch = recipe.objective(), cases.batch(range(9))
    parameters = [p for player in objective.players.values() for p in player.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-3)
    for step in range(150):
        torch.manual_seed(step)
        ((_, loss),) = objective.losses(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tissue = batch["fixed_mask"] > 0
    field = recipe.register(objective, batch["moving"], batch["fixed"])
    assert end_point_error(torch.zeros_like(field), batch["field"], tissue).mean() > 0.8
    assert end_point_error(field, batch["field"], tissue).mean() < 0.5
    assert end_point_error(-field, batch["field"], tissue).mean() > 0.8


def test_embedded_people_share_no_person_across_pairs():
    cases = open_cases("brains:count=9,size=16,pairs=people")
    assert len(set(cases.patients)) == 3 and cases.image(0, "fixed").affine is not None
    with pytest.raises(UserError, match="pairs is one of"):
        open_cases("brains:pairs=cats")
