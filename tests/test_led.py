"""Networks that lead: how far they see, in which units they lead, and how much each moves by default."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from radiffuse.applications import fields
from radiffuse.applications.anomaly.counterfactual import ladder, walk
from radiffuse.applications.anomaly.diffusion_anomaly import DiffusionAnomaly
from radiffuse.applications.anomaly.led import Led
from radiffuse.applications.anomaly.swiss_army import GUIDANCE, SwissArmy, lesion_size
from radiffuse.applications.ranges import OutOfRange
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.guidance import Steered, log_class
from radiffuse.diffusion.network import Network, log_noise, unit_variance
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UserError
from radiffuse.nn import Classifier
from radiffuse.training.objective import Reader

LINEAR = Discrete.linear()
FILLED = {"channels": 1, "classes": 2, "mask_classes": 2, "values": True, "data_std": 0.5}


# ------------------------------------------------------------------------------ how far they see
def field_of(read, side, voxel=-1):
    """Side of what a voxel of `read` (x -> (1, C, *S)), the last, depends on in an image of `side` pixels.

    Norms are taken out: their statistics are of the whole image whatever the depth.
    """
    x = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(read(x)[..., voxel, voxel].sum(), x)
    seen = gradient[0, 0].abs().sum(0).nonzero()
    return int(seen.max() - seen.min()) + 1


def bare(network):
    """The network with random weights throughout and no norm."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda h: h
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network


def wide(kind, width, **changed):
    """A recipe of the paper's depth for images of 256 pixels, its readers narrow."""
    names = {field.name for field in dataclasses.fields(kind)}
    filled = {name: value for name, value in FILLED.items() if name in names}
    named = {"classifier_width": width} if kind is DiffusionAnomaly else {"head_width": width}
    return kind(**filled, size=(256, 256), **named, **changed)


@pytest.mark.parametrize("kind", [DiffusionAnomaly, SwissArmy])
def test_a_classifier_sees_the_whole_image(kind):
    """256 pixels through six levels, from the corner; the shallow one of before saw 34, from the middle."""
    recipe = wide(kind, 2)
    deep = bare(recipe.encoder(2, 2))
    assert field_of(lambda x: deep.features(x, torch.zeros(1)), 256) == 256
    shallow = bare(Classifier(2, 1, 2, 2))
    assert field_of(lambda x: shallow.features(x, torch.zeros(1)), 256, 32) == 34


@pytest.mark.parametrize("attention", [(3, 4, 5), ()])
def test_a_segmentation_sees_the_whole_image_even_without_attention(attention):
    network = bare(wide(SwissArmy, 2, reader_attention=attention)._segmenter())
    assert field_of(lambda x: network(x, torch.zeros(1)), 256) == 256


def test_the_readers_are_as_deep_as_the_papers():
    """Width 32, four blocks and a halving one a level, attention at 32, 16 and 8 of 256 pixels, and the middle."""
    for kind in (DiffusionAnomaly, SwissArmy):
        paper = kind()
        assert (paper.reader_multiples, paper.reader_blocks) == ((1, 1, 2, 2, 4, 4), 4)
        assert [256 // 2**level for level in paper.reader_attention] == [32, 16, 8]
    assert (DiffusionAnomaly().classifier_width, SwissArmy().head_width) == (32, 32)
    classifier = wide(DiffusionAnomaly, 2).encoder(2, 2)
    kinds = [type(block).__name__ for block in classifier.blocks]
    assert kinds.count("Residual") == 6 * 4 + 5 + 2
    assert kinds.count("Attention") == 3 * 4 + 1


def test_runs_of_before_keep_their_shallow_readers():
    recipe = SwissArmy.tiny()
    written = {
        name: value
        for name, value in fields.plain(recipe).items()
        if not name.startswith("reader_")
    }
    for default in (SwissArmy(), SwissArmy.small()):
        opened = fields.recorded(SwissArmy, {**written, "guidance": 10.0}, "config", default)
        shape = (opened.reader_multiples, opened.reader_blocks, opened.reader_attention)
        assert shape == ((1, 2, 4), 0, ()) and opened.factor == 10
    kept = fields.recorded(SwissArmy, {"reader_blocks": 2}, "config", SwissArmy())
    assert kept.reader_blocks == 2


# ------------------------------------------------------------------------------------------ units
class Mixture(Denoiser):
    """The exact denoiser of equally likely Gaussians about `means` (K, N), and what is read of them."""

    def __init__(self, means, deviation, prior=None):
        super().__init__()
        self.schedule, self.means, self.deviation = LINEAR, means.double(), deviation
        self.prior = torch.full((len(means),), 1 / len(means)) if prior is None else prior

    def posterior(self, x, t):
        """p(k given x_t) (B, K) for x (B, 1, N)."""
        alpha, sigma = (v.double() for v in LINEAR(t, x))
        far = x - alpha * self.means
        variance = alpha**2 * self.deviation**2 + sigma**2
        return torch.softmax(self.prior.log() - far.square().sum(2) / (2 * variance), 1)

    def forward(self, x, t):
        alpha, sigma = (v.double() for v in LINEAR(t, x))
        mean = (self.posterior(x, t) @ self.means)[:, None]
        gain = alpha * self.deviation**2 / (alpha**2 * self.deviation**2 + sigma**2)
        return mean + gain * (x - alpha * mean)

    def logits(self, x, t):
        p = self.posterior(x, t)
        return torch.stack([p[:, 0], 1 - p[:, 0]], 1).clamp_min(1e-30).log()


def led(mixture, x, times, factor):
    """x encoded along `times` and decoded to class 0."""
    latent = walk(mixture, x, times)
    healthy = log_class(mixture.logits, torch.zeros(len(x), dtype=torch.int64))
    return walk(Steered(mixture, healthy, factor), latent, times.flip(0))


def test_the_papers_factor_for_images_from_0_to_1_is_ours_at_the_times_of_the_same_noise():
    """A run on [0, 1] with s = 100 to L = 500, and ours on [-1, 1], agree to rounding."""
    means = torch.tensor([[0.2, 0.3, 0.4], [0.2, 0.8, 0.9]])
    draw = torch.Generator().manual_seed(0)
    x = means[1] + 0.1 * torch.randn(5, 1, 3, generator=draw, dtype=torch.float64)
    times = ladder(LINEAR, 0.5, 50)
    there = led(Mixture(means, 0.1), x, times, 100.0)
    same_noise = LINEAR.time(LINEAR.log_ratio(times) - math.log(2))
    alpha, sigma = LINEAR(times[0], x)
    paper, ours = DiffusionAnomaly(), Mixture(2 * means - 1, 0.2)

    def on_our_chain(x_t):
        return (2 * x_t - alpha) / (alpha**2 + 4 * sigma**2).sqrt()

    here = led(ours, on_our_chain(x), same_noise, paper.guidance)
    assert (there - x).abs().max() > 0.3, "the guide moves the image"
    assert torch.allclose(here, on_our_chain(there), atol=1e-9)
    # an image is put at the first time as it is, not times alpha
    image = led(ours, 2 * x - 1, same_noise, paper.guidance)
    assert torch.allclose(image, 2 * there - 1, atol=2e-3)
    assert float(same_noise[-1]) == pytest.approx(paper.depth, abs=1e-3)
    assert paper.steps == round(1000 * paper.depth), "every step of that part, as in the paper"
    naive = led(ours, 2 * x - 1, times, 400.0)
    assert not torch.allclose(naive, 2 * there - 1, atol=0.01), "nor 4 s at the same times"


def test_a_factor_means_the_same_however_the_networks_input_is_scaled():
    """A reader that is shown c_in x_t, and one that is shown x_t: one step, one shift."""
    mixture = Mixture(torch.tensor([[-0.5, 0.0, 0.1], [0.4, 0.7, 0.6]]), 0.2)
    scale, label = unit_variance(0.35), torch.tensor([0, 0, 0, 0])
    x, t = torch.rand(4, 1, 3, dtype=torch.float64), torch.tensor(0.3)

    class Unscaled(nn.Module):
        """The exact reader of x_t, which is shown c_in x_t."""

        def forward(self, seen, clock):
            return mixture.logits(seen / scale(*LINEAR(t, seen)), t)

    shown = Network(nn.Identity(), LINEAR, None, scale, log_noise)
    reader = Reader("classifier", Unscaled(), shown, None, None)
    plain, preconditioned = (
        Steered(mixture, log_class(read, label), 7.0)(x, t) for read in (mixture.logits, reader)
    )
    assert torch.allclose(plain, preconditioned, atol=1e-5)
    assert not torch.allclose(plain, mixture(x, t), atol=0.05)


# ----------------------------------------------------------------------------- a default per guide
SIDE, CONTRAST = 32, 0.8


def toy():
    """A signal with a lesion of 0 to 11 voxels, its exact denoiser, and three exact readers."""
    place = torch.arange(SIDE)
    lesions = torch.stack([(place - 16).abs() < r for r in range(7)]).double()
    prior = torch.tensor([0.5, *[0.5 / 6] * 6], dtype=torch.float64)
    exact = Mixture(-0.4 + CONTRAST * lesions, 0.15, prior)

    def size(x, t):
        return (exact.posterior(x, t) @ lesions.mean(1))[:, None]

    def voxels(x, t):
        p = (exact.posterior(x, t) @ lesions).clamp(1e-12, 1 - 1e-12)
        return torch.stack([1 - p, p], 1).log()

    readers = {"classifier": exact.logits, "regression": size, "segmentation": voxels}
    denoising = SimpleNamespace(network=exact)
    objective = SimpleNamespace(players={"network": exact}, denoising=denoising, readers=readers)
    radius = torch.tensor([2, 3, 4, 5, 6]).repeat(4)
    noise = torch.randn(20, SIDE, generator=torch.Generator().manual_seed(0)).double()
    image = (-0.4 + CONTRAST * lesions[radius] + 0.15 * noise)[:, None]
    return objective, image, lesions[radius][:, None] > 0


@pytest.mark.parametrize("depth", [0.25, 0.4])
def test_at_its_default_each_guide_takes_the_lesion_away_and_little_else(depth):
    objective, image, lesion = toy()
    moved = {}
    for guide in GUIDANCE:
        recipe = SwissArmy(**FILLED, size=(SIDE,), guide=guide, depth=depth, steps=25, healthy=0)
        made = recipe.counterpart(objective, {"image": image})
        back = dataclasses.replace(recipe, guidance=0.0).counterpart(objective, {"image": image})
        assert (back - image).abs().mean() < 0.05
        moved[guide] = float((back - made)[lesion].mean())
        assert (made - back)[~lesion].abs().mean() < 0.03
    assert all(0.9 * CONTRAST < each < 1.1 * CONTRAST for each in moved.values()), moved
    assert max(moved.values()) < 1.1 * min(moved.values())
    # one factor for all three did not: too much of one, too little of another
    one = SwissArmy(
        **FILLED, size=(SIDE,), guide="regression", guidance=10.0, depth=depth, steps=25
    )
    assert (back - one.counterpart(objective, {"image": image}))[lesion].mean() < 0.5 * CONTRAST


@pytest.mark.parametrize("healthy", [0, 1])
def test_diffusion_anomaly_leads_to_the_class_that_is_healthy_and_draws_nothing(healthy):
    """A lesion goes where class 0 is healthy and comes where class 1 is; the rest is given back."""
    objective, image, lesion = toy()
    if healthy:
        image = image - CONTRAST * lesion
    recipe = DiffusionAnomaly(
        channels=1, classes=2, size=(SIDE,), data_std=0.5, healthy=healthy,
        guidance=10.0, depth=0.4, steps=25,
    )  # fmt: skip
    made = recipe.counterpart(objective, {"image": image})
    blind = dataclasses.replace(recipe, guidance=0.0).counterpart(objective, {"image": image})
    assert (blind - image).abs().mean() < 0.05, "encoded, not noised: nothing is lost on the way"
    change = (made - blind)[lesion].mean()
    assert change < -0.9 * CONTRAST if healthy == 0 else change > 0.3 * CONTRAST
    assert torch.equal(made, recipe.counterpart(objective, {"image": image}))
    weaker = dataclasses.replace(recipe, guidance=0.1).counterpart(objective, {"image": image})
    assert (weaker - blind).abs().mean() < 0.9 * (made - blind).abs().mean()


@pytest.mark.parametrize("kind", [DiffusionAnomaly, SwissArmy])
def test_readers_learn_from_noisy_images_and_are_told_how_noisy(kind):
    names = {field.name for field in dataclasses.fields(kind)}
    filled = {name: value for name, value in FILLED.items() if name in names}
    recipe = dataclasses.replace(kind.tiny(), **filled, size=(16, 16))
    objective = recipe.objective()
    image = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "mask": (image > 0.9).long()}
    t = torch.tensor([0.1, 0.3, 0.6, 0.9])
    scale, clock = unit_variance(0.5), log_noise(t, *LINEAR(t, t))
    alpha, sigma = LINEAR(t, image)
    for name, reader in objective.readers.items():
        heard = []
        reader.times = lambda count: t
        objective.players[name].register_forward_hook(
            lambda module, given, out, heard=heard: heard.append(given)
        )
        list(reader.losses(batch))
        ((seen, told),) = heard
        noise = (seen / scale(alpha, sigma) - alpha * image) / sigma
        assert torch.allclose(told, clock.float(), atol=1e-5)
        assert torch.allclose(noise.flatten(1).std(1), torch.ones(4), atol=0.15), name


def test_the_regression_learns_the_size_of_the_lesion(monkeypatch):
    recipe = dataclasses.replace(SwissArmy.tiny(), **FILLED, size=(16, 16))
    objective = recipe.objective()
    mask = torch.zeros(2, 1, 16, 16, dtype=torch.int64)
    mask[0, :, :4, :4] = 1
    batch = {"image": torch.zeros(2, 1, 16, 16), "mask": mask}
    reader = objective.readers["regression"]
    monkeypatch.setattr(
        type(reader), "__call__", lambda self, x_t, t: torch.tensor([[0.25], [0.5]])
    )
    ((_, loss),) = reader.losses(batch)
    assert float(loss) == pytest.approx(0.5 * 0.5**2), (
        "0.25 is right, a side of 4 in 16; 0.5 is not 0"
    )


def test_the_segmentation_learns_the_mask(monkeypatch):
    """No loss for the mask itself, at most about 1 for not knowing, more for the opposite."""
    recipe = dataclasses.replace(SwissArmy.tiny(), **FILLED, size=(16, 16))
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.int64)
    mask[..., :4, :4] = 1
    objective = recipe.objective()
    reader, said = objective.readers["segmentation"], []
    monkeypatch.setattr(type(reader), "__call__", lambda self, x_t, t: said[-1])
    losses = []
    for certain in (9.0, 0.0, -9.0):
        said.append(certain * torch.cat([1 - 2 * mask, 2 * mask - 1], 1).float())
        ((_, loss),) = reader.losses({"image": torch.zeros(1, 1, 16, 16), "mask": mask})
        losses.append(float(loss))
    assert losses[0] < 1e-4 and losses[1] == pytest.approx(1) and losses[2] > 10


def test_a_factor_that_is_given_serves_any_guide():
    for guide, factor in GUIDANCE.items():
        assert (
            SwissArmy(guide=guide).factor
            == factor
            == SwissArmy.small().__class__(guide=guide).factor
        )
        assert SwissArmy(guide=guide, guidance=7.0).factor == 7
        assert SwissArmy(guide=guide, guidance=0.0).factor == 0
    with pytest.raises(OutOfRange, match="guidance must be -1 or at least 0"):
        SwissArmy(guidance=-0.5)


# --------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize("kind", [DiffusionAnomaly, SwissArmy])
def test_images_too_small_for_the_readers_are_refused(kind):
    cases = open_cases(
        "brains:count=8,size=16,lesions=0.5,label=lesion", mapping={"image": "t2", "mask": "lesion"}
    )
    recipe = dataclasses.replace(kind.tiny(), reader_multiples=(1, 2, 2, 2, 2))
    with pytest.raises(UserError, match="16 x 16 vanish in the 5 levels"):
        recipe.fitted(cases.facts())
    assert isinstance(kind.tiny().fitted(cases.facts()), Led)


def test_a_level_that_attends_must_be_there():
    with pytest.raises(OutOfRange, match="--reader-attention 6: the levels of --reader-multiples"):
        DiffusionAnomaly(reader_attention=(6,))


def test_numbers_that_some_cases_lack_are_the_size_of_the_lesion_or_not_learned():
    facts = open_cases("brains:count=12,size=32,lesions=0.5,label=lesion").facts()
    gappy = dataclasses.replace(
        facts, keys=("image", "label", "value"), mask_classes={}, scalars={}
    )
    assert not SwissArmy.tiny().fitted(gappy).values
    told = dataclasses.replace(gappy, scalars={"value": (0.0, 1.0)})
    assert SwissArmy.tiny().fitted(told).values and SwissArmy.tiny().fitted(told).numbers
    masked = SwissArmy.tiny().fitted(dataclasses.replace(gappy, mask_classes={"mask": 2}))
    assert masked.values and not masked.numbers, "one unit for all cases"
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.int64)
    mask[:, :, :4, :4] = 1
    value = torch.tensor([30.0, math.nan])
    assert lesion_size({"mask": mask, "value": value}, False).tolist() == pytest.approx([0.5, 0.5])
    assert lesion_size({"value": value[:1]}).tolist() == [30.0]
