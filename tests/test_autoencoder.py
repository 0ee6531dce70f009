"""Auto-encoders: laws of codes, the codebook, decoding in parts; the objective of the first stage."""

import math

import pytest
import torch
import torch.nn.functional as F

from radiffuse.applications.latent.coding import CODER, CRITIC, Coding, Perceptual
from radiffuse.diffusion.latent import decoded_in_tiles
from radiffuse.nn.autoencoder import AutoEncoder, Codebook, Gaussian
from radiffuse.nn.critic import PatchCritic
from radiffuse.training.footprint import measured


def coder(axes=2, **options):
    torch.manual_seed(0)
    return AutoEncoder(axes, 1, 3, 8, (1, 2), 1, **options)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("codes", [0, 8])
@pytest.mark.parametrize("local", [False, True])
def test_images_of_any_number_of_axes_have_codes_and_come_back(axes, codes, local):
    network = coder(axes, codes=codes, local=local, patch=2)
    x = torch.randn(2, 1, *(8,) * axes)
    made, penalty = network(x)
    mean, deviation = network.encode(x)
    assert made.shape == x.shape and network.decode(mean).shape == x.shape
    assert mean.shape == deviation.shape == (2, 3, *(2,) * axes)
    assert penalty.ndim == 0 and bool(penalty.isfinite())


def test_the_penalty_of_gaussian_codes_is_their_divergence_from_the_standard_normal():
    mean, log_variance = (
        torch.randn(2, 3, 4, dtype=torch.float64),
        torch.randn(2, 3, 4, dtype=torch.float64),
    )
    _, penalty = Gaussian()(torch.cat([mean, log_variance], 1).float())
    ours = torch.distributions.Normal(mean, (log_variance / 2).exp())
    exact = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(penalty.double(), exact.sum((1, 2)).mean(), rtol=1e-5, atol=0)


def test_gaussian_codes_are_drawn_from_their_law():
    h = torch.cat([torch.full((4000, 1, 2), 2.0), torch.full((4000, 1, 2), 2 * math.log(0.5))], 1)
    torch.manual_seed(0)
    drawn, _ = Gaussian()(h)
    assert float(drawn.mean()) == pytest.approx(2, abs=0.03)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.02)


def book(entries, **options):
    found = Codebook(len(entries), len(entries[0]), **options)
    found.entries.copy_(torch.tensor(entries))
    return found


def test_places_take_the_nearest_entry_and_the_gradient_passes_through():
    found = book([[0.0, 0.0], [1.0, 1.0]]).eval()
    h = torch.tensor([[[0.9, 0.2], [0.8, -0.3]]], requires_grad=True)  # two places
    drawn, penalty = found(h)
    assert drawn.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
    (3 * drawn).sum().backward(retain_graph=True)
    assert torch.equal(h.grad, torch.full_like(h, 3.0))
    h.grad = None
    penalty.backward()  # the commitment: h is drawn to its entry, and not the entry to h
    expected = 0.25 * 2 * (h.detach() - drawn.detach()) / h.numel()
    torch.testing.assert_close(h.grad, expected)


def test_entries_follow_the_places_that_choose_them():
    torch.manual_seed(0)
    found = Codebook(2, 1, decay=0.9)
    modes = torch.tensor([-1.0, 3.0])
    for _ in range(200):
        found(modes[torch.randint(2, (4, 1, 16))] + 0.1 * torch.randn(4, 1, 16))
    assert sorted(found.entries.flatten().tolist()) == pytest.approx([-1, 3], abs=0.1)


def test_an_entry_that_nothing_chooses_begins_again_where_there_are_places():
    torch.manual_seed(0)
    found = Codebook(4, 1, decay=0.5)
    found(torch.zeros(1, 1, 8))
    found.entries[3], found.sums[3] = 100.0, 100.0
    for _ in range(12):
        found(torch.linspace(0, 1, 32).reshape(1, 1, 32))
    assert float(found.entries.max()) <= 1


def test_a_codebook_learns_the_same_where_networks_are_rounded():
    """Under autocast entries stay the fp32 means of what chose them."""
    torch.manual_seed(0)
    plain, rounded = Codebook(4, 3), Codebook(4, 3)
    rounded.load_state_dict(plain.state_dict())
    h = torch.randn(2, 3, 8, 8)
    for codebook, enabled in ((plain, False), (rounded, True)):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            codebook(h)
    torch.testing.assert_close(rounded.entries, plain.entries)


def test_entries_do_not_move_outside_of_training():
    found = book([[0.0], [1.0]]).eval()
    before = found.entries.clone()
    found(torch.randn(1, 1, 8))
    assert torch.equal(found.entries, before)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("codes", [0, 8])
def test_decoding_in_parts_is_decoding_the_whole(axes, codes):
    network = coder(axes, codes=codes, local=True, patch=2).eval()
    code = torch.randn(1, 3, 19, *(9,) * (axes - 1))
    with torch.no_grad():
        whole = network.decode(code)
        parts = decoded_in_tiles(network, code, (5,) * axes)
    assert float((parts - whole).abs().max()) < 1e-5 * float(whole.abs().max())


def test_the_reach_is_as_far_as_a_voxel_depends_and_not_much_farther():
    network = coder(1, local=True).eval()
    code = torch.zeros(1, 3, 41, requires_grad=True)
    at = 20 * network.stride
    network.decode(code)[0, 0, at].backward()
    used = code.grad.abs().sum((0, 1)).nonzero()[:, 0]
    farthest = int((used - 20).abs().max())
    assert farthest <= math.ceil(network.reach) <= farthest + 3


def test_sides_that_do_not_divide_are_continued_and_cut_back():
    network = coder(patch=2).eval()
    x = torch.rand(1, 1, 6, 9)
    whole = F.pad(x, (0, 3, 0, 2), mode="reflect")
    assert torch.equal(network.encode(x)[0], network.encode(whole)[0])
    torch.manual_seed(0)
    made = network(x)[0]
    torch.manual_seed(0)
    assert torch.equal(made, network(whole)[0][..., :6, :9])
    with pytest.raises(ValueError, match="3 x 8 are smaller than the network's stride 4 x 4"):
        network.encode(torch.zeros(1, 1, 3, 8))


def test_layers_done_again_change_memory_not_results():
    """An attribute of the network, so that weights are the same file."""
    once, again = coder(2), coder(2, recompute=True)
    again.load_state_dict(once.state_dict())
    x = torch.randn(1, 1, 64, 64)
    found, peaks = [], []
    for network in (once, again):

        def step(network=network):
            torch.manual_seed(0)
            loss = network(x)[0].square().mean()
            return torch.autograd.grad(loss, [*network.encoder.parameters()])

        found.append(step())
        peaks.append(measured(step, 1e12))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))
    assert peaks[1] < 0.7 * peaks[0]


# ---------------------------------------------------------------------------- the first stage
def stage(**options):
    torch.manual_seed(0)
    given = {
        "kl": 0.0,
        "perceptual": 0.0,
        "adversarial": 0.0,
        "after": 0,
        "critic_rate": 2.0,
        **options,
    }
    features = given.pop("features", None)
    critic = PatchCritic(2, 1, 8, 1) if given["adversarial"] else None
    return Coding(coder(), critic, features, **given)


def first_loss(objective, x):
    torch.manual_seed(1)
    turns = objective.losses({"image": x})
    who, loss = next(turns)
    assert who == CODER
    return loss, turns


def test_the_loss_is_the_absolute_error_and_the_weighted_penalty():
    x = torch.randn(2, 1, 8, 8)
    objective = stage(kl=0.5)
    torch.manual_seed(1)
    made, penalty = objective.coder(x)
    loss, _ = first_loss(objective, x)
    torch.testing.assert_close(loss, (made - x).abs().mean() + 0.5 * penalty)


def test_the_critic_is_least_squares_and_heard_after_its_steps():
    x = torch.randn(2, 1, 8, 8)
    objective = stage(adversarial=0.3, after=1)
    torch.manual_seed(1)
    made, _ = objective.coder(x)
    silent, turns = first_loss(objective, x)
    torch.testing.assert_close(silent, (made - x).abs().mean())
    assert next(turns)[0] == CRITIC
    objective.coder.seen += 1
    heard, turns = first_loss(objective, x)
    judged = objective.players[CRITIC](made)
    torch.testing.assert_close(heard, silent + 0.3 * (judged - 1).square().mean())
    real = objective.players[CRITIC](x)
    torch.testing.assert_close(
        next(turns)[1], ((real - 1).square().mean() + judged.square().mean()) / 2
    )


def test_the_perceptual_distance_is_of_normalised_features_at_each_stage():
    torch.manual_seed(0)
    stages = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 4, 3))
    x, y = torch.randn(2, 2, 1, 8, 8)
    total, a, b = 0.0, x, y
    for one in stages:
        a, b = one(a), one(b)
        total += (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean()
    torch.testing.assert_close(Perceptual(stages)(x, y), total / 2, rtol=1e-4, atol=1e-6)
    objective = stage(perceptual=0.7, features=Perceptual(stages))
    torch.manual_seed(1)
    made, _ = objective.coder(x)
    loss, _ = first_loss(objective, x)
    torch.testing.assert_close(loss, (made - x).abs().mean() + 0.7 * Perceptual(stages)(made, x))


def test_a_network_of_pictures_sees_the_same_slices_of_both_volumes():
    """In three planes: a change in one voxel is seen by the planes through it, and equal volumes are at no distance."""
    torch.manual_seed(0)
    stages = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3))
    distance, x = Perceptual(stages, pictures=True), torch.randn(2, 1, 6, 7, 8)
    assert float(distance(x, x)) == 0
    assert float(distance(x, x + torch.randn_like(x))) > 0.1
    picture = torch.randn(2, 1, 8, 8)
    other = torch.randn_like(picture)
    assert torch.equal(distance(picture, other), Perceptual(stages)(picture, other))


def test_the_stages_of_a_resnet_are_its_own():
    from radiffuse.metrics.resnet import ResNet50

    torch.manual_seed(0)
    network, x = ResNet50().eval(), torch.randn(1, 1, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network.stages()(x).mean((2, 3)), network(x))


def test_a_codebook_keeps_the_weights_that_filled_it():
    torch.manual_seed(0)
    network = AutoEncoder(2, 1, 3, 8, (1, 2), 1, codes=4)
    options = {"kl": 1.0, "perceptual": 0.0, "adversarial": 0.0, "after": 0, "critic_rate": 1.0}
    assert Coding(network, None, None, **options).unaveraged == (CODER,)
    assert stage().unaveraged == ()


def test_a_step_in_micro_batches_is_one_step_until_the_critic_is_heard():
    objective = stage(adversarial=0.5)
    x = {"image": torch.zeros(2, 1, 16, 16)}
    for step in range(1, 4):
        parts = [objective.losses(x) for _ in range(4)]
        for _ in objective.players:  # a turn of every micro-batch, then the next
            for part in parts:
                next(part)
        assert int(objective.coder.seen) == step
