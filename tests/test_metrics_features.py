"""The feature network: deterministic, named by its weights, sensitive to realism and anatomy."""

import math

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from radiffuse.errors import UserError
from radiffuse.metrics import corruptions
from radiffuse.metrics.distribution import fid
from radiffuse.metrics.features import FeatureNetwork, extract, trained_features, weights_hash
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


def test_each_fault_of_an_image_moves_it_away_and_the_more_the_worse(network):
    real = extract(network, blobs(600, seed=1))
    images = blobs(600, seed=2)
    generator = torch.Generator().manual_seed(0)

    def away(spoilt):
        return fid(real, extract(network, spoilt))

    def noisy(std):
        return away(images + std * torch.randn(images.shape, generator=generator))

    same = away(images)
    halves = torch.cat([images[..., :8], images.roll(1, dims=0)[..., 8:]], dim=-1)
    assert same < 1
    assert 2 * same < noisy(0.2) < noisy(0.4)
    assert away(corruptions.blur(images, generator)) > 5 * same
    assert away(halves) > 5 * same
    assert away(images[:20].repeat(30, 1, 1, 1)) > 5 * same  # little variety


@pytest.mark.parametrize("shape", [(1, 40), (3, 16, 24), (1, 9, 8, 12)])
def test_any_number_of_axes_and_channels(shape):
    images = torch.rand(12, *shape) * 2 - 1
    labels = torch.arange(12) % 3
    network = trained_features(images, labels, fingerprint="n", steps=2)
    assert extract(network, images).shape == (12, 64)
    assert network.shown.out_features == 3


def test_one_class_alone_teaches_nothing_and_is_left_out():
    network = trained_features(blobs(8), torch.ones(8).long(), fingerprint="n", steps=1)
    assert network.shown.out_features == 1
    with pytest.raises(UserError, match="8 training images, there are 7"):
        trained_features(blobs(7), fingerprint="n")


def test_blur_of_a_wave_is_its_transfer_function(monkeypatch):
    monkeypatch.setattr(corruptions, "_per_case", lambda x, *_: torch.tensor(1.5))
    place = torch.arange(32) / 32
    wave = torch.cos(2 * math.pi * 3 * place)[None, None].expand(1, 1, 32)
    factor = math.exp(-2 * (math.pi * 1.5 * 3 / 32) ** 2)
    blurred = corruptions.blur(wave, torch.Generator())
    assert torch.allclose(blurred, factor * wave, atol=1e-5)


def test_spoiling_says_what_it_did_and_leaves_the_rest_intact():
    images = blobs(50)
    spoilt, kinds = corruptions.spoil(images, torch.Generator().manual_seed(0))
    assert torch.bincount(kinds).tolist() == [10] * 5
    assert torch.equal(spoilt[kinds == 0], images[kinds == 0])
    changed = (spoilt - images).flatten(1).abs().amax(dim=1) > 1e-3
    assert changed[kinds != 0].all()


def test_network_with_axes_of_different_length_keeps_every_map():
    assert FeatureNetwork(1, (33, 16)).eval()(torch.zeros(2, 1, 33, 16)).shape == (2, 64)
