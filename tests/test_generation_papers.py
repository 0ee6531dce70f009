"""The preset `paper` of ddpm, ncsn and sde is wired as their papers' algorithms, written out by hand.

The denoisers err a little, as networks do: what an ingredient is for shows only then.
"""

import dataclasses
from itertools import pairwise

import pytest
import torch

from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.applications.generation.ddpm_3d import DDPM3D
from radiffuse.applications.generation.ncsn import NCSN, langevin_step
from radiffuse.applications.generation.sde import SDE
from radiffuse.data.dataset import Facts
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.network import log_noise, unscaled
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import prior
from radiffuse.diffusion.schedule import Discrete
from radiffuse.nn.blocks import Attention
from radiffuse.training.objective import Hybrid


def facts(side=32, axes=2, diameter=100.0):
    size = (side,) * axes
    return Facts(("image",), {"image": 1}, {"image": size}, 0, (), 0.5, 0.0, diameter, 8)


class Erring(Denoiser):
    """Pixels of about 0.5 +- 0.4, known up to a twentieth, and seen too bright in deep noise."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t, t):
        alpha, sigma = self.schedule(t, x_t)
        gain = alpha * 0.16 / (alpha**2 * 0.16 + sigma**2)
        exact = 0.5 + gain * (x_t - alpha * 0.5)
        return exact + 0.05 * torch.sin(5 * x_t) + 0.7 * sigma


def walked(recipe, seeds=(3, 4), side=4):
    """The recipe's own chain with the erring denoiser, and where it began."""
    denoiser = Erring(recipe.schedule())
    like = torch.zeros(len(seeds), 1, side, side).double()
    start = prior(denoiser.schedule, like, Seeded(range(len(seeds))))
    times = recipe.make_grid(denoiser.schedule)
    return recipe.make_sampler(denoiser, Seeded(seeds))(start, times), denoiser, start


# ------------------------------------------------------------------------------------------- ddpm
def hos_chain(denoiser, x, betas, noise):
    """Algorithm 2 with sigma_t^2 = beta_t and the estimate kept to [-1, 1]; no noise in the last step."""
    kept = torch.cumprod(1 - betas, 0)
    for i in range(len(betas) - 1, -1, -1):
        before = kept[i - 1] if i else torch.ones(())
        x_0 = denoiser(x, torch.tensor((i + 1) / len(betas))).clamp(-1, 1)
        mean = before.sqrt() * betas[i] * x_0 + (1 - betas[i]).sqrt() * (1 - before) * x
        z = noise(x)
        x = mean / (1 - kept[i]) + (betas[i].sqrt() * z if i else 0)
    return x


def test_ddpm_is_hos_chain():
    recipe = DDPM(timesteps=30, steps=30)
    x, denoiser, start = walked(recipe)
    betas = torch.linspace(1e-4, 0.02, 30, dtype=torch.float64) * 1000 / 30
    assert torch.allclose(x, hos_chain(denoiser, start, betas, Seeded((3, 4))), atol=1e-9)
    assert float(x.max()) == 1, "without clipping the brightest pixels lie beyond"
    assert torch.allclose(Discrete.linear(30).betas, betas)


# ---------------------------------------------------------------------------------------- ddpm-3d
def released_chain(denoiser, x, betas, noise):
    """Every step, the estimate kept to [-1, 1], the posterior's own variance; no noise in the last."""
    kept = torch.cumprod(1 - betas, 0)
    for i in range(len(betas) - 1, -1, -1):
        before = kept[i - 1] if i else torch.ones(()).double()
        x_0 = denoiser(x, torch.tensor((i + 1) / len(betas))).clamp(-1, 1)
        mean = betas[i] * before.sqrt() * x_0 + (1 - before) * (1 - betas[i]).sqrt() * x
        z = noise(x)
        variance = betas[i] * (1 - before) / (1 - kept[i])
        x = mean / (1 - kept[i]) + (variance.sqrt() * z if i else 0)
    return x


def test_ddpm_3d_is_the_released_chain():
    recipe = DDPM3D()
    x, denoiser, start = walked(recipe)
    u = torch.linspace(0, 1, 251, dtype=torch.float64)
    product = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    betas = (1 - product[1:] / product[:-1]).clamp(max=0.999)
    assert torch.allclose(x, released_chain(denoiser, start, betas, Seeded((3, 4))), atol=1e-9)
    beyond, _, _ = walked(dataclasses.replace(recipe, clipped=False))
    assert float((beyond - x).abs().max()) > 0.01, "the denoiser errs beyond the range"


# -------------------------------------------------------------------------------------- attention
def attended(network, side):
    """The sides of the images at which a U-Net attends, in its middle and elsewhere."""
    middle, elsewhere = set(), set()
    for module in network.modules():
        if isinstance(module, Attention):
            found = middle if module in list(network.middle.modules()) else elsewhere
            module.register_forward_pre_hook(lambda _, args, at=found: at.add(args[0].shape[-1]))
    network(torch.zeros(1, 1, side, side), torch.zeros(1))
    return middle, elsewhere


@pytest.mark.parametrize(("side", "at"), [(16, 16), (32, 16), (64, 16), (48, 12)])
@pytest.mark.parametrize("kind", [DDPM, SDE])
def test_the_networks_attend_at_sixteen_pixels_and_in_the_middle(kind, side, at):
    recipe = dataclasses.replace(kind(), width=16, blocks=1).fitted(facts(side))
    assert attended(recipe.network().backbone, side) == ({side // 8}, {at})


def test_where_no_level_is_as_coarse_the_middle_alone_attends():
    recipe = DDPM(width=8, blocks=1).fitted(facts(256))
    assert attended(recipe.network().backbone, 256) == ({32}, set())


def test_a_learned_variance_is_learned_by_the_hybrid_loss():
    plain, learned = (
        DDPM(width=32, blocks=1, learned_variance=learns).fitted(facts(16)).objective()
        for learns in (False, True)
    )
    assert type(learned) is Hybrid and type(plain) is not Hybrid


# ------------------------------------------------------------------------------------------- ncsn
def annealed(denoiser, x, sigmas, step, count, noise):
    """Algorithm 1 of Song & Ermon 2020: x + a s + sqrt(2 a) z, a = step (sigma_i / sigma_L)^2; denoised."""
    for i, sigma in enumerate(sigmas):
        t = torch.tensor(1 - i / (len(sigmas) - 1)).double()
        for _ in range(count):
            a = step * (sigma / sigmas[-1]) ** 2
            x = x + a * (denoiser(x, t) - x) / sigma**2 + (2 * a).sqrt() * noise(x)
    return x + (denoiser(x, torch.zeros(()).double()) - x)


def test_ncsn_is_annealed_langevin_dynamics_denoised_at_the_end():
    recipe = NCSN(sigma_max=8.0, levels=12)
    x, denoiser, start = walked(recipe)
    sigmas = torch.logspace(0, 1, 12, base=0.02 / 8.0, dtype=torch.float64) * 8.0
    step = torch.tensor(langevin_step(float(sigmas[0] / sigmas[1]), 5, 0.02)).double()
    wanted = annealed(denoiser, start, sigmas, step, 5, Seeded((3, 4)))
    assert torch.allclose(x, wanted, atol=1e-6)


def test_the_ladder_and_step_of_the_paper_in_units_of_twice_the_width():
    """CIFAR-10 on [0, 1] has levels 50 to 0.01 and a step of 6.2e-6; on [-1, 1] 100, 0.02 and four times it."""
    assert NCSN().sigma_min == 2 * 0.01
    recipe = NCSN(levels=232).fitted(facts(32, diameter=100.0))
    assert recipe.sigma_max == 100.0
    sigma = recipe.schedule().sigma(torch.linspace(1, 0, 232).double())
    assert float(sigma[0] / sigma[1]) == pytest.approx(1.03756, abs=1e-5)
    sampler = recipe.make_sampler(Erring(recipe.schedule()), Seeded((1,)))
    one = torch.ones(1, 1)
    lowest, highest = (
        sampler.size(recipe.schedule(), torch.tensor(t).double(), one, one) for t in (0, 1)
    )
    assert float(lowest) == pytest.approx(4 * 6.2e-6, rel=0.15)
    assert float(highest / lowest) == pytest.approx(5000**2, rel=1e-4)


def test_the_network_of_ncsn_is_told_no_level_and_its_output_over_sigma_is_the_score():
    recipe = NCSN(width=16, multiples=(1,), sigma_max=50.0).fitted(facts(8))
    network = recipe.network()
    for parameter in network.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, told = torch.randn(1, 1, 8, 8), []
    network.backbone.register_forward_pre_hook(lambda _, args: told.append(args[1]))
    scores = []
    with torch.no_grad():
        for t in (0.0, 1.0):
            sigma = float(recipe.schedule().sigma(torch.tensor(t).double()))
            scores.append((network(x, torch.tensor(t)) - x) / sigma**2 * sigma)
            assert torch.allclose(scores[-1], network.raw(x, torch.tensor(t)), rtol=1e-3, atol=1e-3)
    assert all(not clock.any() for clock in told)


def test_the_weight_of_ncsn_makes_every_level_count_alike():
    """A network that answers 0 misses the noise, whatever the level: 1 a pixel, sigma^2 times its score's."""
    recipe = NCSN(width=16, multiples=(1,), sigma_max=50.0, levels=10).fitted(facts(8))
    objective = recipe.objective()
    torch.manual_seed(0)
    ((_, loss),) = objective.losses({"image": torch.rand(200, 1, 8, 8)})
    assert float(loss.detach()) == pytest.approx(1, rel=0.03)


# -------------------------------------------------------------------------------------------- sde
def predicted_and_corrected(denoiser, x, times, noise, ratio=0.16):
    """Song et al. 2021, algorithm 2: reverse diffusion, then one Langevin step; denoised at the end."""

    def score(x, t):
        return (denoiser(x, t) - x) / denoiser.schedule.sigma(t) ** 2

    for t, s in pairwise(times):
        gap = denoiser.schedule.sigma(t) ** 2 - denoiser.schedule.sigma(s) ** 2
        x = x + gap * score(x, t) + gap.sqrt() * noise(x)
        g, z = score(x, s), noise(x)
        quotient = z.flatten(1).norm(dim=1) / g.flatten(1).norm(dim=1)
        step = (2 * (ratio * quotient) ** 2).reshape(-1, 1, 1, 1)
        x = x + step * g + (2 * step).sqrt() * z
    return denoiser(x, times[-1])


def test_sde_is_reverse_diffusion_with_a_langevin_corrector():
    recipe = SDE(sigma_max=100.0, steps=15)
    x, denoiser, start = walked(recipe)
    times = torch.linspace(1, 1e-5, 16).double()
    wanted = predicted_and_corrected(denoiser, start, times, Seeded((3, 4)))
    assert torch.allclose(x, wanted, rtol=1e-6, atol=1e-7)


def test_the_sdes_of_the_paper_end_where_it_says():
    sigma = SDE(sigma_max=100.0).schedule().sigma(torch.tensor([0.0, 1.0]).double())
    assert torch.allclose(sigma, torch.tensor([0.02, 100.0]).double()), "0.01 and 50 of [0, 1]"
    for process, stop in (("ve", 1e-5), ("vp", 1e-3), ("sub-vp", 1e-3)):
        recipe = SDE(process=process, sigma_max=100.0)
        assert float(recipe.make_grid(recipe.schedule())[-1]) == stop
        chosen = dataclasses.replace(recipe, stop=0.01)
        assert float(chosen.make_grid(chosen.schedule())[-1]) == 0.01


def test_the_network_of_the_ve_sde_is_told_the_logarithm_of_sigma():
    network = SDE(width=32, blocks=1).fitted(facts(16)).network()
    assert network.clock is log_noise and network.scale is unscaled
    assert SDE(width=32, blocks=1).fitted(facts(16, diameter=77.0)).sigma_max == 77.0


def test_the_time_of_the_sde_is_trained_uniformly():
    recipe = SDE(sigma_max=50.0)
    t = recipe.times(recipe.schedule())(1000).sort().values
    assert torch.allclose(t, torch.linspace(1e-5, 1, 1001).double()[1:], atol=2e-3)
