"""SynDiff: each ingredient against an exact answer, and the eight players in the loop."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from radiffuse.applications.large_steps import large_steps
from radiffuse.applications.translation.adversarial import Adversarial
from radiffuse.applications.translation.syndiff import SynDiff
from radiffuse.data.dataset import Facts
from radiffuse.diffusion.kernels import posterior
from radiffuse.errors import UserError
from radiffuse.nn.critic import PairCritic, group_deviation
from radiffuse.training.checkpoint import newest
from radiffuse.training.loop import TrainOptions, train

SIDE = 16


def facts(source=(1, SIDE, SIDE), target=(1, SIDE, SIDE)):
    shapes = {"source": source, "target": target}
    return Facts(
        keys=("source", "target"),
        channels={key: shape[0] for key, shape in shapes.items()},
        size={key: tuple(shape[1:]) for key, shape in shapes.items()},
        classes=0, class_names=(), std=0.5, mean=0.0, diameter=1.0, cases=8,
    )  # fmt: skip


def tiny(**changes):
    return dataclasses.replace(SynDiff.tiny(), **changes).fitted(facts())


def made(recipe=None):
    """The tiny objective; zero-initialised layers get weights, so that everything matters."""
    torch.manual_seed(0)
    objective = (recipe or tiny()).objective()
    for player in objective.players.values():
        for parameter in player.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return objective


class Blobs:
    """Discs, bright in the source and dark in the target; no disc is in both."""

    def __init__(self, cases=16, side=SIDE):
        draw = torch.Generator().manual_seed(3)
        grid = torch.stack(torch.meshgrid(*[torch.arange(side) * 1.0] * 2, indexing="ij"))
        centre = 4 + (side - 8) * torch.rand(2 * cases, 2, 1, 1, generator=draw)
        radius = 2 + 2 * torch.rand(2 * cases, 1, 1, generator=draw)
        inside = ((grid - centre).square().sum(1).sqrt() < radius).float()[:, None]
        self.source, self.target = 1.6 * inside[:cases] - 0.8, 0.8 - 1.6 * inside[cases:]
        self.fingerprint = "blobs"

    def __len__(self):
        return len(self.source)

    def batch(self, indices):
        return {"source": self.source[indices], "target": self.target[indices]}


# ------------------------------------------------------------------------------------- the chain
def test_the_chain_has_the_authors_noise_levels():
    schedule = large_steps(4)
    kept = schedule.alpha(torch.arange(5).double() / 4) ** 2
    card = torch.tensor([0.99989, 0.52169, 0.078667, 0.0034285, 4.32e-5], dtype=torch.float64)
    assert torch.allclose(kept, card, atol=1.2e-4)
    betas = torch.tensor([0.478, 0.849, 0.956, 0.987], dtype=torch.float64)
    assert torch.allclose(schedule.betas, betas, atol=1e-3)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_real_states_follow_the_chain(level):
    """x_t has variance 1 - abar_t around its signal, and x_t given x_s has variance beta_t."""
    objective = made()
    objective.times = lambda count: torch.full((count,), level / 4, dtype=torch.float64)
    torch.manual_seed(1)
    x_s, x_t, t = objective.states(torch.zeros(4000, 1, 4, 4))
    sigma = objective.schedule.sigma(t)[0]
    beta = objective.schedule.betas[level - 1]
    assert float(x_t.var()) == pytest.approx(float(sigma**2), rel=0.02)
    step = x_t - torch.sqrt(1 - beta).float() * x_s
    assert float(step.var()) == pytest.approx(float(beta), rel=0.02)
    assert (level == 1) == (float(x_s.abs().max()) == 0)


def test_the_critic_sees_a_draw_from_the_posterior_not_the_estimate():
    objective = made()
    x_t, t = torch.randn(2000, 1, 4, 4), torch.full((2000,), 0.75, dtype=torch.float64)
    objective.estimate = lambda key, x_t, t, condition, noise: 0.3 * torch.ones_like(x_t)
    fake, x_0 = objective._reversed("target", x_t, t, x_t)
    mean, variance, _ = posterior(objective.schedule, x_t, x_0, t, t - 0.25)
    assert float((fake - mean).mean()) == pytest.approx(0, abs=0.01)
    assert float((fake - mean).var()) == pytest.approx(float(variance[0]), rel=0.03)
    assert float(variance[0]) > 0.3


def test_prediction_takes_four_evaluations_told_the_real_source():
    recipe, objective = tiny(), made()
    asked = []

    class Oracle(nn.Module):
        latent = 8

        def forward(self, x, clock, z, image):
            asked.append((clock.clone(), z.clone(), image))
            return -image

    objective.players["diffuse_target"] = objective.players["diffuse_source"] = Oracle()
    for key in ("translate_source", "translate_target"):
        objective.players[key] = None  # not needed to predict
    source = Blobs().source[:3]
    seed = torch.arange(3)
    out = recipe.predict(objective, {"source": source, "seed": seed})
    assert list(out) == ["target"] and torch.allclose(out["target"], -source, atol=1e-6)
    assert [float(clock[0]) for clock, _, _ in asked] == [1.0, 0.75, 0.5, 0.25]
    assert len({float(z[0, 0]) for _, z, _ in asked}) == 4  # a new latent every time
    assert all(image is source for _, _, image in asked)
    back = recipe.predict(objective, {"target": source, "seed": seed})
    assert list(back) == ["source"] and torch.allclose(back["source"], -source, atol=1e-6)


def test_a_prediction_depends_on_its_seed_not_on_its_batch():
    recipe, objective = tiny(), made()
    batch = {"source": Blobs().source[:3], "seed": torch.tensor([5, 6, 7])}
    together = recipe.predict(objective, batch)["target"]
    alone = recipe.predict(objective, {key: value[1:2] for key, value in batch.items()})["target"]
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    other = recipe.predict(objective, {**batch, "seed": torch.tensor([5, 8, 7])})["target"]
    assert not torch.allclose(other[1], together[1], atol=1e-3)


# ------------------------------------------------------------------------------------ the losses
def turns(objective, batch, seed=0):
    torch.manual_seed(seed)
    return list(objective.losses(batch))


def test_eight_players_critics_first_then_all_generators_at_once():
    objective = made()
    (critics, _), (generators, _) = turns(objective, Blobs().batch(range(4)))
    assert critics == ("judge_source", "patch_source", "judge_target", "patch_target")
    assert set(generators) == {
        f"{kind}_{key}" for kind in ("diffuse", "translate") for key in ("source", "target")
    }
    assert set(critics) | set(generators) == set(objective.players)
    assert objective.rates == dict.fromkeys(generators, 1.6), "1.6e-4 over the critics' 1e-4"


def by_hand(objective, x):
    """The losses of the authors' train.py at t = 1/2, all noise 0: of the critics, and of the generators."""
    players, schedule = objective.players, objective.schedule
    t = torch.full((len(x["source"]),), 0.5, dtype=torch.float64)
    clock, s = t.float(), t - 0.25
    critics = generators = 0
    for here, there in (("source", "target"), ("target", "source")):
        real = x[here]
        guess = players[f"translate_{there}"](real)
        x_s = schedule.alpha(s)[0].float() * real
        x_t = schedule.alpha(t)[0].float() * real
        x_0 = players[f"diffuse_{here}"](x_t, clock, torch.zeros(len(real), 8), guess)
        made = posterior(schedule, x_t, x_0, t, s)[0]
        judge, patch = players[f"judge_{here}"], players[f"patch_{there}"]
        critics += F.softplus(-judge(x_s, x_t, clock)).mean() + F.softplus(-patch(x[there])).mean()
        critics += F.softplus(judge(made, x_t, clock)).mean() + F.softplus(patch(guess)).mean()
        generators += F.softplus(-judge(made, x_t, clock)).mean() + F.softplus(-patch(guess)).mean()
        back = players[f"translate_{here}"](guess)
        generators += 0.5 * ((x_0 - real).abs().mean() + (back - real).abs().mean())
    return [float(critics.detach()), float(generators.detach())]


def test_the_terms_of_the_generators_and_of_the_critics_are_the_authors():
    objective = made(tiny(penalty=0.0))
    objective.times = lambda count: torch.full((count,), 0.5, dtype=torch.float64)
    objective.noise = torch.zeros_like
    x = Blobs().batch(range(4))
    found = [float(loss.detach()) for _, loss in turns(objective, x)]
    assert found == pytest.approx(by_hand(objective, x), rel=1e-5)


def test_a_critic_of_states_reads_both_states_and_the_time():
    judge = made().players["judge_source"]
    a, b, t = (*torch.randn(2, 4, 1, SIDE, SIDE), torch.full((4,), 0.5))
    said = judge(a, b, t)
    for other in ((b, b, t), (a, a, t), (a, b, 2 * t)):
        assert float((judge(*other) - said).detach().abs().max()) > 1e-4


def test_another_latent_is_another_image():
    generator = made().players["diffuse_source"]
    x, t, z = torch.randn(2, 1, SIDE, SIDE), torch.full((2,), 0.5), torch.randn(2, 8)
    first, second = generator(x, t, z, x), generator(x, t, -z, x)
    assert float((first - second).detach().abs().max()) > 1e-4


def test_which_source_stands_beside_which_target_is_drawn_anew():
    """The critics of states and of patches see the targets in another order than the file's."""
    objective, seen = made(), []
    x = Blobs().batch(range(8))
    critic = objective.players["patch_target"]
    critic.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    turns(objective, x)
    order = [int((x["target"] - case).flatten(1).abs().sum(1).argmin()) for case in seen[0]]
    assert sorted(order) == list(range(8)) and order != list(range(8))


def gradient(objective, player, **off):
    """Norm of the generators' loss along `player`, with factors changed or critics silenced."""
    for name, value in off.items():
        setattr(objective, name, value)
    _, (_, loss) = turns(objective, Blobs().batch(range(4)))
    found = torch.autograd.grad(
        loss, list(objective.players[player].parameters()), allow_unused=True
    )
    return float(sum(g.square().sum() for g in found if g is not None))


class Silent(nn.Module):
    """A critic of states that says the same of all."""

    seen = torch.zeros((), dtype=torch.int64)

    def forward(self, x_s, *_, **__):
        return 0 * x_s.flatten(1).sum(1)


def silenced(*names):
    objective = made()
    for name in names:
        objective.players[name] = Silent()
    return objective


PATCHES = ("patch_source", "patch_target")
JUDGES = ("judge_source", "judge_target")


@pytest.mark.parametrize("player", ["translate_source", "translate_target"])
def test_the_translators_learn_from_the_cycle_and_from_the_diffusion(player):
    cycle_alone = silenced(*PATCHES, *JUDGES)
    assert gradient(cycle_alone, player, fidelity=0.0) > 1e-8  # a detached cycle would be half 0
    diffusion_alone = silenced(*PATCHES)
    assert gradient(diffusion_alone, player, cycle=0.0, fidelity=0.0) > 1e-12
    nothing = silenced(*PATCHES, *JUDGES)
    assert gradient(nothing, player, cycle=0.0, fidelity=0.0) == 0


def test_the_cycle_reaches_the_first_translator_through_the_second():
    """With one modality's own cycle term only, both translators still get a gradient."""
    objective = silenced(*PATCHES, *JUDGES)
    x = Blobs().batch(range(4))
    there = objective._translated("target", x)
    back = objective._translated("source", {"target": there})
    loss = (back - x["source"]).abs().mean()
    first = torch.autograd.grad(loss, next(objective.players["translate_target"].parameters()))
    assert float(first[0].abs().sum()) > 0


def test_the_generator_of_a_diffusion_is_told_the_made_source():
    objective = made()
    x_t, t = torch.randn(2, 1, SIDE, SIDE), torch.tensor([0.5, 1.0]).double()
    image = torch.zeros(2, 1, SIDE, SIDE, requires_grad=True)
    objective.estimate("target", x_t, t, image, torch.zeros_like).sum().backward()
    assert float(image.grad.abs().sum()) > 0


def test_which_source_stands_beside_which_target_changes_nothing():
    """No loss may know: the same cases in another pairing give the same expected loss."""
    objective = made()
    objective.times = lambda count: torch.full((count,), 0.25, dtype=torch.float64)
    objective.noise = lambda like: torch.zeros_like(like)
    x = Blobs().batch(range(4))
    paired = [float(loss.detach()) for _, loss in turns(objective, x)]
    objective.players["judge_source"].seen.zero_()
    x["target"] = x["target"][[2, 0, 3, 1]]
    assert [float(loss.detach()) for _, loss in turns(objective, x)] == pytest.approx(
        paired, rel=1e-4
    )


def test_the_penalty_is_half_gamma_times_the_squared_slope_every_tenth_step():
    class Plane(nn.Module):
        """Logit <w, x_s>: the slope is w everywhere."""

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(SIDE * SIDE))
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

        def forward(self, x_s, x_t, clock, exact=False):
            return x_s.flatten(1) @ self.w

    objective = made(tiny(penalty=3.0))
    planes = {name: Plane() for name in JUDGES}
    objective.players |= planes
    x = Blobs().batch(range(4))
    with_penalty = [float(turns(objective, x)[0][1].detach()) for _ in range(21)]
    extra = 1.5 * sum(float(plane.w.detach().square().sum()) for plane in planes.values())
    due = [loss > with_penalty[1] + extra / 2 for loss in with_penalty]
    assert due == [step % 10 == 0 for step in range(21)]
    assert with_penalty[10] - with_penalty[11] == pytest.approx(extra, rel=1e-4)


def test_the_penalty_is_computed_exactly_under_autocast():
    objective = made()
    x_s, x_t, t = objective.states(Blobs().source[:4])
    judge = objective.players["judge_source"]
    exact = objective.slope(judge, x_s, x_t, t)
    judge.forward = torch.autocast("cpu", torch.bfloat16)(judge.forward)  # as the loop has it
    under = objective.slope(judge, x_s, x_t, t)
    assert judge(x_s, x_t, t.float()).dtype == torch.bfloat16 and torch.equal(exact, under)
    gradients = torch.autograd.grad(under, list(judge.parameters()), allow_unused=True)
    assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0


def test_deviation_over_groups_of_four_successive_cases():
    h = torch.randn(10, 3, 2, 2)
    channel = group_deviation(h)
    assert channel.shape == (10, 1, 2, 2)
    whole = h[4:8].std(dim=0, correction=0).mean() - 1e-4
    assert torch.allclose(channel[4:8], whole.expand(4, 1, 2, 2), atol=1e-5)
    assert torch.equal(group_deviation(h[4:8]), channel[4:8])
    assert float(group_deviation(h[:1]).abs().max()) < 1e-6


def test_volumes_and_different_channels():
    wide = facts((3, 8, 8, 8), (1, 8, 8, 8))
    recipe = SynDiff.tiny().fitted(wide)
    objective = recipe.objective()
    x = {"source": torch.randn(2, 3, 8, 8, 8), "target": torch.randn(2, 1, 8, 8, 8)}
    for _, loss in objective.losses(x):
        assert bool(torch.isfinite(loss))
    out = recipe.predict(objective, {"source": x["source"], "seed": torch.arange(2)})
    assert out["target"].shape == (2, 1, 8, 8, 8)


def test_the_unet_translator_too():
    objective = made(tiny(translator="unet"))
    assert all(bool(torch.isfinite(loss)) for _, loss in turns(objective, Blobs().batch(range(4))))


# --------------------------------------------------------------------------------- in the loop
class Fixed(Adversarial):
    """Draws that belong to the case, not to the micro-batch it came in."""

    def __init__(self, objective):
        super().__init__(objective.players, objective.schedule, objective.latent)
        self.times = lambda count: torch.full((count,), 0.5, dtype=torch.float64)
        self.noise = lambda like: 0.1 * torch.ones_like(like)


def trained(out, objective=None, **options):
    values = {"steps": 3, "batch": 8, "learning_rate": 1e-3, "warmup": 0, "betas": (0.5, 0.9)}
    train(objective or Fixed(made()), Blobs(), TrainOptions(**{**values, **options}), out)
    return load_file(newest(out) / "state.safetensors")


def test_accumulation_is_one_big_batch(tmp_path, monkeypatch):
    """Two micro-batches of four, each player advanced on both, against eight at once.

    Adam's first moment after one step is half the gradient; its steps would blow up rounding.
    """
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    one = trained(tmp_path / "one", steps=1, learning_rate=1e-4)
    two = trained(tmp_path / "two", steps=1, learning_rate=1e-4, accumulate=2)
    for player in Adversarial.critics + Adversarial.generators:
        names = [name for name in one if name.startswith(f"optimizer/exp_avg/{player}.")]
        largest = max(float(one[name].abs().max()) for name in names)
        assert largest > 1e-6
        for name in names:
            assert float((two[name] - one[name]).abs().max()) < 2e-3 * largest, name
    assert int(one["weights/judge_source.seen"]) == int(two["weights/judge_source.seen"]) == 1


@functools.cache
def made_weights():
    players = made().players.items()
    return {f"{who}.{key}": value for who, p in players for key, value in p.state_dict().items()}


def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path):
    """The lazy penalty falls due at the same steps: every second one here."""

    def objective():
        return made(tiny(penalty_every=2))

    whole = trained(tmp_path / "whole", objective())
    trained(tmp_path / "cut", objective(), steps=1)
    options = TrainOptions(steps=3, batch=8, learning_rate=1e-3, warmup=0, betas=(0.5, 0.9))
    train(objective(), Blobs(), options, tmp_path / "cut", resume=True)
    again = load_file(newest(tmp_path / "cut") / "state.safetensors")
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_bf16_trains_all_players(tmp_path):
    state = trained(tmp_path, made(tiny(penalty_every=1)), precision="bf16")
    before = made_weights()
    for name in Adversarial.critics + Adversarial.generators:
        keys = [key for key in before if key.startswith(name) and before[key].is_floating_point()]
        after = [state[f"weights/{key}"] for key in keys]
        assert all(bool(torch.isfinite(value).all()) for value in after)
        assert any(not torch.equal(value, before[key]) for key, value in zip(keys, after,
                                                                              strict=True)), name  # fmt: skip


def test_averages_are_kept_of_generators_only(tmp_path):
    state = trained(tmp_path)
    averaged = {name.split("/")[2].split(".")[0] for name in state if name.startswith("ema/")}
    assert averaged == set(Adversarial.generators)
    model = load_file(tmp_path / "model.safetensors")
    raw = state["weights/patch_source.layers.0.weight"]
    assert torch.equal(model["patch_source.layers.0.weight"], raw)


def trained_on_two(folder):
    trained(Path(folder), made(tiny(penalty_every=2)))


def test_two_processes_are_one_process_of_two_micro_batches(forks, tmp_path):
    one = trained(tmp_path / "one", made(tiny(penalty_every=2)), accumulate=2)
    forks.on_two("test_syndiff:trained_on_two", str(tmp_path / "two"))
    two = load_file(newest(tmp_path / "two") / "state.safetensors")
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(two[name], value), name


def test_it_learns_to_turn_bright_into_dark_without_a_single_pair(tmp_path):
    """Discs of disjoint people: far better than the source as it is.

    (That the right source beats a wrong one takes 150 steps of 8, half a minute.)
    """
    recipe = tiny()
    torch.manual_seed(0)
    objective = recipe.objective()
    options = TrainOptions(
        steps=40, batch=4, learning_rate=1e-3, warmup=0, betas=(0.5, 0.9), clip=0.0
    )
    train(objective, Blobs(64), options, tmp_path)
    source = Blobs(80).source[64:]
    with torch.no_grad():
        made = recipe.predict(objective, {"source": source, "seed": torch.arange(16)})["target"]
    assert float((made + source).abs().mean()) < 0.5 * float((2 * source).abs().mean())


# ------------------------------------------------------------------------------------ bad input
def test_source_and_target_of_different_size_are_refused():
    with pytest.raises(UserError, match="source is 16 x 16 and target is 32 x 32"):
        SynDiff.tiny().fitted(facts(target=(1, 32, 32)))


def test_images_smaller_than_the_stride_are_refused():
    with pytest.raises(UserError, match="6 x 6 are smaller than this network's stride 8"):
        SynDiff.tiny().fitted(facts((1, 6, 6), (1, 6, 6)))
    with pytest.raises(UserError, match="smaller than the critics' stride 64"):
        dataclasses.replace(SynDiff.tiny(), critic_levels=5).fitted(facts())


def test_the_paper_setting_is_the_cards():
    recipe = SynDiff().fitted(facts((1, 256, 256), (1, 256, 256)))
    assert (recipe.timesteps, recipe.latent, recipe.width) == (4, 100, 64)
    assert recipe.multiples == (1, 1, 2, 2, 4, 4)
    assert recipe.attending() == (4, 6), "at 256 / 2^4 = 16, and in the middle"
    assert (recipe.penalty, recipe.penalty_every) == (1.0, 10)
    assert (recipe.fidelity, recipe.cycle, recipe.generator_rate) == (0.5, 0.5, 1.6)
    assert PairCritic(2, 1).stride == 64
