"""Networks: any number of axes, exact folding, conditions that matter, clear refusals."""

import math

import pytest
import torch

from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.nn import Classifier, DiT, UNet
from radiffuse.nn.blocks import Attention, Residual, conv, depth_to_space, space_to_depth
from radiffuse.nn.classifier import AttentionPool
from radiffuse.nn.convolution import Conv3d
from radiffuse.nn.critic import Remembering
from radiffuse.training.footprint import measured
from radiffuse.training.memory import check_memory
from radiffuse.training.options import TrainOptions

SIZES = {1: (16,), 2: (16, 8), 3: (8, 8, 16)}


def small(kind, axes, **more):
    torch.manual_seed(0)
    if kind is UNet:
        more = {"width": 16, "multiples": (1, 2), "blocks": 1, "attention": (1,), **more}
    else:
        more = {"width": 48, "depth": 2, "heads": 3, "patch": 4, **more}
    return kind(axes, 2, **more)


def awake(network):
    """Zero-initialised outputs hide what a network sees: give every parameter a value."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("block", [1, 2, 4])
def test_space_to_depth_is_a_lossless_fold(axes, block):
    x = torch.randn(2, 3, *SIZES[axes])
    folded = space_to_depth(x, block)
    assert folded.shape == (2, 3 * block**axes, *(n // block for n in SIZES[axes]))
    assert torch.equal(depth_to_space(folded, block), x)
    if axes == 2:
        assert torch.equal(folded, torch.nn.functional.pixel_unshuffle(x, block))


@pytest.mark.parametrize("kind", [UNet, DiT])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_shapes_and_zero_output_at_the_start(kind, axes):
    x = torch.randn(2, 2, *SIZES[axes])
    out = small(kind, axes)(x, torch.zeros(2))
    assert out.shape == x.shape
    assert not out.any(), "a new network predicts zero"
    assert small(kind, axes, twice=True)(x, torch.zeros(2)).shape[1] == 4


@pytest.mark.parametrize("kind", [UNet, DiT])
def test_every_condition_changes_the_output(kind):
    network = awake(small(kind, 2, classes=3, vector=5, condition=1))
    x, clock = torch.randn(2, 2, 16, 8), torch.zeros(2)
    given = {
        "label": torch.tensor([0, 1]),
        "vector": torch.zeros(2, 5),
        "image": torch.zeros(2, 1, 16, 8),
    }
    base = network(x, clock, **given)
    changed = {
        "label": torch.tensor([2, 1]),
        "vector": torch.tensor([[1.0] * 5, [0.0] * 5]),
        "image": torch.stack([torch.ones(1, 16, 8), torch.zeros(1, 16, 8)]),
    }
    for key, value in changed.items():
        out = network(x, clock, **{**given, key: value})
        assert not torch.allclose(out[0], base[0], atol=1e-4), key
        assert torch.allclose(out[1], base[1], atol=1e-5), f"{key} leaks to another case"
    assert not torch.allclose(network(x, clock + 0.3, **given), base, atol=1e-4)


def test_no_label_is_the_last_class():
    network = awake(small(UNet, 2, classes=3))
    x = torch.randn(2, 2, 16, 8)
    none = network(x, torch.zeros(2), label=torch.full((2,), 3))
    assert torch.equal(network(x, torch.zeros(2)), none)


def test_a_size_that_patches_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="18 x 8 do not divide by the network's stride"):
        small(DiT, 2, patch=4)(torch.randn(1, 2, 18, 8), torch.zeros(1))


def test_checkpointing_changes_memory_not_results():
    x, clock = torch.randn(2, 2, 16, 8), torch.zeros(2)
    gradients = []
    for recompute in (False, True):
        network = awake(small(UNet, 2, recompute=recompute)).train()
        network(x, clock).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, saved in zip(*gradients, strict=True):
        assert torch.allclose(plain, saved, atol=1e-6)


@pytest.mark.parametrize("resample", [-1, 0, 1])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_new_residual_block_is_its_skip(axes, resample):
    block = Residual(axes, 8, 8, 4, resample)
    x = torch.randn(1, 8, *SIZES[axes])
    out = block(x, torch.zeros(1, 4))
    assert out.shape[2:] == tuple(int(n * 2.0**resample) for n in SIZES[axes])
    if resample == 0:
        assert torch.equal(out, x)


def test_attention_is_softmax_attention():
    torch.manual_seed(0)
    layer = awake(Attention(1, 8, head=4))
    x = torch.randn(2, 8, 5)
    qkv = layer.qkv(layer.norm(x)).reshape(2, 3, 2, 4, 5)
    q, k, v = qkv.unbind(1)
    weights = torch.softmax(torch.einsum("bhci,bhcj->bhij", q, k) / 2, dim=-1)
    mixed = torch.einsum("bhij,bhcj->bhci", weights, v).reshape(2, 8, 5)
    assert torch.allclose(layer(x), x + layer.out(mixed), atol=1e-5)


def test_dit_takes_another_size_than_it_was_made_for():
    network = awake(small(DiT, 2))
    assert network(torch.randn(1, 2, 24, 32), torch.zeros(1)).shape == (1, 2, 24, 32)


@pytest.mark.parametrize("width", [1, 25, 57, 100, 250])
def test_any_width_will_do(width):
    """Groups of a norm and heads of an attention divide the channels, however odd their number."""
    x, clock = torch.randn(1, 1, 8, 8), torch.zeros(1)
    unet = UNet(2, 1, width, (1, 2), blocks=1, attention=(1,))
    assert unet(x, clock).shape == x.shape
    assert Classifier(2, 1, 3, width, patch=1)(x, clock).shape == (1, 3)
    dit = DDPM(channels=1, size=(8, 8), backbone="dit", width=width, blocks=1, patch=2).body()
    assert dit(x, clock).shape == x.shape


@pytest.mark.parametrize("kind", [UNet, DiT])
def test_a_compiled_network_is_the_network(kind):
    """In one graph, values and gradients (aot_eager: all that torch.compile does but the kernels)."""
    network, x, clock = (
        awake(small(kind, 2)),
        torch.randn(2, 2, *SIZES[2]),
        torch.tensor([0.1, 0.7]),
    )

    def asked(called):
        network.zero_grad()
        out = called(x, clock)
        out.square().mean().backward()
        return [out.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]

    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    for plain, same in zip(asked(network), asked(compiled), strict=True):
        assert torch.allclose(plain, same, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_classifier_reads_the_image_and_the_clock(axes):
    network = awake(Classifier(axes, 1, classes=4, width=16))
    x = torch.randn(3, 1, *[16] * axes)
    logits = network(x, torch.zeros(3))
    assert logits.shape == (3, 4)
    assert not torch.allclose(logits, network(x, torch.ones(3)))


def test_attention_pool_is_a_mean_weighted_by_each_head():
    torch.manual_seed(0)
    pool = AttentionPool(2, 8, head=4)
    h = torch.randn(3, 8, 5, 6)
    weights = pool.weigh(h).flatten(2).softmax(2)
    expected = torch.cat(
        [
            torch.einsum("bcn,bn->bc", h.flatten(2)[:, 4 * k : 4 * k + 4], weights[:, k])
            for k in (0, 1)
        ],
        1,
    )
    assert torch.allclose(pool(h), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 4, 4), (4, 2, 4)])
def test_thin_volumes_have_the_right_gradient_in_bf16(size):
    """With torch's own convolution about half of these gradients are NaN (torch 2.13, CPU)."""
    torch.manual_seed(0)
    layer = conv(3, 48, 48)
    for _ in range(8):
        x = torch.randn(4, 48, *size)
        gradients = []
        for fast in (True, False):
            spoilt = [torch.full((200_000,), math.nan, dtype=torch.bfloat16) for _ in range(20)]
            del spoilt
            layer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                layer(x).float().square().sum().backward()
            gradients.append(layer.weight.grad.clone())
        assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[1].norm()


def test_bf16_autocast_stays_close():
    network = awake(small(UNet, 2))
    x = torch.randn(2, 2, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        fast = network(x, torch.zeros(2)).float()
    exact = network(x, torch.zeros(2))
    assert (fast - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 6, 5), (7, 4, 9), (3, 3, 3), (5, 8, 3)])
def test_one_volume_is_convolved_as_a_batch_is(size, stride):
    """In halves, with torch's other kernel; gradients and their gradients too."""
    layer = conv(3, 4, 6, stride=stride).double()
    plain = torch.nn.functional.conv3d
    layer._is_slow = lambda x: True
    x = torch.randn(1, 4, *size, dtype=torch.float64, requires_grad=True)
    expected = plain(x, layer.weight, layer.bias, stride, 1)
    made = layer(x)
    assert torch.allclose(made, expected, atol=1e-12)
    given = [x, layer.weight, layer.bias]
    for one, other in zip(
        torch.autograd.grad(made.square().sum(), given, create_graph=True),
        torch.autograd.grad(expected.square().sum(), given, create_graph=True),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-11)
    assert torch.autograd.gradcheck(layer, x)


def test_a_small_volume_alone_takes_the_fast_kernel():
    from torch.profiler import profile

    layer, x = conv(3, 8, 8), torch.randn(1, 8, 12, 12, 12)
    with profile() as seen:
        layer(x)
    names = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in names and "aten::slow_conv3d_forward" not in names
    with profile() as seen:
        torch.nn.functional.conv3d(x, layer.weight, padding=1)
    assert "aten::slow_conv3d_forward" in {event.key for event in seen.key_averages()}


def test_memory_of_attention_grows_with_the_voxels_and_not_with_their_square():
    """And where the gradient is to have a gradient, it has one."""
    plain, twice = (Attention(2, 64, hessian=hessian) for hessian in (False, True))
    twice.load_state_dict(plain.state_dict())
    torch.nn.init.normal_(plain.out.weight), torch.nn.init.normal_(twice.out.weight)
    twice.load_state_dict(plain.state_dict())

    def peak(layer, side):
        with torch.no_grad():
            return measured(lambda: layer(torch.zeros(1, 64, side, side)), 1e12)

    assert peak(plain, 64) < 5 * peak(plain, 32) and peak(twice, 64) > 10 * peak(twice, 32)
    x = torch.randn(1, 64, 4, 4, requires_grad=True)
    assert torch.allclose(plain(x), twice(x), atol=1e-5)
    (slope,) = torch.autograd.grad(twice(x).square().sum(), x, create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), x)[0].abs().sum() > 0


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_one_volume_alone_is_convolved_as_several_are(groups):
    torch.manual_seed(0)
    layer = Conv3d(4, 4, 3, padding=1, groups=groups)
    x = torch.randn(1, 4, 8, 8, 8)
    torch.testing.assert_close(layer(x), torch.nn.Conv3d.forward(layer, x))


def test_looking_at_memory_leaves_what_a_critic_remembers():
    class Shown:
        def __init__(self):
            self.critic = Remembering(2, 1, 8, 2, (16, 16))
            self.players = {"critic": self.critic}

        def losses(self, batch):
            yield (
                "critic",
                self.critic(self.critic.remembered(torch.ones_like(batch["image"]))).mean(),
            )

    class Ones:
        def __len__(self):
            return 8

        def batch(self, rows):
            return {"image": torch.ones(len(rows), 1, 16, 16)}

    objective = Shown()
    assert "takes about" in check_memory(objective, Ones(), TrainOptions(batch=4, steps=1))
    assert int(objective.critic.count) == 0
