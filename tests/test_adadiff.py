"""AdaDiff: an adversarial prior of eight steps, adapted to each scan and left as it was."""

import dataclasses
import hashlib

import pytest
import torch
from torch import nn

from radiffuse.acquisition import Acquired
from radiffuse.applications.large_steps import large_steps
from radiffuse.applications.reconstruction.adadiff import AdaDiff
from radiffuse.applications.reconstruction.adaptation import adapted
from radiffuse.data.dataset import Facts
from radiffuse.errors import UserError
from radiffuse.inverse import Measurement
from radiffuse.operators import Fourier, Mask
from radiffuse.papers import by_id

SIDE = 16


def scan(x, step=2):
    """Complex images (B, 1, *S) of one coil, every second column and the middle sampled."""
    mask = torch.zeros(1, 1, *x.shape[2:], dtype=torch.bool)
    mask[..., ::step] = True
    mask[..., SIDE // 2 - 2 : SIDE // 2 + 2] = True
    A = Mask(mask) @ Fourier(2)
    y, ones = A(x), torch.ones(len(x))
    return Acquired(Measurement(y, A, 0.0), A.adjoint(y), ones, ones, A.adjoint, None, mask)


def recipe_of(**more):
    values = {"size": (SIDE, SIDE), "channels": 2, "values": "channels", **more}
    return dataclasses.replace(AdaDiff.tiny(), **values)


class Says(nn.Module):
    """A generator that always makes one image, and writes down what it was asked."""

    def __init__(self, image):
        super().__init__()
        self.image, self.asked = nn.Parameter(image.clone()), []

    def forward(self, x, clock, z, image=None):
        self.asked.append((x.detach().clone(), float(clock[0]), z.clone()))
        return self.image.expand_as(x)


def objective_with(recipe, generator):
    torch.manual_seed(0)
    objective = recipe.objective()
    objective.players["network"] = generator
    return objective


def blob(scale=1.0, shift=0):
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    image = scale * torch.exp(-((y - 7.0 - shift) ** 2 + (x - 8.0) ** 2) / 12)
    return torch.complex(image, 0.2 * image)[None, None]


def squares():
    """Dark ones on bright ground."""
    image = torch.full((1, 1, SIDE, SIDE), 0.9, dtype=torch.complex64)
    image[..., 5:9, 4:7] = image[..., 8:12, 9:13] = 0.1
    return image


def parts(x):
    return torch.cat([x.real, x.imag], 1)


def test_the_chain_is_syndiffs_of_eight_steps():
    kept = large_steps(8).alpha(torch.arange(9).double() / 8) ** 2
    card = [0.99989, 0.84346, 0.52169, 0.23658, 0.078667, 0.019179, 0.0034285, 4.49e-4, 4.32e-5]
    assert torch.allclose(kept, torch.tensor(card).double(), atol=1.2e-4)
    assert AdaDiff().timesteps == 8 and by_id("adadiff").load() is AdaDiff


def test_eight_calls_from_the_zero_filled_image_then_one_then_the_adaptation():
    recipe = recipe_of(timesteps=8, adapt=5)
    acquired = scan(blob())
    generator = Says(torch.zeros(1, 2, SIDE, SIDE))
    recipe.drawn(objective_with(recipe, generator), acquired, [1])
    clocks = [clock for _, clock, _ in generator.asked]
    assert clocks[:8] == [k / 8 for k in range(8, 0, -1)]
    assert clocks[8:] == [1 / 8] * (1 + 5 + 1)  # no data consistency, then steps, then the answer
    assert torch.allclose(generator.asked[0][0], parts(acquired.first), atol=1e-6)
    latents = [z for _, _, z in generator.asked]
    assert not torch.equal(latents[0], latents[1])
    held = generator.asked[9:]
    assert all(torch.equal(x, held[0][0]) and torch.equal(z, held[0][2]) for x, _, z in held)


def test_what_was_measured_replaces_k_space_after_every_estimate():
    """With nothing estimated the last state of the rapid phase is the zero-filled image itself."""
    recipe = recipe_of(adapt=0)
    acquired = scan(blob())
    generator = Says(torch.zeros(1, 2, SIDE, SIDE))
    recipe.drawn(objective_with(recipe, generator), acquired, [1])
    x, clock, _ = generator.asked[recipe.timesteps]
    assert clock == 1 / recipe.timesteps
    assert torch.allclose(x, parts(acquired.first), atol=1e-5)


def test_the_answer_holds_the_measurement_to_rounding():
    recipe = recipe_of(adapt=2)
    acquired = scan(blob())
    torch.manual_seed(0)
    x, _ = recipe.drawn(recipe.objective(), acquired, [1])
    assert float(acquired.measurement.residual(x).abs().max()) < 1e-6


def weights(module):
    digest = hashlib.sha256()
    for value in module.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def test_no_scan_depends_on_another_and_the_weights_are_as_before():
    recipe = recipe_of(adapt=6, adapt_rate=1e-2)
    torch.manual_seed(0)
    objective = recipe.objective()
    before = weights(objective.players["network"])
    alone, _ = recipe.drawn(objective, scan(blob(0.7, 2)), [1])
    recipe.drawn(objective, scan(blob(1.0, -3)), [2])
    again, _ = recipe.drawn(objective, scan(blob(0.7, 2)), [1])
    assert weights(objective.players["network"]) == before
    assert torch.equal(alone, again)
    still = dataclasses.replace(recipe, adapt_rate=0.0)
    unmoved, _ = still.drawn(objective, scan(blob(0.7, 2)), [1])
    none, _ = dataclasses.replace(recipe, adapt=0).drawn(objective, scan(blob(0.7, 2)), [1])
    assert torch.equal(unmoved, none) and not torch.equal(alone, none)


def test_a_batch_is_answered_one_by_one():
    recipe = dataclasses.replace(
        AdaDiff.tiny(), size=(SIDE, SIDE), channels=1, coils=1, calibration=2
    )
    torch.manual_seed(0)
    objective, images = recipe.objective(), torch.rand(2, 1, SIDE, SIDE) * 2 - 1
    both = recipe.predict(objective, {"image": images, "seed": torch.tensor([1, 2])})
    second = recipe.predict(objective, {"image": images[1:], "seed": torch.tensor([2])})
    assert torch.equal(both["image"][1:], second["image"])


def test_the_loss_of_the_data_falls_below_a_third():
    recipe = recipe_of(adapt=160, adapt_rate=1e-2)
    torch.manual_seed(0)
    _, found = recipe.adaptation(recipe.objective(), scan(squares()), 1)
    assert len(found.losses) == 161
    assert found.losses[-1] < 0.3 * found.losses[0]


def test_adaptation_helps_where_the_prior_does_not_fit():
    """A generator that knows bright blobs, a scan of dark ones: better than before, and than zero filling."""
    truth = squares()
    acquired = scan(truth, step=3)
    recipe = recipe_of(adapt=80, adapt_rate=2e-2)
    torch.manual_seed(0)
    objective = recipe.objective()
    fit = torch.optim.Adam(objective.players["network"].parameters(), 1e-2)
    x, t = torch.randn(1, 2, SIDE, SIDE), torch.tensor([1 / recipe.timesteps])
    for _ in range(40):
        made = objective.made(objective.players["network"], x, t, torch.randn(1, recipe.latent))
        loss = (made - parts(blob(0.9))).abs().mean()
        fit.zero_grad(), loss.backward(), fit.step()

    def error(x):
        return float((x - truth).abs().square().mean().sqrt())

    plain, _ = dataclasses.replace(recipe, adapt=0).drawn(objective, acquired, [1])
    fitted, _ = recipe.drawn(objective, acquired, [1])
    assert error(fitted) < 0.8 * error(plain)
    assert error(fitted) < error(acquired.first)


class Blind(nn.Module):
    """A critic that finds all images alike."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x_s, x_t, clock, exact=False):
        return 0 * x_s.flatten(1).sum(1)


def told_without_critic(**changed):
    """The generator's loss and gradients, beside a critic that tells nothing."""
    torch.manual_seed(0)
    objective = recipe_of(**changed).objective()
    turns = [name for name, _ in objective.losses({"image": torch.rand(4, 1, SIDE, SIDE) * 2 - 1})]
    assert turns == ["judge", "network"]
    objective.players["judge"] = Blind()
    loss = objective.of_generator(torch.randn(4, 2, SIDE, SIDE))
    loss.backward()
    slopes = [p.grad for p in objective.players["network"].parameters() if p.grad is not None]
    return loss.detach(), slopes


def test_the_critic_alone_tells_the_generator_what_images_are():
    """No term compares the estimate with the image: with a blind critic nothing is learned."""
    assert AdaDiff().fidelity == 0, "the paper"
    _, slopes = told_without_critic(fidelity=0.0)
    assert slopes and all(float(g.abs().max()) == 0 for g in slopes)


def test_in_trainings_of_minutes_its_error_tells_too():
    assert AdaDiff.small().fidelity == 10
    none, _ = told_without_critic(fidelity=0.0)
    one, slopes = told_without_critic(fidelity=1.0)
    ten, _ = told_without_critic(fidelity=10.0)
    assert any(float(g.abs().max()) > 0 for g in slopes)
    assert torch.allclose(ten - none, 10 * (one - none)) and one > none


def test_the_penalty_is_half_gamma_times_the_squared_slope_every_tenth_step(monkeypatch):
    recipe = recipe_of(penalty=3.0)
    torch.manual_seed(0)
    objective = recipe.objective()
    monkeypatch.setattr(objective, "slope", lambda judge, *_: torch.tensor(1000.0))
    batch = {"image": torch.rand(4, 1, SIDE, SIDE) * 2 - 1}
    of_critic = [float(next(objective.losses(batch))[1].detach()) for _ in range(1)]
    seen = objective.players["judge"].seen
    for step in range(1, 12):
        seen.fill_(step)
        of_critic.append(float(next(objective.losses(batch))[1].detach()))
    assert [loss > 1490 for loss in of_critic] == [step % 10 == 0 for step in range(12)]


def test_magnitudes_in_units_of_the_generator():
    recipe = dataclasses.replace(AdaDiff.tiny(), size=(SIDE, SIDE), channels=1)
    x = torch.rand(1, 1, SIDE, SIDE)
    assert torch.allclose(recipe.unit(recipe.learned(x)), x)
    assert torch.allclose(recipe.learned(torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2))
    assert torch.equal(recipe.images({"image": x}), x)
    y = recipe_of()
    assert torch.equal(y.unit(y.learned(blob())), blob())
    made = y.images({"image": 2 * x - 1})  # magnitudes with a phase
    assert torch.allclose(made.square().sum(1, keepdim=True).sqrt(), x, atol=1e-5)


def test_the_copy_alone_is_fitted():
    network = nn.Linear(1, 1)
    A = Mask(torch.ones(1, 1, 1, 1)) @ Fourier(2)
    y = torch.full((1, 1, 1, 1), 3.0, dtype=torch.complex64)

    def made(net):
        return net(torch.ones(1, 1)).reshape(1, 1, 1, 1).to(torch.complex64)

    found = adapted(network, made, Measurement(y, A, 0.0), 400, 0.05)
    assert float((found.x - y).abs().max()) < 0.2
    assert network.weight.grad is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"values": "parts"}, "--values must be channels"),
        ({"measurement": "ct"}, "--measurement must be mri"),
        ({"adapt": -1}, "--adapt"),
    ],
)
def test_what_it_cannot_do_is_refused(changed, said):
    with pytest.raises(UserError, match=said):
        dataclasses.replace(AdaDiff.tiny(), **changed)


def test_images_that_do_not_fit_are_refused():
    known = Facts(("image",), {"image": 1}, {"image": (32, 32)}, 0, (), 0.5, 0.0, 100.0, 8)
    with pytest.raises(UserError, match="smaller than the critic's stride 64"):
        AdaDiff().fitted(known)
    colour = dataclasses.replace(known, channels={"image": 3})
    with pytest.raises(UserError, match="needs grey images"):
        AdaDiff.tiny().fitted(colour)
    with pytest.raises(UserError, match="neither grey nor complex"):
        recipe_of(size=()).fitted(colour)
