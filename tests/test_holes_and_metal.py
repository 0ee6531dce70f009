"""What was not measured because it was lost: pixels of images, and rays through metal."""

import dataclasses
import math

import pytest
import torch

from radiffuse.acquisition import CT, Acquired, Holes
from radiffuse.applications import fields
from radiffuse.applications.reconstruction import mcg
from radiffuse.applications.reconstruction.mcg import MCG
from radiffuse.applications.reconstruction.score_inverse import ScoreInverse
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.kernels import ancestral
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UserError
from radiffuse.inverse import Constrained, Measurement
from radiffuse.inverse.classical import biharmonic, filtered_back_projection
from radiffuse.inverse.consistency import residual_std
from radiffuse.operators import Identity, Mask
from radiffuse.operators.tomography import hann
from radiffuse.testing import CorrelatedDenoiser, Counted, GaussianDenoiser


@pytest.fixture(scope="module")
def brain():
    """Two brains (2, 1, 32, 32) in [0, 0.9]."""
    return 0.9 * (open_cases("brains:count=6,size=32").batch([0, 3])["image"] + 1) / 2


def with_metal(image, value=1.0):
    image = image.clone()
    image[:, :, 14:17, 20:23] = value
    return image


# --- metal in a CT ----------------------------------------------------------------------------------


def test_nothing_that_is_measured_depends_on_what_lies_inside_the_metal(brain):
    scanner = CT(views=20, metal=0.95)
    m, other = (scanner.simulate(with_metal(brain, v), [1, 2]).measurement for v in (1.0, 40.0))
    assert torch.equal(m.y, other.y)
    inside = torch.randn(2, 1, 3, 3)
    changed = with_metal(brain, 0.0)
    changed[:, :, 14:17, 20:23] = inside
    assert torch.equal(m.A(changed), m.A(with_metal(brain)))
    without = CT(views=20).simulate(brain, [1, 2]).measurement
    assert not torch.equal(without.A(changed), without.A(with_metal(brain)))


def test_the_trace_is_the_rays_that_meet_the_metal_and_no_others():
    """Of one voxel and its neighbours (3 x 3): parallel rays nearer than 1.5 voxels miss nothing of it."""
    image = torch.zeros(1, 1, 33, 33)
    image[..., 10, 25] = 1.0
    scanner = CT(views=12, metal=0.5)
    seen = scanner.simulate(image, [1]).measurement.A.left.mask[0, 0] > 0
    geometry = scanner.geometry((33, 33))
    theta = torch.tensor(geometry.angles, dtype=torch.float64)[:, None]
    x, y = 25 - 16, 16 - 10
    far = (geometry.positions() - (x * theta.cos() + y * theta.sin())).abs()
    corner = theta.cos().abs() + theta.sin().abs()
    assert not bool(seen[far < 1.5 * corner - 0.5].any())
    assert bool(seen[far > 1.5 * corner + 0.5].all())


def test_metal_that_is_put_in_is_small_bright_placed_and_each_case_s_own(brain):
    scanner = CT(implants=2)
    inside = scanner.inside(brain, [1, 2])
    assert torch.equal(scanner.inside(brain[1:], [2]), inside[1:])
    assert not torch.equal(inside[:1].expand(2, -1, -1, -1), inside)
    assert 2 <= int(inside[0].sum()) <= 2 * math.ceil(math.pi * (0.04 * 32 + 1) ** 2)
    assert bool(((brain * inside).amax((1, 2, 3)) >= brain.mean((1, 2, 3))).all())
    assert int(CT(implants=0).inside(brain, [1, 2]).sum()) == 0


def test_the_plain_reconstruction_bridges_the_trace(brain):
    acquired = CT(views=60, photons=1e7, metal=0.95).simulate(with_metal(brain), [1, 2])
    around = ~CT(metal=0.95).inside(with_metal(brain), [1, 2])
    empty = filtered_back_projection(acquired.measurement, brain, hann)
    error, of_empty = (float(((x - brain) * around).norm()) for x in (acquired.first, empty))
    assert error < 0.4 * of_empty
    assert torch.allclose(acquired.inverse(acquired.measurement.y), empty, atol=1e-5)


def test_an_image_is_not_all_metal():
    with pytest.raises(UserError, match=r"100% of an image would be metal: .* metal higher"):
        CT(metal=0.1).simulate(torch.ones(1, 1, 8, 8), [1])


@pytest.mark.parametrize("views", [6, 16])
def test_score_inverse_fills_a_metal_trace_and_keeps_to_the_other_rays(views):
    """The paper's lambda and r of either case, and images of which only those rays say anything."""
    draw = torch.Generator().manual_seed(0)
    image = 0.5 + 0.1 * torch.randn(4, 1, 16, 16, generator=draw).clamp(-3, 3)
    image[:, :, 6:8, 9:11] = 1.5
    recipe = dataclasses.replace(
        ScoreInverse(), measurement="ct", metal=1.0, views=views, steps=40, highest=5.0
    )
    acquired = recipe.acquisition().simulate(image, range(4))
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.1)
    x = recipe.chain(prior, acquired, Seeded(range(4)))
    m = acquired.measurement
    missed = residual_std(m.A, x, m.y) / m.std
    assert float(missed.min()) > 0.3 and float(missed.max()) < 1.5
    assert float(x.max()) < 1.0, "the metal itself is not seen"


# --- holes of images --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 12), (8, 8, 8)])
@pytest.mark.parametrize("hole", ["pixels", "box"])
def test_as_many_pixels_are_lost_as_asked_and_the_others_are_kept(hole, size):
    image = torch.rand(3, 2, *size)
    acquired = Holes(hole, 0.25, noise=0.1).simulate(image, [1, 2, 3])
    m = acquired.measurement
    kept = m.A.mask
    assert kept.shape == (3, 1, *size)
    lost = 1 - kept.float().flatten(1).mean(1)
    assert torch.allclose(lost, torch.full((3,), 0.25), atol=0.01 if hole == "pixels" else 0.1)
    assert torch.allclose(acquired.acceleration, 1 / (1 - lost))
    assert bool((m.y[~kept.expand_as(m.y)] == 0).all())
    rest = (m.y - image)[kept.expand_as(m.y)]
    assert float(rest.std()) == pytest.approx(0.1, rel=0.15)
    alone = Holes(hole, 0.25, noise=0.1).simulate(image[1:2], [2]).measurement
    assert torch.equal(alone.y, m.y[1:2]) and not torch.equal(kept[0], kept[1])
    if hole == "box":
        places = (~kept[0, 0]).nonzero()
        sides = places.amax(0) - places.amin(0) + 1
        assert int(sides.prod()) == len(places)


def test_the_plain_reconstruction_takes_the_nearest_pixel_that_was_kept():
    image = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 1, 5)
    acquired = Holes("box", 0.6).simulate(image, [0])
    kept = acquired.measurement.A.mask[0, 0]
    near = [min((abs(k - j), j) for j in kept.nonzero()[:, 0].tolist())[1] for k in range(5)]
    assert torch.equal(acquired.first[0, 0], image[0, 0][near])
    assert int((~kept).sum()) == 3


@pytest.mark.parametrize("lost", [1e-6, 1 - 1e-6])
def test_never_nothing_and_never_all_is_lost(lost):
    for hole in ("pixels", "box"):
        kept = Holes(hole, lost).simulate(torch.rand(1, 1, 4, 4), [1]).measurement.A.mask
        assert 0 < int(kept.sum()) < 16


def test_a_plane_is_what_biharmonic_inpainting_fills_a_hole_with():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    plane = (0.1 + 0.03 * x + 0.02 * y).expand(2, 1, 12, 12).clone()
    kept = torch.ones(1, 1, 12, 12, dtype=torch.bool)
    kept[..., 4:7, 5:9] = False
    m = Measurement(kept * plane, Mask(kept), 0.0)
    assert torch.allclose(biharmonic(m, plane), plane, atol=1e-4)
    with pytest.raises(UserError, match="cannot undo Identity"):
        biharmonic(Measurement(plane, Identity(), 0.0), plane)


# --- mcg fills them ---------------------------------------------------------------------------------


def seen_half(image, noise=0.0):
    """Every second column of images, as `Holes` would give it."""
    kept = (torch.arange(image.shape[-1]) % 2 == 0).expand(1, 1, *image.shape[2:])
    measurement = Measurement(kept * image, Mask(kept), noise)
    ones = torch.ones(len(image))
    return Acquired(measurement, measurement.y, ones, ones, measurement.A.adjoint), kept


INPAINTING = dataclasses.replace(MCG(), measurement="inpainting")


def test_holes_are_filled_on_the_levels_of_the_paper_s_betas(monkeypatch):
    """Images in [0, 1] under half the noise are images in [-1, 1] under Ho's."""
    schedule, betas = INPAINTING.chain_schedule(), Discrete.linear()
    t = torch.linspace(0.1, 1, 7, dtype=torch.float64)
    assert torch.equal(schedule.alpha(t), betas.alpha(t))
    assert torch.allclose(2 * schedule.sigma(t), betas.sigma(t))
    assert dataclasses.replace(INPAINTING, solver="dds").chain_schedule() == MCG().chain_schedule()
    acquired, _ = seen_half(torch.rand(1, 1, 8, 8))
    asked, strided = [], mcg.grids.strided
    monkeypatch.setattr(
        mcg.grids, "strided", lambda *words: asked.append(words[1:]) or strided(words[0], 9)
    )
    for steps in (2000, 40):
        counted = Counted(GaussianDenoiser(schedule, 0.5, 0.2))
        dataclasses.replace(INPAINTING, steps=steps).chain(counted, acquired, Seeded([1]))
        assert counted.calls == 9, "one call a level, none to finish"
    assert asked == [(1000, 1000), (40, 1000)], "no more levels than betas"


class Smooth(Denoiser):
    """Smooth images (B, 1, 1, size); `factor` times their estimates."""

    def __init__(self, schedule, size, factor=1.0):
        super().__init__()
        self.factor = factor
        at = torch.arange(float(size))
        cover = 0.04 * torch.exp(-((at[:, None] - at) ** 2) / 8) + 1e-4 * torch.eye(size)
        self.inner = CorrelatedDenoiser(schedule, torch.full((size,), 0.5), cover)
        self.schedule = schedule

    def forward(self, x_t, t):
        return self.factor * self.inner(x_t.flatten(1), t).reshape(x_t.shape)


def test_a_step_is_the_ancestral_one_the_gradient_in_the_hole_and_the_noised_known_pixels(
    monkeypatch,
):
    r"""(1 - m)(x' - alpha grad ||m (y - x_0)|| / 2) + m (a y + s z): alpha is of images in [-1, 1]."""
    steps = []
    plain = Constrained.step

    def watched(self, x_t, t, s, state):
        x_s, state = plain(self, x_t, t, s, state)
        steps.append((x_t, t, s, x_s))
        return x_s, state

    monkeypatch.setattr(Constrained, "step", watched)
    acquired, kept = seen_half(torch.rand(2, 1, 1, 8))
    recipe = dataclasses.replace(INPAINTING, steps=6)
    prior = Smooth(recipe.chain_schedule(), 8, factor=2.5)
    recipe.chain(prior, acquired, Seeded([1, 2]))
    noise = Seeded([1, 2])
    noise(acquired.first)
    y = acquired.measurement.y
    for x_t, t, s, x_s in steps:
        asked = x_t.clone().requires_grad_()
        x_0 = prior(asked, t).clamp(0, 1)
        norm = (kept * (y - x_0)).flatten(1).norm(dim=1)
        (g,) = torch.autograd.grad(norm.sum(), asked)
        mean, variance = ancestral(prior.schedule, x_t, x_0.detach(), t, s)
        expected = mean + variance.sqrt() * noise(x_t) - 0.5 * g
        alpha, sigma = prior.schedule(s, x_t)
        known = alpha * y + (sigma * noise(x_t) if float(s) > 0 else 0)
        assert torch.allclose(x_s, torch.where(kept, known, expected), atol=1e-5)
    half = [times for _, *times, _ in steps]
    assert float(half[0][0]) == 1 and float(half[-1][1]) == 0


def test_known_pixels_have_the_mean_and_the_noise_of_their_level():
    image = torch.rand(1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    acquired, kept = seen_half(image.expand(4000, -1, -1, -1))
    recipe = dataclasses.replace(INPAINTING, steps=5)
    prior, seen = GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2), []

    class Spy(Denoiser):
        schedule = prior.schedule

        def forward(self, x_t, t):
            seen.append((x_t.detach(), t))
            return prior(x_t, t)

    torch.manual_seed(0)
    x = recipe.chain(Spy(), acquired, gaussian)
    for x_t, t in seen[1:]:
        alpha, sigma = prior.schedule(t, x_t)
        known = x_t[..., kept[0, 0]]
        assert torch.allclose(known.mean(0), (alpha * image)[0][..., kept[0, 0]], atol=0.04)
        assert torch.allclose(known.std(0), sigma.expand(1, 4), rtol=0.06)
    assert torch.equal(x[..., kept[0, 0]], acquired.measurement.y[..., kept[0, 0]])


def test_with_the_gradient_the_edge_of_a_hole_jumps_less():
    """A smooth prior; the known pixels alone, put back at every level, leave steps at their edges."""
    jumps = {}
    recipe = dataclasses.replace(INPAINTING, steps=20)
    prior = Smooth(recipe.chain_schedule(), 16)
    at = torch.arange(16.0)
    image = (0.5 + 0.2 * torch.sin(at / 4)).expand(64, 1, 1, 16)
    kept = ((at < 6) | (at > 9)).expand(1, 1, 1, 16)
    m = Measurement(kept * image, Mask(kept), 0.0)
    acquired = Acquired(m, m.y, torch.ones(64), torch.ones(64), m.A.adjoint)
    for gradient in (0.0, -1.0):
        one = dataclasses.replace(recipe, gradient=gradient)
        x = one.chain(prior, acquired, Seeded(range(64)))
        jumps[gradient] = float((x.diff(dim=-1) - image.diff(dim=-1))[..., [5, 9]].abs().mean())
    assert jumps[-1.0] < 0.6 * jumps[0.0], jumps


# --- from the command line's words ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ScoreInverse, {"measurement": "ct", "implants": 1, "views": 8}),
        (ScoreInverse, {"measurement": "ct", "metal": 0.98, "views": 8}),
        (MCG, {"measurement": "inpainting", "hole": "box", "lost": 0.1}),
        (MCG, {"measurement": "inpainting", "solver": "dds"}),
    ],
)
def test_they_are_set_after_training_and_a_case_does_not_depend_on_its_batch(kind, words):
    cases = open_cases("brains:count=8,size=32")
    recipe = fields.replaced(kind.tiny(), words, "--set").fitted(cases.facts())
    assert set(words) <= set(kind.AFTER_TRAINING)
    torch.manual_seed(0)
    objective, batch = recipe.objective(), {**cases.batch([0, 1]), "seed": torch.arange(2)}
    found = recipe.predict(objective, batch)
    alone = recipe.predict(objective, {key: value[1:] for key, value in batch.items()})
    assert torch.allclose(found["image"][1:], alone["image"], atol=1e-2)
    assert bool(found["residual"].isfinite().all())
