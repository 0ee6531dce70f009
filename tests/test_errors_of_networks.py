"""What a small known error of a network does to the answer: exact denoisers whose output is a little wrong."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from radiffuse.acquisition import CT, Acquired, Holes, Noisy
from radiffuse.applications.classification.diffmic import DiffMIC
from radiffuse.applications.other.r2d2 import R2D2
from radiffuse.applications.parts import predicts_named
from radiffuse.applications.reconstruction.bayes_mri import BayesMRI
from radiffuse.applications.reconstruction.diffuse_recon import DiffuseRecon
from radiffuse.applications.reconstruction.mcg import MCG
from radiffuse.applications.reconstruction.score_inverse import ScoreInverse
from radiffuse.applications.reconstruction.score_mri import ScoreMRI
from radiffuse.applications.segmentation.segmentation_ensembles import SegmentationEnsembles
from radiffuse.applications.translation.ddpm_conversion import Conversion
from radiffuse.data.dataset import Facts
from radiffuse.diffusion.averaging import Averaging
from radiffuse.diffusion.complex_images import Parts
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.label_maps import encode
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import prior
from radiffuse.diffusion.schedule import VE, Discrete
from radiffuse.inverse import Measurement
from radiffuse.inverse.consistency import residual_std
from radiffuse.operators import Coils, Fourier, Mask
from radiffuse.operators.coils import birdcage
from radiffuse.testing import GaussianDenoiser


class Wrong(Denoiser):
    """A denoiser whose network outputs `predicts`, off by `error` times N(0, 1), half of it the same at all levels.

    An error e of the output is one of sigma e / (c_x sigma - c_z alpha) in x_0 (see `losses`).
    """

    def __init__(self, denoiser, error, predicts="noise", data_std=0.5):
        super().__init__()
        self.denoiser, self.schedule, self.error = denoiser, denoiser.schedule, error
        self.predicts = predicts_named(predicts, data_std)
        self.draw, self.field = torch.Generator().manual_seed(0), None

    def off(self, like):
        if self.field is None:
            self.field = torch.randn(like.shape, generator=self.draw)
        fresh = torch.randn(like.shape, generator=self.draw)
        return self.error * math.sqrt(0.5) * (self.field + fresh).to(like)

    def forward(self, x_t, t):
        alpha, sigma = self.schedule(t, x_t)
        c_x, c_z = self.predicts.coefficients(alpha, sigma)
        return self.denoiser(x_t, t) + self.off(x_t) * sigma / (c_x * sigma - c_z * alpha)


def test_the_same_error_of_the_noise_is_the_larger_the_noisier_the_image():
    """0.02 of the noise is 0.02 sigma / alpha of x_0: 3 at the top of a chain of 1000 betas; of edm 0.01."""
    chain, x = Discrete.linear(), torch.zeros(1, 4000)
    exact = GaussianDenoiser(chain, 0.0, 1e-6)
    spread = [
        float(Wrong(exact, 0.02, kind)(x, torch.tensor(1.0)).std()) for kind in ("noise", "edm")
    ]
    assert spread == pytest.approx([0.02 * 157.4, 0.01], rel=0.05)


# ------------------------------------------------------------------------------------- averaging
def test_estimates_above_the_bound_do_not_count():
    schedule = VE(0.01, 100.0)
    told = Averaging(GaussianDenoiser(schedule, 0.5, 1e-6), highest=1.0)
    end = torch.full((1, 3), 7.0)
    told(torch.zeros(1, 3), torch.tensor(1.0))
    assert torch.equal(told.expected(end), end), "nothing has counted yet"
    told(torch.zeros(1, 3), torch.tensor(0.3))
    assert told.calls == 1 and torch.allclose(told.expected(end), torch.full((1, 3), 0.5))


# ---------------------------------------------------------------------------------------- labels
class Labels(Denoiser):
    """Exact E[y_0 - mu | m_t] of one-hot labels of known probabilities (B, C)."""

    def __init__(self, schedule, probabilities, mean):
        super().__init__()
        self.schedule, self.p = schedule, probabilities
        self.places = torch.eye(mean.shape[1]) - mean[:, None]

    def forward(self, x_t, t):
        alpha, sigma = self.schedule(t, x_t)
        far = (x_t[:, None] - alpha * self.places).square().sum(2)
        p = torch.softmax(self.p.log() - far / (2 * sigma**2), 1)
        return (p[..., None] * self.places).sum(1)


def classified(probabilities, error, **changed):
    """`predict` of DiffMIC whose exact denoiser is wrong by `error`, under any prior."""
    facts = Facts(("image", "label"), {"image": 1}, {"image": (16, 16)}, 3, (), 0.5, 0.0, 1.0, 8)
    recipe = dataclasses.replace(DiffMIC.tiny(), timesteps=1000, **changed).fitted(facts)

    def denoiser(self, objective, image, mean):
        exact = Labels(self.schedule(), probabilities.repeat(self.draws, 1), mean)
        return Wrong(exact, error, self.predicts)

    exact = type("Exact", (DiffMIC,), {"denoiser": denoiser})(**vars(recipe))
    torch.manual_seed(0)
    image = torch.rand(len(probabilities), 1, 16, 16)
    asked = {"image": image, "seed": torch.arange(len(image))}
    return exact.predict(recipe.objective(), asked)["probability"]


def test_diffmic_of_the_paper_finds_the_label_though_its_noise_is_a_little_wrong():
    """64 cases sure of their label; the mean of a chain's estimates was wrong in a third of them."""
    label = torch.arange(64) % 3
    sure = 0.997 * torch.eye(3)[label] + 0.001
    found = classified(sure, 0.1, predicts="noise", steps=200, draws=1)
    assert torch.equal(found.argmax(1), label)
    assert float((found - sure).abs().max()) < 0.01


def test_an_edm_network_of_labels_tells_probabilities_by_all_its_estimates():
    """Ends of 20 chains would be off by 0.06, for there are but 20; the estimates know better."""
    draw = torch.Generator().manual_seed(0)
    doubtful = torch.softmax(3 * torch.randn(64, 3, generator=draw), 1)
    found = classified(doubtful, 0.1, predicts="edm", steps=50, draws=20)
    assert float((found - doubtful).square().mean().sqrt()) < 0.03


# ------------------------------------------------------------------------------------------ masks
class Masks(Denoiser):
    """Exact E[x_0 | x_t] of label maps that are equally likely, as a recipe's network (told an image)."""

    def __init__(self, recipe, masks, error):
        super().__init__()
        codes = [recipe.scale * encode(mask, 1, recipe.absent) for mask in masks]
        self.schedule, self.codes = recipe.schedule(), torch.stack(codes).double()
        self.recipe, self.error = recipe, error
        self.off = Wrong(self, error).off

    def bound(self, **condition):
        return condition

    def forward(self, x_t, t):
        alpha, sigma = (float(f(t)) for f in (self.schedule.alpha, self.schedule.sigma))
        far = (x_t[:, None].double() - alpha * self.codes[:, 0]).square().flatten(2).sum(2)
        p = torch.softmax(-far / (2 * max(sigma, 1e-6) ** 2), 1)
        x_0 = torch.einsum("bk,kchw->bchw", p, self.codes[:, 0])
        if self.recipe.predicts == "noise":
            return (x_0 + sigma / alpha * self.off(x_0)).to(x_t)
        absent, scale = self.recipe.absent, self.recipe.scale
        share = ((x_0 / scale - absent) / (1 - absent)).clamp(1e-6, 1 - 1e-6)
        share = torch.sigmoid(share.logit() + self.off(x_0))
        return (scale * (absent + (1 - absent) * share)).to(x_t)

    def given(self, x_t, t, image):
        return self(x_t, t)

    def with_variance(self, x_t, t, image):
        return self(x_t, t), torch.full_like(x_t, 0.5)


def discs(*radii, side=16):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    far = torch.hypot(y - side / 2, x - side / 2)
    return [(far < radius).long()[None, None] for radius in radii]


def segmented(recipe, masks, error, draws):
    """`predict` of a recipe whose exact network is wrong by `error`."""
    recipe = dataclasses.replace(
        recipe, channels=1, condition_channels=1, size=(16, 16), data_std=1.0, width=8,
        multiples=(1,), attention=(), blocks=1,
    )  # fmt: skip
    objective = SimpleNamespace(network=Masks(recipe, masks, error), players={})
    image = torch.zeros(draws, 1, 16, 16)
    return recipe.predict(objective, {"image": image, "seed": torch.arange(draws)})


@pytest.mark.parametrize("error", [0.0, 0.02])
def test_the_ensemble_of_the_paper_is_of_where_its_chains_end(error):
    """A mask that is sure, and noise wrong by a fiftieth: the mean of all estimates would say 0.9 and 0.1."""
    paper = SegmentationEnsembles(timesteps=200, steps=200)
    (mask,) = discs(5)
    made = segmented(paper, [mask], error, draws=5)
    assert torch.equal(made["expected"], made["probability"])
    assert torch.equal(made["mask"], mask.expand(5, -1, -1, -1))
    assert float((made["expected"].mean(0) - mask[0]).abs().mean()) < 0.005


@pytest.mark.parametrize("error", [0.0, 0.3, 1.0])
def test_what_chains_of_logits_expect_is_no_worse_for_errors_of_the_logits(error):
    """Six discs, equally likely: the share of each voxel by eight draws, and by what their chains expect."""
    masks = discs(3, 4, 5, 6, 7, 8)
    truth = torch.stack(masks).float().mean(0)[0]
    errors = {"expected": [], "probability": []}
    made = segmented(SegmentationEnsembles.small(), masks, error, draws=160)
    for key, found in errors.items():
        for eight in made[key].split(8):
            found.append(float((eight.mean(0) - truth).square().mean().sqrt()))
    expected, ends = (sum(found) / 20 for found in errors.values())
    assert expected < (0.7 if error < 1 else 1.0) * ends


# ---------------------------------------------------------------------------- images and k-space
def test_converted_images_are_as_wrong_as_the_network_and_no_more():
    """The SDE as the paper samples it, of targets that follow from their source."""
    recipe = Conversion(formulation="sde", steps=100, corrections=2)
    target = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    denoiser = Wrong(GaussianDenoiser(recipe.schedule(), target, 1e-6), 0.05)
    noise = Seeded(range(2))
    x = prior(denoiser.schedule, torch.zeros_like(target), noise)
    x = recipe.make_sampler(denoiser, noise)(x, recipe.make_grid(denoiser.schedule))
    assert float((x - target).std()) < 0.005, "0.05 of the noise at t = 0.001, which is 0.03"


def test_a_reconstruction_keeps_to_its_measurement_though_the_prior_is_a_little_wrong():
    recipe = dataclasses.replace(ScoreInverse(), warm=0.2)
    draw = torch.Generator().manual_seed(0)
    image = 0.4 + 0.2 * torch.randn(4, 1, 8, 8, generator=draw)
    mask = (torch.arange(8) % 2 == 0).expand(1, 1, 8, 8)
    A = Mask(mask) @ Fourier(2)
    y = A(image) + 0.01 * mask * torch.complex(*torch.randn(2, 4, 1, 8, 8, generator=draw))
    measurement, ones = Measurement(y, A, 0.01), torch.ones(4)
    first = measurement.adjoint(y, image)
    acquired = Acquired(measurement, first, ones, ones, A.adjoint, None, mask)
    prior_of_images = Wrong(GaussianDenoiser(recipe.chain_schedule(), 0.4, 0.2), 0.05)
    x = recipe.chain(prior_of_images, acquired, Seeded(range(4)))
    missed = residual_std(A, x, y) / 0.01
    assert float(missed.min()) > 0.7 and float(missed.max()) < 1.5


def half_measured(coils=1):
    """Two images N(0.4, 0.2^2) of 12 x 12, every second column of their k-space measured; noise 0.01."""
    draw = torch.Generator().manual_seed(0)
    image = (0.4 + 0.2 * torch.randn(2, 1, 12, 12, generator=draw)).to(torch.complex64)
    mask = (torch.arange(12) % 2 == 0).expand(1, 1, 12, 12)
    maps = torch.ones(1, 1, 12, 12, dtype=torch.complex64)
    if coils > 1:
        maps = birdcage((12, 12), coils, [1])
    A = Mask(mask) @ Fourier(2) @ Coils(maps)
    y = A(image)
    y = y + 0.01 * mask * torch.complex(*torch.randn(2, *y.shape, generator=draw))
    ones = torch.ones(2)
    return Acquired(Measurement(y, A, 0.01), A.adjoint(y), ones, ones, A.adjoint, maps, mask)


def grey():
    draw = torch.Generator().manual_seed(1)
    return 0.4 + 0.2 * torch.randn(2, 1, 16, 16, generator=draw)


@pytest.mark.parametrize(
    ("recipe", "measured", "most"),
    [
        (ScoreMRI(steps=400, warm=0.3), lambda: half_measured(3), 0.1),
        (MCG(steps=60, warm=0.3), lambda: CT(12).simulate(grey(), [1, 2]), 0.02),
        (
            MCG(measurement="inpainting", steps=100),
            lambda: Holes("pixels", 0.5, 0.01).simulate(grey(), [1, 2]),
            0.006,
        ),
        (BayesMRI(), lambda: half_measured(3), 0.002),
        (DiffuseRecon(channels=2, chains=2, steps=50), half_measured, 0.01),
        (R2D2(), lambda: Noisy(0.1).simulate(grey()[:1], [1]), 0.003),
    ],
    ids=["score-mri", "mcg", "mcg, holes", "bayes-mri", "diffuse-recon", "r2d2"],
)
def test_chains_of_the_paper_s_constants_stay_near_though_noise_is_one_percent_wrong(
    recipe, measured, most
):
    """The same draws with an exact prior; the deviation of images is 0.2."""
    acquired, schedule = measured(), recipe.chain_schedule()
    complex_ = acquired.first.is_complex()
    exact = GaussianDenoiser(schedule, *((0.0, 0.4) if complex_ else (0.4, 0.2)))
    ends = []
    for prior_of_images in (exact, Wrong(exact, 0.01)):
        parted = Parts(prior_of_images) if isinstance(recipe, ScoreMRI) else prior_of_images
        ends.append(recipe.chain(parted, acquired, Seeded(range(len(acquired.first)))).abs())
    assert 0 < float((ends[1] - ends[0]).square().mean().sqrt()) < most
