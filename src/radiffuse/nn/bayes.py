r"""Mean-field Gaussian weights: a network whose weights are a law, $q(\theta) = \prod_s N(\mu_s, \sigma_s^2)$."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["MeanField", "drawn", "kl_to_prior"]


class MeanField(nn.Module):
    r"""A convolution with weights $N(\mu, \sigma^2)$, $\sigma = \log(1 + e^\rho)$, and a bias that is a number.

    Called as it is, its output is drawn in place of its weights (local reparameterisation, Kingma et al. 2015,
    eq. 6), $N(\mu * x + b, \sigma^2 * x^2)$ at every place for itself; within `drawn` the weights are one draw.

    Args:
        convolution: holds mu and b.
        std: sigma at the beginning.
    """

    def __init__(self, convolution: nn.Module, std: float = 1e-3) -> None:
        super().__init__()
        self.mean = convolution
        rho = math.log(math.expm1(std))
        self.rho = nn.Parameter(torch.full_like(convolution.get_parameter("weight"), rho))
        self.theta: Tensor | None = None

    @property
    def std(self) -> Tensor:
        """sigma, the shape of the weights."""
        return F.softplus(self.rho)

    def draw(self) -> Tensor:
        """Weights drawn from q by the global generator."""
        weight = self.mean.get_parameter("weight")
        return weight + self.std * torch.randn_like(weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.theta is not None:
            return self._by(self.theta, self.mean.get_parameter("bias"), x)
        mean = self.mean(x)
        none = torch.zeros_like(self.mean.get_parameter("bias"))
        variance = self._by(self.std.square(), none, x.square())
        return mean + variance.clamp_min(1e-20).sqrt() * torch.randn_like(mean)

    def _by(self, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        made: Tensor = functional_call(self.mean, {"weight": weight, "bias": bias}, (x,))
        return made


def _layers(network: nn.Module) -> list[MeanField]:
    return [module for module in network.modules() if isinstance(module, MeanField)]


@contextmanager
def drawn(network: nn.Module) -> Iterator[None]:
    """Within it all layers of a network have one draw of their weights, for all cases and places."""
    layers = _layers(network)
    for layer in layers:
        layer.theta = layer.draw()
    try:
        yield
    finally:
        for layer in layers:
            layer.theta = None


def kl_to_prior(network: nn.Module, prior: float = 1.0) -> Tensor:
    r"""$KL(q \| N(0, p^2))$ of all layers' weights, in nats: $\sum \log(p/\sigma) + (\sigma^2+\mu^2)/2p^2 - 1/2$."""
    terms = []
    for layer in _layers(network):
        ratio = layer.std / prior
        mean = layer.mean.get_parameter("weight") / prior
        terms.append(((ratio.square() + mean.square() - 1) / 2 - ratio.log()).sum())
    return torch.stack(terms).sum()
