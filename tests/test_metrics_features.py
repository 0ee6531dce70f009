"""The feature network: deterministic, named by its weights, sensitive to realism and anatomy."""

import math

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from scipy import ndimage

from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.generation import evaluate as generation
from radiffuse.applications.generation.baselines import fit_gaussian
from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.noise import Seeded
from radiffuse.errors import UserError
from radiffuse.metrics import corruptions
from radiffuse.metrics.distribution import fid, kid, neighbourhood_hits
from radiffuse.metrics.features import (
    DIMENSION,
    SHOWN,
    FeatureNetwork,
    extract,
    trained_features,
    weights_hash,
)
from radiffuse.metrics.joined import MEMBERS, JoinedFeatures, joined_features
from radiffuse.training import tensorfile


def blobs(n, seed=0, size=16):
    """Smooth bright discs of random place and size on black: an anatomy of one organ."""
    generator = torch.Generator().manual_seed(seed)
    centre = 0.3 + 0.4 * torch.rand(n, 2, 1, 1, generator=generator)
    radius = 0.12 + 0.1 * torch.rand(n, 1, 1, generator=generator)
    line = torch.arange(size) / size
    distance = ((line[:, None] - centre[:, 0]) ** 2 + (line[None] - centre[:, 1]) ** 2).sqrt()
    return (2 * torch.sigmoid((radius - distance) * 40) - 1)[:, None]


@pytest.fixture(scope="module")
def network():
    return trained_features(blobs(300), fingerprint="blobs", steps=150)


def test_training_is_deterministic_and_the_seed_changes_the_name(tmp_path):
    images = blobs(20)
    first = trained_features(images, fingerprint="a", steps=3)
    torch.rand(7)  # whatever else draws random numbers
    again = trained_features(images, fingerprint="a", steps=3)
    other = trained_features(images, fingerprint="a", steps=3, seed=1)
    assert weights_hash(first) == weights_hash(again) != weights_hash(other)
    assert len(weights_hash(first)) == 12


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    trained_features(blobs(20), fingerprint="a", steps=1)
    assert torch.equal(torch.rand(4), expected)


def test_features_are_kept_in_the_cache_and_read_from_it(tmp_path):
    images, calls = blobs(20), []
    first = trained_features(images, fingerprint="abc", cache=tmp_path, steps=2)
    path = tmp_path / "features-abc-0.safetensors"
    assert path.is_file()
    again = trained_features(
        images, fingerprint="abc", cache=tmp_path, steps=2, progress=lambda *at: calls.append(at)
    )
    assert weights_hash(first) == weights_hash(again) and not calls
    longer = trained_features(
        images, fingerprint="abc", cache=tmp_path, steps=3, progress=lambda *at: calls.append(at)
    )
    assert calls and weights_hash(longer) != weights_hash(first)  # made another way: made again
    path.write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"features-abc-0.*delete it"):
        trained_features(images, fingerprint="abc", cache=tmp_path, steps=2)


def test_a_full_disk_is_one_line_and_leaves_no_half_written_features(tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensorfile, "save_file", full)
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(UserError, match=r"features-abc-0\.safetensors: the disk is full"):
        trained_features(torch.rand(8, 1, 8, 8), fingerprint="abc", cache=tmp_path, steps=2)
    assert not list(tmp_path.iterdir())


def test_features_of_training_images_have_mean_zero_and_deviation_one(network):
    features = extract(network, blobs(300))
    assert features.mean(dim=0).abs().max() < 1e-4
    assert (features.std(dim=0) - 1).abs().max() < 1e-3


# ------------------------------------------------------------------------------- faults by degrees
def blurred(images, sigma):
    return torch.from_numpy(ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma)))


def noisy(images, std):
    return images + std * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def shuffled(images, share):
    """Quarters of a side are blocks; a share of the sixteen lies in a random order."""
    draw, made = np.random.default_rng(0), images.clone()
    for to, source in zip(made, images, strict=True):
        chosen = draw.permutation(16)[: round(16 * share)]
        for new, old in zip(chosen, np.roll(chosen, 1), strict=True):
            (r, c), (y, x) = divmod(int(new), 4), divmod(int(old), 4)
            block = source[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            to[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] = block
    return made


def without(images, radius):
    """A round piece of the disc is gone."""
    made, axis = images.clone(), torch.arange(16)
    for image in made:
        bright = (image[0] > 0).nonzero().float()
        row, column = bright[len(bright) // 3]
        image[0, torch.hypot(axis[:, None] - row, axis[None] - column) <= radius] = -1
    return made


@pytest.fixture(scope="module")
def real(network):
    return extract(network, blobs(500, seed=1))


@pytest.mark.parametrize(
    ("fault", "degrees"),
    [
        (blurred, (1.0, 1.6, 2.5)),
        (noisy, (0.15, 0.3, 0.6)),
        (shuffled, (0.25, 0.5, 1.0)),
        (without, (1.0, 2.0, 3.0)),
    ],
)
def test_distances_rise_and_precision_falls_with_the_degree_of_a_fault(
    fault, degrees, network, real
):
    images = blobs(500, seed=2)
    found = [extract(network, images)]
    found += [extract(network, fault(images, degree)) for degree in degrees]
    fids, kids = ([metric(real, each) for each in found] for metric in (fid, kid))
    precisions = [
        float(neighbourhood_hits(real, each)["precision"].float().mean()) for each in found
    ]
    assert fids == sorted(fids) and kids == sorted(kids)
    assert precisions == sorted(precisions, reverse=True)
    assert fids[-1] > 10 * fids[0] and precisions[-1] < 0.5 * precisions[0]


def pixels(images):
    """24 principal components of the pixels, standardised."""
    fitted = fit_gaussian(blobs(300), 24)
    return ((images.flatten(1) - fitted.mean) @ fitted.axes) / fitted.variances.sqrt().float()


def test_a_gaussian_of_the_same_mean_and_covariance_is_far_from_the_floor_and_in_pixels_is_not(
    network, real
):
    law = fit_gaussian(blobs(2000, seed=3), 255)
    drawn = law.sample(Seeded(range(500)), 500).view(-1, 1, 16, 16).clamp(-1, 1)
    images = blobs(500, seed=2)
    assert fid(real, extract(network, drawn)) > 100 * fid(real, extract(network, images))
    plain = pixels(blobs(500, seed=1))
    assert fid(plain, pixels(drawn)) < 3 * fid(plain, pixels(images))


@pytest.mark.parametrize(
    ("fault", "degree", "floors"), [(noisy, 0.15, 7), (shuffled, 0.125, 10), (without, 1.0, 20)]
)
def test_a_slight_fault_lies_many_floors_away(fault, degree, floors, network, real):
    images = blobs(500, seed=2)
    spoilt = extract(network, fault(images, degree))
    assert fid(real, spoilt) > floors * fid(real, extract(network, images))
    hits = neighbourhood_hits(real, spoilt)["precision"]
    assert float(hits.float().mean()) < 0.75


def test_structures_in_the_wrong_place_are_seen_where_grey_values_are_the_same(network, real):
    images = blobs(500, seed=2)
    broken = shuffled(images, 0.125)
    assert torch.equal(broken.flatten(1).sort().values, images.flatten(1).sort().values)
    assert fid(real, extract(network, broken)) > 10 * fid(real, extract(network, images))


def test_little_variety_is_seen(network, real):
    images = blobs(500, seed=2)
    few = images[:20].repeat(25, 1, 1, 1)
    assert fid(real, extract(network, few)) > 5 * fid(real, extract(network, images))


@pytest.mark.parametrize("shape", [(1, 40), (3, 16, 24), (1, 9, 8, 12)])
def test_any_number_of_axes_and_channels(shape):
    images = torch.rand(12, *shape) * 2 - 1
    labels = torch.arange(12) % 3
    network = trained_features(images, labels, fingerprint="n", steps=2)
    assert extract(network, images).shape == (12, 24)
    assert network.shown.out_features == 3


def test_one_class_alone_teaches_nothing_and_is_left_out():
    network = trained_features(blobs(8), torch.ones(8).long(), fingerprint="n", steps=1)
    assert network.shown.out_features == 1
    with pytest.raises(UserError, match="8 training images, there are 7"):
        trained_features(blobs(7), fingerprint="n")


# ------------------------------------------------------------------------------------ corruptions
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_blur_of_a_wave_is_its_transfer_function(strength):
    sigma = 0.4 * 10**strength
    place = torch.arange(32) / 32
    wave = torch.cos(2 * math.pi * 3 * place)[None, None].expand(1, 1, 32)
    factor = math.exp(-2 * (math.pi * sigma * 3 / 32) ** 2)
    blur = corruptions.blur(wave, torch.full((1, 1, 1), strength), torch.Generator())
    assert torch.allclose(blur, factor * wave, atol=1e-5)


@pytest.mark.parametrize("fault", corruptions.FAULTS)
def test_a_stronger_fault_changes_an_image_more(fault):
    images = blobs(40)
    changes = []
    for strength in (0.0, 0.5, 1.0):
        much = torch.full((40, 1, 1, 1), strength)
        made = fault(images, much, torch.Generator().manual_seed(0))
        changes.append(float((made - images).square().mean()))
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("size", [(16, 16), (20, 13), (24,), (8, 9, 10)])
def test_shuffled_images_hold_the_same_values_elsewhere(size):
    images = torch.rand(6, 2, *size, generator=torch.Generator().manual_seed(0))
    much = torch.full((6, *(1,) * (1 + len(size))), 1.0)
    made = corruptions.shuffled(images, much, torch.Generator().manual_seed(0))
    assert not torch.equal(made, images)
    assert torch.equal(made.flatten(2).sort().values, images.flatten(2).sort().values)


def test_turned_phases_keep_the_power_spectrum_and_end_as_a_gaussian_field():
    images = blobs(200)
    much = torch.ones(200, 1, 1, 1)
    made = corruptions.phases(images, much, torch.Generator().manual_seed(0))
    power = [torch.fft.fft2(each).abs()[:, :, :8, :8] for each in (images, made)]
    assert torch.allclose(*power, atol=1e-3)
    rest = made - made.mean(dim=(2, 3), keepdim=True)
    standard = rest / rest.std(dim=(2, 3), keepdim=True)
    assert float(standard.pow(4).mean()) == pytest.approx(3, abs=0.3)


def test_spoiling_says_what_it_did_how_much_and_leaves_the_rest_intact():
    images = blobs(50)
    spoilt, kinds, strength = corruptions.spoil(images, torch.Generator().manual_seed(0))
    assert torch.bincount(kinds).tolist() == [5] * 10
    assert torch.equal(spoilt[kinds == 0], images[kinds == 0])
    assert (strength[kinds == 0] == 0).all() and (strength[kinds > 0] > 0).all()
    changed = (spoilt - images).flatten(1).abs().amax(dim=1) > 1e-3
    assert changed[kinds != 0].all() and spoilt.abs().max() <= 1


def test_a_lone_image_of_its_kind_is_mixed_with_another_of_the_batch():
    for seed in range(20):
        images = blobs(8, seed=seed)
        spoilt, kinds, _ = corruptions.spoil(images, torch.Generator().manual_seed(seed))
        mixed = kinds == 1 + corruptions.KINDS.index("ghost")
        assert (spoilt - images)[mixed].flatten(1).any(dim=1).all()


def test_network_with_axes_of_different_length_keeps_every_map():
    assert FeatureNetwork(1, (33, 16)).eval()(torch.zeros(2, 1, 33, 16)).shape == (2, 24)


# --------------------------------------------------------------------------------- several as one
def test_several_networks_are_joined_to_as_many_features_as_one_has(tmp_path):
    """Standardised, named by all weights, with grades that are the mean of the members'."""
    images, calls = blobs(60), []
    joined = joined_features(
        images,
        fingerprint="abc",
        cache=tmp_path,
        members=2,
        steps=3,
        progress=lambda *at: calls.append(at),
    )
    assert calls[0] == (1, 6) and calls[-1] == (6, 6)
    found = extract(joined, images)
    assert found.shape == (60, DIMENSION)
    assert float(found.mean(dim=0).abs().max()) < 1e-4
    assert float((found.std(dim=0) - 1).abs().max()) < 1e-3
    members = [trained_features(images, fingerprint="abc", steps=3, seed=seed) for seed in (0, 1)]
    with torch.no_grad():
        grades = sum(member.grades(member.hidden(images)) for member in members) / 2
    own = (grades - grades.mean(0)) / grades.std(0)
    assert torch.allclose(found[:, SHOWN:], own, atol=1e-3)
    again = joined_features(images, fingerprint="abc", cache=tmp_path, members=2, steps=3)
    assert weights_hash(again) == weights_hash(joined) != weights_hash(members[0])


def test_what_tells_images_apart_counts_alike_from_every_network():
    """A network whose numbers are a thousand times another's does not drown it."""
    images = blobs(60)
    members = [trained_features(images, fingerprint="abc", steps=3, seed=seed) for seed in (0, 1)]
    before = extract(JoinedFeatures(members, images), images)
    with torch.no_grad():
        members[0].identity.weight *= 1000
        members[0].identity.bias *= 1000
    after = extract(JoinedFeatures(members, images), images)
    assert torch.allclose(before.abs(), after.abs(), atol=1e-2)


def test_an_evaluation_of_generated_pictures_joins_three(monkeypatch):
    """What `evaluate` of a generation is measured by."""
    seen = {}

    class Enough(Exception):
        pass

    def judged(*_, **more):
        seen.update(more)
        raise Enough

    monkeypatch.setattr(generation, "judge", judged)
    cases = open_cases("brains:count=16,size=16")
    recipe = DDPM.tiny()
    with pytest.raises(Enough):
        generation.evaluate_generation(
            recipe,
            None,
            cases.split("train"),
            cases.held_out(),
            Asked(),
            samples=torch.zeros(4, 1, 16, 16),
        )
    assert seen["members"] == MEMBERS == 3
