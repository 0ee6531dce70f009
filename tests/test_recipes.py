"""Every recipe of the rows of papers.py passes the public suite on embedded data, in 2-D and 3-D."""

import dataclasses

import pytest
import torch

from radiffuse import papers
from radiffuse.applications import parts
from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.applications.generation.ncsn import NCSN, ladder_ratio, langevin_step
from radiffuse.applications.generation.sde import SDE
from radiffuse.applications.presets import TINY
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.noise import derive, gaussian
from radiffuse.diffusion.sample import prior
from radiffuse.errors import UsageError, UserError
from radiffuse.testing import GaussianDenoiser, check_recipe

GENERIC = ("ddpm", "ncsn", "sde")
VOLUMES_ALONE = ("ddpm-3d",)
WHOLE_PATCHES = ("flow",)
"""An exact inverse has no voxels to spare: patches divide the image, or it is refused."""
FROM_IMAGES = tuple(
    name
    for name in papers.implemented()
    if papers.by_id(name).load().task.reads == ("image",) and name not in VOLUMES_ALONE
)
"""Methods that train on images alone; the others are put to the suite beside their own tests."""


@pytest.fixture(scope="module")
def slices():
    return open_cases("brains:count=24,size=32,lesions=0.5,label=lesion")


@pytest.fixture(scope="module")
def odd():
    return open_cases("brains:count=24,size=33,lesions=0.5,label=lesion")


@pytest.fixture(scope="module")
def volumes():
    """Of odd sides, too."""
    return open_cases("brains3d:count=4,size=15")


@pytest.mark.parametrize("method", FROM_IMAGES)
def test_conformance_2d(method, odd, slices):
    data = slices if method in WHOLE_PATCHES else odd
    check_recipe(papers.by_id(method).load(), data.facts(), data.batch(range(8)))


@pytest.mark.parametrize("method", (*GENERIC, *VOLUMES_ALONE))
def test_conformance_3d(method, volumes):
    check_recipe(papers.by_id(method).load(), volumes.facts(), volumes.batch(range(3)))


def test_a_recipe_whose_cases_see_each_other_does_not_conform(slices):
    class Social(DDPM):
        def predict(self, objective, batch):
            image = super().predict(objective, batch)["image"]
            return {"image": image - image.mean()}

    with pytest.raises(AssertionError, match="image of a case depends on its batch"):
        check_recipe(Social, slices.facts(), slices.batch(range(8)))


@pytest.mark.parametrize("method", GENERIC)
def test_a_sample_does_not_depend_on_its_batch(method, slices):
    recipe = papers.by_id(method).load().tiny().fitted(slices.facts())
    torch.manual_seed(0)
    objective = recipe.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    seeds = torch.tensor([derive(1, k) for k in range(5)])
    together = recipe.predict(objective, {"seed": seeds})["image"]
    alone = recipe.predict(objective, {"seed": seeds[3:4]})["image"]
    assert torch.allclose(together[3:4], alone, atol=2e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


PROCESSES = ("vp", "sub-vp", "ve", "sigma-power", "edm", "flow")
PAPER = {**TINY, "steps": 20}
"""A paper's own choices but for the size of its network and the length of its chain."""


def trained_and_sampled(recipe, slices):
    """An image of a network whose weights are not those of the beginning, which sees nothing."""
    recipe = recipe.fitted(slices.facts())
    objective = recipe.objective()
    ((_, loss),) = objective.losses(slices.batch(range(4)))
    assert torch.isfinite(loss)
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return recipe.predict(objective, {"seed": torch.arange(2)})["image"]


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_of_the_sde_from_its_start_to_its_stop(process, slices):
    image = trained_and_sampled(dataclasses.replace(SDE.tiny(), process=process), slices)
    assert image.shape == (2, 1, 32, 32) and torch.isfinite(image).all()


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_with_the_parts_of_the_paper_is_finite_or_refused(process, slices):
    recipe = dataclasses.replace(SDE(), **PAPER, process=process)
    if process == "flow":
        with pytest.raises(UsageError, match="--start 1: no signal is left there, and --predicts"):
            recipe.fitted(slices.facts())
        recipe = dataclasses.replace(recipe, predicts="flow", sampler="heun")
    assert torch.isfinite(trained_and_sampled(recipe, slices)).all()


@pytest.mark.parametrize("predicts", ["clean", "velocity", "flow", "edm"])
def test_a_chain_from_zero_signal_is_finite_where_nothing_divides_by_it(predicts, slices):
    recipe = dataclasses.replace(DDPM(), **PAPER, zero_terminal=True)
    with pytest.raises(UsageError, match=r"--predicts noise \(take flow, velocity or edm\)"):
        recipe.fitted(slices.facts())
    recipe = dataclasses.replace(recipe, predicts=predicts)
    assert torch.isfinite(trained_and_sampled(recipe, slices)).all()


@pytest.mark.parametrize("method", ["ddpm", "sde"])
def test_the_flow_is_solved_down_to_no_noise(method, slices):
    process = {} if method == "ddpm" else {"process": "vp"}
    tiny = dataclasses.replace(
        papers.by_id(method).load().tiny(), sampler="ode", steps=1, stop=0.0, **process
    )
    image = trained_and_sampled(tiny, slices)
    assert torch.isfinite(image).all()


SAMPLERS = [name for name in parts.SAMPLERS if name not in ("ddpm-learned", "ode")]


@pytest.mark.parametrize("grid", ["uniform", "quadratic", "karras", "log-snr"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_on_every_grid(sampler, grid, slices):
    tiny = papers.by_id("ddpm").load().tiny()
    recipe = dataclasses.replace(
        tiny, sampler=sampler, grid=grid, start=0.99, stop=1e-3, steps=3
    ).fitted(slices.facts())
    image = recipe.predict(recipe.objective(), {"seed": torch.arange(2)})["image"]
    assert torch.isfinite(image).all()


def test_class_conditions_and_both_guidances(slices):
    tiny = dataclasses.replace(
        papers.by_id("ddpm").load().tiny(), conditional=True, classifier=True
    )
    recipe = dataclasses.replace(tiny, guidance=2.0).fitted(slices.facts())
    assert recipe.classes == slices.facts().classes
    torch.manual_seed(0)
    objective = recipe.objective()
    assert set(objective.players) == {"network", "classifier"}
    for player in objective.players.values():
        for parameter in player.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    seeds = torch.tensor([5, 5])
    asked = {"seed": seeds, "label": torch.tensor([0, 1])}
    first, second = recipe.predict(objective, asked)["image"]
    assert not torch.allclose(first, second, atol=1e-4), "the label must matter"
    with pytest.raises(UserError, match="labels run from 0 to"):
        recipe.predict(objective, {"seed": seeds, "label": torch.tensor([0, 9])})


def test_a_label_for_an_unconditional_model_is_refused(slices):
    recipe = papers.by_id("sde").load().tiny().fitted(slices.facts())
    with pytest.raises(UserError, match="without labels"):
        recipe.predict(recipe.objective(), {"seed": torch.zeros(1).long(), "label": torch.ones(1)})


def test_a_size_that_does_not_fit_says_which_would(slices):
    facts = dataclasses.replace(slices.facts(), size={"image": (30, 3)})
    with pytest.raises(UserError, match="--size 30 8"):
        dataclasses.replace(
            papers.by_id("ddpm").load().small(), multiples=(1, 1, 1), patch=2, attention=()
        ).fitted(facts)


def test_learned_variance_end_to_end(slices):
    tiny = papers.by_id("ddpm").load().tiny()
    recipe = dataclasses.replace(tiny, learned_variance=True, sampler="ddpm-learned")
    recipe = recipe.fitted(slices.facts())
    objective = recipe.objective()
    ((_, loss),) = objective.losses(slices.batch(range(4)))
    loss.backward()
    image = recipe.predict(objective, {"seed": torch.arange(2)})["image"]
    assert torch.isfinite(image).all()


def test_a_learned_variance_is_sampled_with_unless_another_sampler_is_named(slices):
    paper = DDPM(learned_variance=True)
    assert paper.fitted(slices.facts()).sampler == "ddpm-learned"
    assert dataclasses.replace(paper, sampler="ddim").fitted(slices.facts()).sampler == "ddim"
    assert DDPM().fitted(slices.facts()).sampler == "ddpm-large"


@pytest.mark.parametrize("guide", ["conditional", "classifier"])
def test_a_learned_variance_can_be_guided(guide, slices):
    """Guidance moves the mean; w stays that of the network (of its conditional half)."""
    tiny = dataclasses.replace(DDPM.tiny(), learned_variance=True, sampler="ddpm", **{guide: True})
    recipe = dataclasses.replace(tiny, guidance=2.0).fitted(slices.facts())
    objective = recipe.objective()
    for player in objective.players.values():
        for parameter in player.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    label, t = torch.tensor([0, 1]), torch.tensor(0.5)
    x_t = torch.randn(2, 1, 32, 32)
    denoiser = recipe.denoiser(objective, label)
    mean, w = denoiser.with_variance(x_t, t)
    assert torch.allclose(mean, denoiser(x_t, t), atol=1e-5)
    main = denoiser.main if guide == "conditional" else denoiser.denoiser
    plain, own = main.with_variance(x_t, t)
    assert torch.equal(w, own) and not torch.allclose(mean, plain, atol=1e-4)
    asked = {"seed": torch.arange(2), "label": label}
    assert torch.isfinite(recipe.predict(objective, asked)["image"]).all()


def test_ncsnv2_constants_of_the_paper():
    """CIFAR-10's ladder, 232 levels of ratio 1.03756 with overlap 0.567; its step 6.2e-6 for T = 5."""
    assert ladder_ratio(3072, overlap=0.567) == pytest.approx(1.03756, abs=2e-4)
    assert langevin_step(1.03756, 5, 0.01) == pytest.approx(6.2e-6, rel=0.15)


@pytest.mark.parametrize(
    ("sampler", "right"), [("dpm-solver-sde", True), ("ddpm", False), ("langevin", False)]
)
def test_ncsn_small_samples_exactly_with_few_levels(sampler, right):
    """Gaussian data, exact denoiser: steps of second order give their deviation, others lose or add some."""
    recipe = dataclasses.replace(NCSN.small(), sigma_max=50.0, levels=60, count=1)
    assert recipe.sampler == "dpm-solver-sde" and recipe.steps == 60
    recipe = dataclasses.replace(recipe, sampler=sampler)
    exact = GaussianDenoiser(recipe.schedule(), 0.3, 0.5)
    like = torch.zeros(20_000, 1, dtype=torch.float64)
    torch.manual_seed(0)
    start = prior(recipe.schedule(), like)
    x = recipe.make_sampler(exact, gaussian)(start, recipe.make_grid(recipe.schedule()))
    near = float(x.std()) == pytest.approx(0.5, rel=0.02) and abs(float(x.mean()) - 0.3) < 0.03
    assert near == right, (float(x.mean()), float(x.std()))


def test_ncsn_derives_its_ladder_from_the_data(slices):
    facts = slices.facts()
    recipe = papers.by_id("ncsn").load()().fitted(facts)
    assert recipe.sigma_max == pytest.approx(facts.diameter, abs=0.01)
    sigma = recipe.schedule().sigma(torch.linspace(1, 0, recipe.levels).double())
    assert float(sigma[0] / sigma[1]) <= ladder_ratio(32 * 32) + 1e-6


def test_ncsn_trains_on_every_level_of_its_ladder_alike():
    """A batch as large as the ladder holds each level once: strata, where free draws would miss a third."""
    recipe = NCSN(sigma_max=50.0, levels=60)
    levels = recipe.times(recipe.schedule())(60) * 59
    assert torch.equal(levels.sort().values.round(), torch.arange(60.0, dtype=torch.float64))


def test_eta_churn_and_respacing_are_settings(slices):
    """DDIM with eta 1 draws, with 0 it does not; respacing asks at times of the chain alone."""
    tiny = papers.by_id("ddpm").load().tiny()
    recipe = dataclasses.replace(tiny, sampler="ddim", steps=4).fitted(slices.facts())
    objective, batch = recipe.objective(), {"seed": torch.arange(2)}
    plain = recipe.predict(objective, batch)["image"]
    noisy = dataclasses.replace(recipe, eta=1.0)
    assert not torch.allclose(noisy.predict(objective, batch)["image"], plain, atol=1e-3)
    assert noisy.make_sampler(recipe.denoiser(objective), None).eta == 1.0
    solver = dataclasses.replace(recipe, sampler="dpm-solver", eta=0.7)
    assert solver.make_sampler(recipe.denoiser(objective), None).eta == 0.7
    heun = dataclasses.replace(recipe, sampler="heun", churn=0.2)
    assert heun.make_sampler(recipe.denoiser(objective), None).churn == 0.2
    times = dataclasses.replace(recipe, grid="strided", stop=0.0, start=1.0).make_grid(
        recipe.schedule()
    )
    chain = times * recipe.schedule().steps
    assert torch.allclose(chain, chain.round()) and len(times) == 5
    sde = dataclasses.replace(papers.by_id("sde").load().tiny(), grid="strided", stop=0.0)
    with pytest.raises(UsageError, match="--grid strided: respacing needs a chain of discrete"):
        sde.fitted(slices.facts())
