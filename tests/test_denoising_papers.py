"""The preset `paper` of pet-ddpm and oct-ddpm is wired as their papers' algorithms, written out by hand."""

import dataclasses
import tomllib

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.denoising.fusion import self_fused
from radiffuse.applications.denoising.oct_ddpm import OCT
from radiffuse.applications.denoising.pet_ddpm import PET
from radiffuse.applications.denoising.stacked import beside
from radiffuse.data.dataset import Facts
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import prior
from radiffuse.errors import UserError
from radiffuse.testing import Counted, GaussianDenoiser

SIDE = 24


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def facts(size=(SIDE, SIDE), **channels):
    sizes = dict.fromkeys(channels, size)
    return Facts(tuple(channels), channels, sizes, 0, (), 0.5, -0.2, 9.0, 8)


# -------------------------------------------------------------------------------------- pet-ddpm
@pytest.mark.parametrize("told", ["mr-pull", "pull", "mr"])
def test_the_measured_image_is_in_the_answer_but_for_mr_alone(told):
    recipe = PET(told=told, timesteps=60, steps=60)
    y, noise = 0.3 * draws(4, 1, 8, 8), Seeded(range(4))
    x = recipe.restored(
        GaussianDenoiser(recipe.schedule(), 0.0, 0.3), y, torch.full((4,), 0.2), noise
    )
    likeness = float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1])
    assert likeness < 0.2 if told == "mr" else likeness > 0.6


class Erring(Denoiser):
    """Pixels of about 0.2, known up to a twentieth."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t, t):
        _, sigma = self.schedule(t, x_t)
        return 0.2 + 0.05 * torch.sin(7 * x_t) + 0.5 * (x_t - 0.2) * (1 - sigma)


def pulled_chain(denoiser, y, spread, noise):
    """The paper's loop with the network's noise estimate; sigma_t^2 is the posterior's variance."""
    betas = denoiser.schedule.betas
    kept = torch.cumprod(1 - betas, 0)
    x = prior(denoiser.schedule, y, noise)
    for i in range(len(betas) - 1, -1, -1):
        before = kept[i - 1] if i else torch.ones(())
        x_0 = denoiser(x, torch.tensor((i + 1) / len(betas)).double())
        estimate = (x - kept[i].sqrt() * x_0) / (1 - kept[i]).sqrt()
        mu = (x - betas[i] / (1 - kept[i]).sqrt() * estimate) / (1 - betas[i]).sqrt()
        variance = betas[i] * (1 - before) / (1 - kept[i])
        x = mu + variance / spread**2 * (y - x) + variance.sqrt() * noise(x)
    return x


@pytest.mark.parametrize("sigma_d", [0.0, 0.6])
def test_the_recipe_pulls_as_the_paper_does(sigma_d):
    """sigma_d is each image's own noise where it is not given, 0.15 at least."""
    recipe = PET(timesteps=40, steps=40, sigma_d=sigma_d)
    y, std = draws(3, 1, 4, 4), torch.tensor([0.9, 1.3, 2.0])
    denoiser = Erring(recipe.schedule())
    x = recipe.restored(denoiser, y, std, Seeded([1, 2, 3]))
    spread = (torch.full((3,), sigma_d) if sigma_d else std).double().reshape(3, 1, 1, 1)
    assert torch.allclose(x, pulled_chain(denoiser, y, spread, Seeded([1, 2, 3])), atol=1e-6)


def numbered(*size):
    """A volume whose value is the number of its slice."""
    return torch.arange(size[-1]).float().expand(1, 1, *size) / 10


def test_slices_beside_each_other_turn_back_at_the_ends():
    stack = beside(numbered(2, 2, 5), (-2, 1))[0, :, 0, 0] * 10
    assert stack.int().tolist() == [[0, 1, 2, 3, 4], [2, 3, 0, 1, 2], [1, 2, 3, 4, 3]]
    assert torch.equal(beside(numbered(2, 2, 1), (-1, 1)), torch.zeros(1, 3, 2, 2, 1))


def test_a_slice_is_told_with_those_beside_it_in_training_and_in_prediction():
    size = (SIDE, SIDE, 6)
    recipe = dataclasses.replace(PET.tiny(), neighbours=1).fitted(facts(size, clean=1, mr=1))
    assert (recipe.neighbours, recipe.condition_channels) == (1, 3)
    volume = numbered(*size)
    made = recipe.examples({"clean": volume, "mr": volume})
    k = (made["image"][:, 0, 0, 0] * 10).round()
    before, after = (torch.where(ends, other, one) for ends, other, one in
                     ((k == 0, k + 1, k - 1), (k == 5, k - 1, k + 1)))  # fmt: skip
    assert torch.allclose(made["source"][:, :, 0, 0] * 10, torch.stack([k, before, after], 1))
    objective, seen = recipe.objective(), []
    network = objective.players["network"]
    network.register_forward_pre_hook(
        lambda _, args, told: seen.append(told["image"]), with_kwargs=True
    )
    recipe.predict(objective, {"noisy": volume, "mr": volume, "seed": torch.zeros(1).long()})
    told = {tuple((10 * part[:, 0, 0]).round().int().tolist()) for part in torch.cat(seen)}
    assert told == {(0, 1, 1), (1, 0, 2), (2, 1, 3), (3, 2, 4), (4, 3, 5), (5, 4, 4)}


def test_a_numbered_slice_is_told_with_its_neighbours_and_a_lone_one_is_not():
    alone = dataclasses.replace(PET.tiny(), neighbours=1)
    recipe = alone.fitted(facts(clean=1, mr=1, mr_neighbours=2))
    assert (recipe.neighbours, recipe.condition_channels) == (1, 3)
    mr, others = torch.zeros(2, 1, SIDE, SIDE), torch.ones(2, 2, SIDE, SIDE)
    batch = {"clean": mr, "mr": mr, "mr_neighbours": others}
    assert recipe.examples(batch)["source"][0, :, 0, 0].tolist() == [0, 1, 1]
    with pytest.raises(UserError, match="slices of mr with their neighbours; number the slices"):
        recipe.predict(recipe.objective(), {"noisy": mr, "mr": mr, "seed": torch.arange(2)})
    for told, keys in (("mr-pull", {"mr": 1}), ("pet-mr", {"mr": 1, "mr_neighbours": 2})):
        found = dataclasses.replace(alone, told=told).fitted(facts(clean=1, **keys))
        assert found.neighbours == 0 and found.NEIGHBOURS == ()


def test_a_slice_is_told_with_the_ones_numbered_beside_it_from_the_file_on(tmp_path):
    draw = np.random.default_rng(0)
    images = {key: draw.integers(0, 255, (12, 16, 16), dtype=np.uint8) for key in ("pet", "t1")}
    split = np.array(["train"] * 8 + ["test"] * 4)
    patient = np.array(list("aaaabbbbcccc"))
    path, run = tmp_path / "slices.npz", tmp_path / "run"
    np.savez(path, **images, slice=np.array(list("012301230123")), patient=patient, split=split)
    words = ("train", "pet-ddpm", "--data", path, "--map", "clean=pet", "mr=t1", "--preset", "tiny",
             "--neighbours", 1, "--train.steps", 2, "--train.batch", 2, "--out", run)  # fmt: skip
    assert cli.main([str(word) for word in words]) == 0
    recipe = tomllib.loads((run / "config.toml").read_text())["recipe"]
    assert (recipe["neighbours"], recipe["condition_channels"]) == (1, 3)
    assert cli.main(["predict", str(run), "--out", str(tmp_path / "out")]) == 0


# -------------------------------------------------------------------------------------- oct-ddpm
def test_fusion_weighs_patches_by_joint_label_fusion():
    """One voxel by hand: M_ij = (sum over 11 x 11 |d_i| |d_j|)^2 + 30 on the diagonal, M w = 1."""
    image, others = draws(1, 1, 15, 15), draws(1, 3, 1, 15, 15, seed=1)
    others = image[:, None] + torch.tensor([0.1, 0.2, 0.4]).reshape(1, 3, 1, 1, 1) * others
    d = (others - image[:, None]).abs()[0, :, 0, 2:13, 2:13].flatten(1)
    m = (d @ d.T) ** 2 + 30 * torch.eye(3).double()
    w = torch.linalg.solve(m, torch.ones(3).double())
    wanted = float((w / w.sum()) @ others[0, :, 0, 7, 7])
    fused = self_fused(image, others, radius=OCT().radius, reach=0)
    assert float(fused[0, 0, 7, 7]) == pytest.approx(wanted, rel=1e-9)


def test_one_shot_asks_once_and_the_chain_at_every_step():
    y, std = draws(2, 1, 4, 4), torch.full((2,), 0.2)
    for mode, calls in (("one-shot", 1), ("chain", 7)):
        recipe = OCT(mode=mode, step=7)
        counted = Counted(GaussianDenoiser(recipe.schedule(), 0.0, 0.5))
        recipe.restored(counted, y, std, Seeded(range(2)))
        assert counted.calls == calls
