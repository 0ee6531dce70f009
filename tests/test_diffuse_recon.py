"""diffuse-recon: guidance by noised k-space, coarse samples, fine steps, neighbouring slices."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch

from radiffuse.acquisition import MRI, Acquired
from radiffuse.applications.reconstruction.complex_prior import phased
from radiffuse.applications.reconstruction.diffuse_recon import DiffuseRecon
from radiffuse.applications.reconstruction.stacks import Beside, Stack, in_units, side_by_side
from radiffuse.data.dataset import open_cases
from radiffuse.data.neighbours import with_neighbours
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.sample import DDPM, grids, prior
from radiffuse.errors import UserError
from radiffuse.inverse import Measurement, data_consistency
from radiffuse.operators import Coils, Fourier, Mask
from radiffuse.testing import Counted, GaussianDenoiser, check_operator

SHORT = dataclasses.replace(DiffuseRecon(), channels=2, steps=10, chains=1, refine=0)


def acquired_by(mask, image):
    """A scan with one coil of sensitivity 1, without noise."""
    A = Mask(mask) @ Fourier(2)
    y = A(image)
    ones = torch.ones(len(image))
    maps = torch.ones(1, 1, *image.shape[2:], dtype=torch.complex64)
    return Acquired(Measurement(y, A, 0.01), A.adjoint(y), ones, ones, A.adjoint, maps, mask)


def an_image(count=1, size=8):
    generator = torch.Generator().manual_seed(3)
    parts = torch.rand(2, count, 1, size, size, generator=generator) - 0.5
    return torch.complex(*parts)


def some(size=8):
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool)
    mask[..., ::2] = True
    return mask


def the_prior(recipe=SHORT, std=0.5):
    return GaussianDenoiser(recipe.schedule(), 0.0, std)


def test_everything_measured_gives_the_truth_and_nothing_measured_the_plain_chain_bit_for_bit():
    image, full = an_image(2), torch.ones(1, 1, 8, 8)
    x = SHORT.chain(the_prior(), acquired_by(full, image), Seeded([1, 2]))
    assert torch.allclose(x, image, atol=1e-5)
    x = SHORT.chain(the_prior(std=0.1), acquired_by(0 * full, image), Seeded([1, 2]))
    schedule, noise = SHORT.schedule(), Seeded([1, 2])
    plain = DDPM(the_prior(std=0.1), _every_second(noise), w=1.0)
    start = prior(schedule, image, noise)
    assert torch.equal(x, plain(start, grids.strided(schedule, 10)))


def _every_second(noise):
    """The chain's own draws: after each, the guidance draws its noise too (not at the last step)."""
    draws = [0]

    def draw(like):
        draws[0] += 1
        z = noise(like)
        if draws[0] < 10:
            noise(like)
        return z

    return draw


def test_estimates_beyond_what_an_image_can_be_are_clipped():
    image = an_image(1)
    beyond = GaussianDenoiser(SHORT.schedule(), 3.0, 0.01)
    x = SHORT.chain(beyond, acquired_by(torch.zeros(1, 1, 8, 8), image), Seeded([1]))
    assert 0.9 < float(x.real.max()) < 1.1
    recipe = dataclasses.replace(SHORT, refine=5)
    x = recipe.fine(beyond, acquired_by(torch.zeros(1, 1, 8, 8), image), image, Seeded([1]))
    assert torch.allclose(x.real, torch.ones(1, 1, 8, 8), atol=1e-3)


def test_the_mixture_replaces_what_is_measured_and_nothing_else():
    image, mask = an_image(), some()
    m = acquired_by(mask, image).measurement
    project = data_consistency(m, noised=True, inverse=m.A.adjoint)
    x = torch.complex(torch.randn(1, 1, 8, 8), torch.randn(1, 1, 8, 8))
    alpha, sigma = torch.tensor(0.8), torch.tensor(0.6)
    z = Seeded([5])(x)
    out = Fourier(2)(project(x, alpha, sigma, Seeded([5])))
    expected = alpha * m.y + sigma * mask * Fourier(2)(z)
    assert torch.allclose(out * mask, expected, atol=1e-6)
    assert torch.allclose(out * ~mask, Fourier(2)(x) * ~mask, atol=1e-6)


class Watched(DDPM):
    """Keeps what every step is given."""

    seen: ClassVar[list] = []

    def step(self, x_t, t, s, state):
        Watched.seen.append((x_t, float(t)))
        return super().step(x_t, t, s, state)


def test_guided_coefficients_have_the_noise_of_the_level_moved_to(monkeypatch):
    """k_{t-1} = alpha_{t-1} y + sigma_{t-1} n: at each step's start the level is that of its own t."""
    monkeypatch.setattr("radiffuse.applications.reconstruction.diffuse_recon.DDPM", Watched)
    Watched.seen = []
    torch.manual_seed(0)
    image, mask = an_image(), some()
    many = image.expand(500, -1, -1, -1)
    acquired = acquired_by(mask, many)
    SHORT.chain(the_prior(), acquired, gaussian)
    assert len(Watched.seen) == 10
    times = grids.strided(SHORT.schedule(), 10)
    for number, (x, t) in enumerate(Watched.seen):
        assert t == pytest.approx(float(times[number]))
        if number == 0:
            continue
        alpha, sigma = SHORT.schedule()(torch.tensor(t), x)
        rest = (Fourier(2)(x) - alpha * acquired.measurement.y)[:, :, mask[0, 0]]
        each = torch.view_as_real(rest).var(0)
        assert torch.allclose(each, (sigma**2).expand_as(each), rtol=0.35)
        assert float(each.mean() / sigma**2) == pytest.approx(1, rel=0.02)


def test_a_chain_guided_without_noise_would_be_told_apart():
    """The level's noise matters: a clean y at each step changes the unmeasured half of a correlated prior."""
    image, mask = an_image(), some()
    m = acquired_by(mask, image).measurement
    x = torch.zeros_like(image)
    noised = data_consistency(m, noised=True, inverse=m.A.adjoint)
    clean = data_consistency(m, inverse=m.A.adjoint)
    at = (torch.tensor(0.8), torch.tensor(0.6), Seeded([1]))
    assert not torch.allclose(noised(x, *at), clean(x, *at), atol=0.1)


@pytest.mark.parametrize("slices", [1, 2])
def test_number_of_network_calls(slices):
    recipe = dataclasses.replace(SHORT, channels=2 * slices, steps=7, chains=3, refine=5)
    image = an_image(4)
    rows = [acquired_by(some(), image[k : k + 1]) for k in range(4)]
    acquired = rows[1]
    if slices == 2:
        acquired = Stack(**vars(rows[1]), around=(rows[0], rows[2], rows[3]))
    counted = Counted(the_prior(recipe))
    recipe.chain(counted, acquired, Seeded([1]))
    pairs = 3 if slices == 2 else 1
    assert counted.calls == 7 * 3 * pairs + 5


def test_coarse_means_come_nearer_to_the_conditional_mean_with_more_samples():
    """Independent coefficients: the posterior mean is y where measured, 0 elsewhere. Error ~ M^-1/2."""
    torch.manual_seed(0)
    image, mask = an_image(), some()
    acquired = acquired_by(mask, image.expand(64, -1, -1, -1))
    exact = Fourier(2).adjoint(mask * Fourier(2)(image))
    recipe = dataclasses.replace(SHORT, steps=12)
    denoiser = the_prior(recipe, 0.2)
    errors = []
    for samples in (2, 8):
        coarse = dataclasses.replace(recipe, chains=samples).coarse(denoiser, acquired, gaussian)
        assert coarse.shape == (samples, 64, 1, 8, 8)
        errors.append(float((coarse.mean(0) - exact).abs().square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_the_fine_stage_refines_the_mean_of_the_coarse_samples(monkeypatch):
    """In `chain`, and in `predict`'s `estimate` as well."""
    recipe = dataclasses.replace(SHORT, chains=3, refine=2, respaced=50)
    acquired, denoiser = acquired_by(some(), an_image()), the_prior(recipe)
    coarse = recipe.coarse(denoiser, acquired, Seeded([1]))
    expected = recipe.fine(denoiser, acquired, coarse.mean(0), Seeded([1]))
    x = recipe.chain(denoiser, acquired, Seeded([1]))
    assert torch.allclose(x, expected, atol=1e-6)
    module = "radiffuse.applications.reconstruction.diffuse_recon.prior_denoiser"
    monkeypatch.setattr(module, lambda *_: denoiser)
    found, more = recipe.estimate(None, acquired, [1])
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(more["deviation"], coarse[:, :, :1].abs().std(0), atol=1e-6)
    for one in (coarse[0], coarse.mean(0)):
        assert not torch.allclose(expected, one, atol=1e-3)


def test_both_slices_of_a_pair_share_their_phase():
    recipe = dataclasses.replace(SHORT, channels=4)
    stored = torch.rand(3, 2, 16, 16)
    x = phased(stored, 1, recipe.phase)
    turned = x[:, 1] * x[:, :1].conj()[:, 0]
    assert float(turned.imag.abs().max()) < 1e-6 and float(turned.real.min()) > 0


def test_the_fine_stage_is_deterministic_goes_nearer_and_keeps_the_measurement():
    image, mask = an_image(), some()
    acquired = acquired_by(mask, image)
    recipe = dataclasses.replace(SHORT, refine=20)
    denoiser = the_prior(recipe, 0.05)
    exact = Fourier(2).adjoint(mask * Fourier(2)(image))
    start = exact + 0.1 * torch.randn(1, 1, 8, 8)
    first, second = (recipe.fine(denoiser, acquired, start, Seeded([k])) for k in range(2))
    assert torch.equal(first, second)
    assert torch.allclose(acquired.measurement.A(first), acquired.measurement.y, atol=1e-5)
    assert float((first - exact).norm()) < float((start - exact).norm())


def test_the_fine_chain_is_the_last_of_five_hundred_steps_not_noised_again(monkeypatch):
    """Step 19 of 500 is t = 152 of 4000 (counted from 0), noise 0.071; it starts from the image itself."""
    monkeypatch.setattr("radiffuse.applications.reconstruction.diffuse_recon.DDPM", Watched)
    Watched.seen = []
    recipe = dataclasses.replace(DiffuseRecon(), channels=2)
    start = an_image()
    recipe.fine(the_prior(recipe), acquired_by(some(), start), start, Seeded([1]))
    assert len(Watched.seen) == 20
    x, t = Watched.seen[0]
    assert torch.equal(x, start)
    assert t * 4000 == pytest.approx(153)
    sigma = recipe.schedule().sigma(torch.tensor(t))
    assert float(sigma) == pytest.approx(0.071, abs=1e-3)


def test_pairs_of_neighbours_are_averaged_where_they_overlap(monkeypatch):
    """s comes from the second place of (s - 1, s) and the first of (s, s + 1); s + 1 likewise."""
    recipe = dataclasses.replace(SHORT, channels=4, chains=2)
    image = an_image(4)
    rows = [acquired_by(torch.ones(1, 1, 8, 8), image[k : k + 1]) for k in range(4)]
    stack = Stack(**vars(rows[1]), around=(rows[0], rows[2], rows[3]))
    coarse = recipe.coarse(the_prior(recipe), stack, Seeded([1]))
    assert coarse.shape == (4, 1, 2, 8, 8)
    for sample in coarse:
        assert torch.allclose(sample[:, 0], image[1], atol=1e-5)
        assert torch.allclose(sample[:, 1], image[2], atol=1e-5)
    rows = [acquired_by(some(), image[k : k + 1]) for k in range(4)]
    stack = Stack(**vars(rows[1]), around=(rows[0], rows[2], rows[3]))
    coarse = recipe.coarse(the_prior(recipe), stack, Seeded([1]))
    for place in range(2):
        draws = [sample[:, place].flatten() for sample in coarse]
        assert len({tuple(draw.tolist()) for draw in draws}) == 4, "two chains of each pair"
    lonely = recipe.coarse(
        the_prior(recipe), acquired_by(torch.ones(1, 1, 8, 8), image[1:2]), Seeded([1])
    )
    assert torch.allclose(lonely[0, :, 1], image[1], atol=1e-5), "without neighbours: s twice"


def test_two_operators_side_by_side_are_an_operator():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 1, 3, 6, 5, generator=generator, dtype=torch.complex64)
    parts = [Mask(some(6)[..., :5]) @ Fourier(2) @ Coils(one) for one in maps]
    x = torch.randn(2, 2, 6, 5, generator=generator, dtype=torch.complex64)
    y = torch.randn(2, 6, 6, 5, generator=generator, dtype=torch.complex64)
    check_operator(Beside(*parts), x, y)
    assert torch.equal(Beside(*parts)(x)[:, 3:], parts[1](x[:, 1:]))


def test_slices_of_a_pair_share_a_scale():
    first = acquired_by(some(), an_image())
    second = dataclasses.replace(first, scale=torch.tensor([2.0]))
    pair = side_by_side(first, in_units(second, first))
    assert torch.allclose(pair.y[:, 1:], 2 * pair.y[:, :1])


# --- through the recipe -----------------------------------------------------------------------------


def volume(folder, size=16):
    """Three patients of four slices each, and one of one; the last slice of the second is missing."""
    numbers = [0, 1, 2, 3, 0, 1, 3, 5, 6, 7, 8, 4]
    patients = ["a"] * 4 + ["b"] * 3 + ["c"] * 4 + ["d"]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (12, size, size), dtype=np.uint8)
    split = ["train"] * 7 + ["test"] * 5
    path = folder / "scan.npz"
    np.savez(path, image=image, patient=patients, slice=numbers, split=split)
    return path


def test_neighbours_lie_in_the_same_patient_one_number_away(tmp_path):
    cases = open_cases(volume(tmp_path))
    beside = with_neighbours(cases, (-1, 1, 2))
    image = cases.batch(range(12))["image"]
    found = beside.batch(range(12))["image_neighbours"]
    assert found.shape == (12, 3, 16, 16)
    rows = {
        0: (1, 1, 2),  # the first slice: s + 1 stands for s - 1
        1: (0, 2, 3),
        3: (2, 2, 1),  # the last: s - 1 stands for s + 1
        5: (4, 4, 6),  # b has no slice 2
        6: (6, 6, 5),  # nor 2 or 4 beside 3: the slice itself; s - 2 stands for s + 2
        7: (8, 8, 9),
        11: (11, 11, 11),
    }
    for row, others in rows.items():
        assert torch.equal(found[row], image[list(others), 0]), row
    assert beside.facts().channels == {"image": 1, "image_neighbours": 3}
    part = beside.split("test")
    assert torch.equal(part.batch([1])["image_neighbours"], found[8:9])
    assert part.ids == cases.split("test").ids
    assert beside.image(1, "image_neighbours").data.shape == (3, 16, 16)


def test_neighbours_are_of_the_same_contrast_where_columns_are_joined(tmp_path):
    numbers = np.tile(np.arange(4), 3)
    t1 = np.broadcast_to(numbers[:, None, None], (12, 8, 8)) + 0.5 * np.eye(8)
    patient = np.repeat(["a", "b", "c"], 4)
    path = tmp_path / "two.npz"
    np.savez(path, t1=t1, t2=100 + t1, patient=patient, slice=numbers, split=["train"] * 12)
    cases = open_cases(path, mapping={"image": "t1+t2"}, range=(0.0, 200.0))
    beside = with_neighbours(cases, (-1, 1))
    batch = beside.batch(range(24))
    for row in (1, 2, 13, 14):
        near = batch["image_neighbours"][row] - batch["image"][row]
        assert torch.allclose(near[0], near[0].new_tensor(-0.01)), row
        assert torch.allclose(near[1], near[1].new_tensor(0.01)), row


def test_data_without_slice_numbers_and_volumes_come_back_as_they_are():
    for name in ("brains:count=6,size=16", "brains3d:count=3,size=16"):
        cases = open_cases(name)
        assert with_neighbours(cases, (-1, 1)) is cases
    cases = open_cases("brains:count=6,size=16")
    assert with_neighbours(cases, ()) is cases


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    cases = open_cases(volume(tmp_path_factory.mktemp("pairs")))
    return with_neighbours(cases, DiffuseRecon.NEIGHBOURS)


def test_pairs_train_and_predict_and_a_case_does_not_depend_on_its_batch(scans):
    recipe = dataclasses.replace(DiffuseRecon.tiny(), mask="radial", calibration=4)
    recipe = recipe.fitted(scans.facts())
    assert (recipe.channels, recipe.pair) == (4, 2)
    assert recipe == recipe.fitted(scans.facts())
    batch = {**scans.batch(range(3)), "seed": torch.tensor([5, 6, 7])}
    torch.manual_seed(0)
    x = recipe.slices(batch)
    assert x.shape == (3, 2, 16, 16)
    assert torch.allclose(x[:, 1:].abs(), (batch["image_neighbours"][:, 1:2] + 1) / 2, atol=1e-6)
    objective = recipe.objective()
    ((_, loss),) = objective.losses(batch)
    loss.backward()
    together = recipe.predict(objective, batch)
    alone = recipe.predict(objective, {key: value[1:2] for key, value in batch.items()})
    assert together["image"].shape == together["deviation"].shape == (3, 1, 16, 16)
    for key in ("image", "deviation"):
        assert torch.allclose(together[key][1:2], alone[key], atol=2e-4)
    assert bool((together["deviation"] > 0).any())


def test_a_slice_is_measured_at_the_same_places_as_target_and_as_neighbour(scans):
    """With the phase of the slice beside which it stands."""
    recipe = dataclasses.replace(DiffuseRecon.tiny(), mask="radial", calibration=4)
    recipe = recipe.fitted(scans.facts())
    first, second = (recipe.acquire(scans.batch([row])) for row in (1, 2))
    assert not torch.equal(first.mask, second.mask)
    assert torch.equal(first.around[1].mask, second.mask)
    assert torch.equal(second.around[0].mask, first.mask)


def test_a_general_solver_is_refused_for_pairs_and_works_for_single_slices(scans):
    recipe = dataclasses.replace(DiffuseRecon.tiny(), mask="radial", calibration=4, solver="ddnm")
    pairs = recipe.fitted(scans.facts())
    batch = {**scans.batch([1]), "seed": torch.tensor([5])}
    with pytest.raises(UserError, match="only --set solver=paper"):
        pairs.predict(pairs.objective(), batch)
    facts = dataclasses.replace(scans.facts(), channels={"image": 1})
    single = recipe.fitted(facts)
    assert single.pair == 1
    assert single.predict(single.objective(), batch)["image"].shape == (1, 1, 16, 16)


def test_measured_pairs_are_read_slice_by_slice(scans):
    """k-space of s and its neighbours: one scale, magnitudes and deviations in units of the k-space."""
    recipe = dataclasses.replace(DiffuseRecon.tiny(), coils=4).fitted(scans.facts())
    torch.manual_seed(0)
    objective = recipe.objective()
    scanner = MRI("gaussian-columns", 2.0, 8, coils=4, real=False, demodulated=False)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 1, 4, 4), (16, 16), mode="bilinear")
    y = 1e-3 * scanner.simulate(smooth, [1, 2, 3, 4]).measurement.y
    batch = {"kspace": y[1:2], "kspace_neighbours": torch.cat([y[:1], y[2:3], y[3:]], 1)}
    acquired = recipe.acquire(batch)
    assert len(acquired.around) == 3
    ratio = y[2:3].abs().max() / y[1:2].abs().max()
    read = acquired.around[1].measurement.y.abs().max() / acquired.measurement.y.abs().max()
    assert float(read) == pytest.approx(float(ratio), rel=1e-4)
    found = recipe.predict(objective, {**batch, "seed": torch.tensor([1])})
    assert {"magnitude", "deviation", "unmeasured", "residual"} <= set(found)
    assert float(found["magnitude"].max()) < 0.05


@pytest.mark.parametrize("coils", [1, 8])
def test_neighbours_are_simulated_with_the_phase_and_the_coils_of_their_slice(coils):
    """As the prior of pairs learned them: with phases of their own pairs came out worse than slices."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(
        DiffuseRecon.tiny(),
        size=(32, 32),
        channels=4,
        data_std=0.3,
        phase=1.0,
        noise=0.0,
        acceleration=1.0,
        coils=coils,
    )
    base = 0.5 * torch.rand(1, 1, 32, 32) + 0.3
    several = [2 * (base + 0.02 * k) - 1 for k in range(-1, 3)]
    beside = torch.cat([several[0], several[2], several[3]], 1)
    acquired = recipe.acquire({"image": several[1], "image_neighbours": beside})
    one, other = (each.measurement for each in (acquired, acquired.around[1]))
    x, z = (each.A.adjoint(each.y) for each in (one, other))
    assert float((x * z.conj()).angle().abs().max()) < 1e-3
