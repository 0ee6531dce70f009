"""Feature networks trained elsewhere: the same features as where they come from, and no wrong file."""

import math

import pytest
import safetensors.torch
import torch

from radiffuse.errors import UserError
from radiffuse.metrics.inception import InceptionV3
from radiffuse.metrics.pretrained import load_pretrained
from radiffuse.metrics.resnet import ResNet50

INCEPTION = ((0, 320), (320, 1088), (1088, 1856), (1856, 2048))
"""Features of the four branches of the last block."""
QUARTERS = tuple((first, first + 512) for first in range(0, 2048, 512))

# kind, classes, slices of the features and their means: pytorch-fid 0.3.0 and torchvision 0.29.1 with
# the weights of `invented` on `picture`
ELSEWHERE = (
    ("inception", 1008, INCEPTION, (0.407185, 0.043499, 0.050870, 0.428084)),
    ("inception", 1000, INCEPTION, (0.390395, 0.043669, 0.050823, 0.328686)),
    ("resnet", 1000, QUARTERS, (2.107756, 2.108147, 2.122279, 2.109061)),
)


def shapes(kind):
    with torch.device("meta"):
        network = {"inception": InceptionV3, "resnet": ResNet50}[kind]()
    return {k: v.shape for k, v in network.state_dict().items() if "tracked" not in k}


def invented(kind, classes=1000):
    """Weights from a sine, of a size that keeps the signal's: the same on every machine."""
    made = {"fc.weight": torch.zeros(classes, 2048)}
    for number, (name, shape) in enumerate(sorted(shapes(kind).items())):
        wave = (
            (torch.arange(math.prod(shape), dtype=torch.float64) * 1.7 + number)
            .sin()
            .reshape(shape)
        )
        if len(shape) > 1:
            wave = wave * (4 / math.prod(shape[1:])) ** 0.5
        else:
            wave = 1 + 0.5 * wave if name.endswith(("weight", "running_var")) else 0.1 * wave
        made[name] = wave.float()
    return made


def picture():
    row, column = torch.arange(40.0)[:, None], torch.arange(48.0)[None]
    wave = (row * 0.37).sin() * (column * 0.21).cos() * 0.6 + (row * column * 0.011).sin() * 0.4
    return wave[None, None]


@pytest.mark.parametrize(("kind", "classes", "slices", "means"), ELSEWHERE)
def test_features_are_those_of_the_network_where_the_weights_come_from(
    kind, classes, slices, means, tmp_path
):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(invented(kind, classes), path)
    features = load_pretrained(path)(picture())[0]
    got = [float(features[first:last].mean()) for first, last in slices]
    assert got == pytest.approx(means, abs=5e-6)
    assert features.shape == (2048,)


@pytest.mark.parametrize(("kind", "count"), [("resnet", 23_508_032), ("inception", 21_785_568)])
def test_they_have_the_published_number_of_weights(kind, count):
    """25,557,032 of the ResNet-50 and 23,834,568 of the Inception-v3, less the classifier's."""
    trained = (v for k, v in shapes(kind).items() if "running" not in k)
    assert sum(math.prod(shape) for shape in trained) == count


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (
            "resnet",
            "layer3.5.conv2.weight",
            r"not a ResNet-50 .*layer3\.5\.conv2\.weight does not fit",
        ),
        ("inception", "Mixed_6b.branch_pool.bn.bias", "not an Inception-v3 .*branch_pool"),
        ("inception", "fc.weight", "without fc.weight"),
    ],
)
def test_what_is_missing_is_named(kind, name, said, tmp_path):
    weights = invented(kind)
    weights.pop(name)
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(weights, path)
    with pytest.raises(UserError, match=said):
        load_pretrained(path)


def test_no_pickle_and_no_other_file_is_read(tmp_path):
    with pytest.raises(UserError, match="no pickle"):
        load_pretrained(tmp_path / "net.pt")
    with pytest.raises(UserError, match="no such file"):
        load_pretrained(tmp_path / "net.safetensors")
    (tmp_path / "net.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_pretrained(tmp_path / "net.safetensors")
