"""ddpm-3d: whole volumes, checked by what its paper's description lets one compute, and by balls."""

import dataclasses
import math

import pytest
import torch

from radiffuse import cli
from radiffuse.applications.generation.ddpm_3d import DDPM3D
from radiffuse.data.dataset import Facts, from_iterable
from radiffuse.errors import UsageError, UserError
from radiffuse.metrics.volumes import coherence
from radiffuse.nn.blocks import Attention
from radiffuse.training.objective import Absolute, Hybrid


def facts(*size):
    known = Facts(("image",), {"image": 1}, {"image": size}, 0, (), 0.5, 0.0, 100.0, 8)
    return dataclasses.replace(known, spectrum={"image": (1.0, 0.5)})


# --------------------------------------------------------------------------------- what it is made of
def test_the_chain_has_250_steps_of_cosine_betas():
    recipe = DDPM3D()
    schedule = recipe.schedule()
    kept = schedule.alpha(torch.tensor([125, 249, 250]).double() / 250) ** 2
    assert schedule.steps == recipe.steps == 250
    assert float(schedule.betas[0]) == pytest.approx(1.9427e-4, rel=1e-4)
    assert kept.tolist() == pytest.approx([0.49384, 3.886e-5, 3.886e-8], rel=2e-4)
    u = (torch.arange(250) / 250 + 0.008) / 1.008
    wanted = torch.cos(u * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    found = schedule.alpha(torch.arange(250).double() / 250) ** 2
    assert torch.allclose(found, wanted.double(), rtol=1e-5)


@pytest.mark.parametrize(("side", "at"), [(16, 16), (32, 16), (48, 12)])
def test_it_attends_over_the_volume_at_sixteen_voxels_and_in_the_middle(side, at):
    recipe = dataclasses.replace(DDPM3D(), width=2).fitted(facts(side, side, side))
    backbone, sides = recipe.network().backbone, set()
    for module in backbone.modules():
        if isinstance(module, Attention):
            module.register_forward_pre_hook(lambda _, args: sides.add(tuple(args[0].shape[2:])))
    backbone(torch.zeros(1, 1, side, side, side), torch.zeros(1))
    assert sides == {(at,) * 3, (side // 16,) * 3}


def test_a_slice_is_denoised_in_view_of_its_neighbours():
    """Convolutions alone, no halving: with other slices above and below, the middle one's answer changes."""
    shape = {"width": 8, "multiples": (1,), "attention": ()}
    network = dataclasses.replace(DDPM3D(), **shape).fitted(facts(9, 9, 9)).network()
    torch.manual_seed(0)
    for parameter in network.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t = torch.randn(1, 1, 9, 9, 9), torch.tensor(0.5)
    with torch.no_grad():
        for axis in (2, 3, 4):
            order = torch.tensor([8, 7, 6, 5, 4, 3, 2, 1, 0])
            moved = network(x.index_select(axis, order), t).select(axis, 4)
            gap = (moved - network(x, t).select(axis, 4)).abs().mean()
            assert gap > 0.01, "the middle slice is the same, its neighbours are not"


def constant_residual(recipe, residual):
    """The loss of a network that misses every noise by the same number."""
    objective = recipe.fitted(facts(16, 16, 16)).objective()
    z = torch.randn(4, 1, 16, 16, 16)
    x_0, t = torch.zeros_like(z), torch.rand(4).double()
    return float(objective.loss(z + residual, x_0, z, z, t))


def test_the_loss_is_the_absolute_error_of_the_noise():
    recipe = dataclasses.replace(DDPM3D(), width=8)
    losses = [constant_residual(recipe, r) for r in (0.1, -0.2, 3.0)]
    assert losses == pytest.approx([0.1, 0.2, 3.0], rel=1e-4)
    squared = dataclasses.replace(recipe, error="squared")
    assert constant_residual(squared, 3.0) == pytest.approx(9.0, rel=1e-4)


def test_the_absolute_error_is_weighted_as_the_root_of_the_squared():
    """A weight counts errors of the noise: w |e|^2 in one loss is sqrt(w) |e| in the other."""
    recipe = dataclasses.replace(DDPM3D(), width=8, loss="p2")
    absolute, squared = (
        constant_residual_at(dataclasses.replace(recipe, error=error), 0.5)
        for error in ("absolute", "squared")
    )
    assert absolute == pytest.approx(squared**0.5, rel=1e-5)
    assert absolute != pytest.approx(0.5, rel=0.05)


def constant_residual_at(recipe, t):
    objective = recipe.fitted(facts(16, 16, 16)).objective()
    z = torch.randn(1, 1, 16, 16, 16)
    return float(objective.loss(z + 0.5, 0 * z, z, z, torch.tensor([t]).double()))


def test_a_learned_variance_needs_the_squared_error():
    with pytest.raises(UsageError, match=r"--learned-variance .* take --error squared"):
        DDPM3D(learned_variance=True)
    recipe = dataclasses.replace(DDPM3D(), width=8, learned_variance=True, error="squared")
    assert type(recipe.fitted(facts(16, 16, 16)).objective()) is Hybrid
    small = dataclasses.replace(DDPM3D(), width=8).fitted(facts(16, 16, 16))
    assert type(small.objective()) is Absolute


# ------------------------------------------------------------------------------------ what it refuses
def test_pictures_are_refused_with_what_to_take():
    for size in ((64, 64), (64,)):
        with pytest.raises(UserError, match=r"ddpm-3d denoises whole volumes.*leave --slices out"):
            DDPM3D.small().fitted(facts(*size))


def test_pictures_are_refused_by_the_command_in_one_line(tmp_path, refused):
    words = ("train", "ddpm-3d", "--data", "brains:count=12,size=16", "--out", tmp_path / "run")
    assert "these images are 16 x 16; leave --slices out" in refused(*words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [DDPM3D, DDPM3D.small])
def test_sides_may_be_odd_but_not_smaller_than_the_stride(kind):
    assert kind().fitted(facts(41, 48, 50)).size == (41, 48, 50)
    with pytest.raises(UserError, match=r"6 x 6 x 6 are smaller than .* resize with --size"):
        kind().fitted(facts(6, 6, 6))


# ---------------------------------------------------------------------------------------- what it learns
SIDE = 16


def balls(count, seed=0):
    """Soft balls of random radius and place, white on black, (count, 1, 16, 16, 16)."""
    noise = torch.Generator().manual_seed(seed)
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    radius = SIDE * (0.18 + 0.18 * torch.rand(count, 1, generator=noise))
    centre = (SIDE / 2 - 1 - radius) * (2 * torch.rand(count, 3, generator=noise) - 1)
    x, y, z = ((line - centre[:, axis : axis + 1]).square() for axis in range(3))
    distance = (x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]).sqrt()
    return 2 * torch.sigmoid(2 * (radius[..., None, None] - distance))[:, None] - 1


def parabola(volume):
    """R^2 of r(z)^2, area over pi of the slices that are not empty, as a parabola of z."""
    area = ((volume[0] + 1) / 2).clamp(0, 1).sum((1, 2)).double() / math.pi
    z = torch.arange(len(area)).double()
    seen = area > 2
    powers = torch.stack([z**0, z, z**2], 1)[seen]
    fitted = powers @ torch.linalg.lstsq(powers, area[seen, None]).solution
    left = (area[seen] - fitted[:, 0]).square().sum()
    return float(1 - left / (area[seen] - area[seen].mean()).square().sum())


def middle(values):
    return float(torch.tensor(values).median())


def trained(recipe, images, steps=120, rate=4e-3):
    """An objective of a few steps of Adam, the rate falling to zero at the end."""
    torch.manual_seed(0)
    objective = recipe.objective()
    optimiser = torch.optim.Adam(objective.players["network"].parameters(), rate)
    fall = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: min(1, 2.5 * (1 - k / steps)))
    for _ in range(steps):
        ((_, loss),) = objective.losses({"image": images[torch.randint(len(images), (8,))]})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        fall.step()
    return objective


def test_drawn_balls_hold_together_from_slice_to_slice():
    """Slices that are each right but drawn alone, the best a 2-D network can do, are no balls."""
    data = balls(400)
    cases = from_iterable([{"image": volume} for volume in data], range=(-1.0, 1.0))
    recipe = dataclasses.replace(DDPM3D.tiny(), patch=4).fitted(cases.facts())
    objective = trained(recipe, cases.batch(range(len(data)))["image"])
    drawn = recipe.predict(objective, {"seed": torch.arange(16)})["image"]
    places = torch.randint(len(data), (16, SIDE), generator=torch.Generator().manual_seed(1))
    apart = torch.stack([data[places[:, k], :, k] for k in range(SIDE)], 2)
    together, real, alone = (float(coherence(x).mean()) for x in (drawn, data, apart))
    assert abs(together - real) < 0.05 and together > 0.8
    assert alone < 0.6
    assert middle([parabola(x) for x in data]) > 0.95
    assert middle([parabola(x) for x in drawn]) > 0.7
    assert middle([parabola(x) for x in apart]) < 0.5


def test_a_run_from_the_command_line(tmp_path):
    run, data = tmp_path / "run", ("--data", "brains3d:count=4,size=8")
    words = ["train", "ddpm-3d", *data, "--preset", "tiny", "--train.steps", "2"]
    assert cli.main([*words, "--out", str(run)]) == 0
    assert cli.main(["sample", str(run), "--count", "2", "--out", str(tmp_path / "made")]) == 0
    assert len(list((tmp_path / "made").glob("*.nii.gz"))) == 2
