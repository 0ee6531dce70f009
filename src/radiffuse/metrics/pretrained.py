"""Features of a network that was trained elsewhere and whose weights the user has on disk.

A ResNet-50 (RadImageNet's, ImageNet's) or an Inception-v3 (that of the Frechet Inception distance, or
ImageNet's), told apart by the names of their weights. Only safetensors files are read: a pickled file
can run code. Whoever trusts theirs converts it once:
`save_file(torch.load("x.pt", weights_only=True), "x.safetensors")`.

2048 features ask for 4096 images before a Frechet distance is given; KID has no such bound.
"""

from pathlib import Path

from torch import Tensor

from ..errors import UserError
from ..training.tensorfile import opened
from .inception import InceptionV3
from .resnet import ResNet50

Network = ResNet50 | InceptionV3
_FID_CLASSES = 1008


def load_pretrained(path: Path) -> Network:
    """Read the weights; those of the classifier at the end (`fc`) are left out.

    Raises:
        UserError: there is no such file, or it does not hold the weights of one of the two.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: feature weights must be a .safetensors file (no pickle is read)")
    with opened(path) as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = _network(weights, path)
    wanted = {
        k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    kept = {name: weights[name] for name in wanted if name in weights}
    wrong = [name for name in wanted if name not in kept or kept[name].shape != wanted[name].shape]
    if wrong:
        kind = "an Inception-v3" if isinstance(network, InceptionV3) else "a ResNet-50"
        raise UserError(f"{path}: not {kind} under the usual names ({wrong[0]} does not fit)")
    network.load_state_dict(kept, strict=False)
    return network.eval().requires_grad_(False)


def _network(weights: dict[str, Tensor], path: Path) -> Network:
    """The network that the names speak of; how an Inception pools, its number of classes tells."""
    if not any(name.startswith("Mixed_") for name in weights):
        return ResNet50()
    if "fc.weight" not in weights:
        raise UserError(
            f"{path}: an Inception-v3 without fc.weight, whose {_FID_CLASSES} classes would say that it "
            "pools as that of the Frechet Inception distance; keep it in the file"
        )
    return InceptionV3(fid=len(weights["fc.weight"]) == _FID_CLASSES)
