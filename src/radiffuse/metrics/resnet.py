"""Features of a ResNet-50 whose weights the user has on disk (such as RadImageNet's).

He et al. 2016, bottlenecks with the stride in the middle convolution, under the usual weight names
(`conv1.weight`, `bn1.running_mean`, `layer1.0.conv1.weight` ...). Only safetensors files are read:
a pickled file can run code. Whoever trusts theirs converts it once:
`save_file(torch.load("x.pt", weights_only=True), "x.safetensors")`.

Its 2048 features ask for 4096 images before a Frechet distance is given; KID has no such bound.
"""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UserError
from ..nn.blocks import conv

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
_SIDE = 224


class _Norm(nn.Module):
    """Batch normalisation by stored statistics."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5
        )


class _Bottleneck(nn.Module):
    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = _conv(into, width, 1), _Norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), _Norm(width)
        self.conv3, self.bn3 = _conv(width, out, 1), _Norm(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or into != out:
            self.downsample = nn.Sequential(_conv(into, out, 1, stride), _Norm(out))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        straight = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.bn3(self.conv3(y)) + straight)


class ResNet50(nn.Module):
    """Pictures `(B, 1 or 3, H, W)` in [-1, 1] -> `(B, 2048)`, the mean over the last maps.

    They are resized to 224 pixels, grey repeated to three channels, and enter in [-1, 1] as in
    RadImageNet's own code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), _Norm(64)
        into = 64
        for number, (width, blocks, stride) in enumerate(_STAGES, start=1):
            parts = [_Bottleneck(into, width, stride)]
            parts += [_Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*parts))
            into = 4 * width

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        x = functional.interpolate(x, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
        x = _largest_of_nine(functional.relu(self.bn1(self.conv1(x))))
        for number in range(1, 1 + len(_STAGES)):
            x = self.get_submodule(f"layer{number}")(x)
        return x.flatten(2).mean(dim=2)


def load_resnet(path: Path) -> ResNet50:
    """Read the weights; those of the classifier at the end (`fc`) are left out.

    Raises:
        UserError: there is no such file, or it does not hold the weights of a ResNet-50.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: feature weights must be a .safetensors file (no pickle is read)")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    network = ResNet50()
    try:
        weights = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    wanted = network.state_dict()
    kept = {name: weights[name] for name in wanted if name in weights}
    wrong = [name for name in wanted if name not in kept or kept[name].shape != wanted[name].shape]
    if wrong:
        raise UserError(f"{path}: not a ResNet-50 under the usual names ({wrong[0]} does not fit)")
    network.load_state_dict(kept)
    return network.eval().requires_grad_(False)


def _conv(into: int, out: int, size: int, stride: int = 1) -> nn.Module:
    module = conv(2, into, out, size, stride)
    module.register_parameter("bias", None)
    return module


def _largest_of_nine(x: Tensor) -> Tensor:
    """Maximum over blocks of 3 pixels at every second pixel."""
    x = functional.pad(x, (1, 1, 1, 1), value=-torch.inf)
    return x.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-1, -2))
