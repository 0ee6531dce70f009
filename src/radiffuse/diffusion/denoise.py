r"""Denoisers: the only question a sampler may ask of a model is $E[x_0 \mid x_t]$.

`Network` turns any network and parametrisation into a denoiser. The others take denoisers and
return denoisers: `Given` binds conditions, `Guided` extrapolates between two, `Steered` adds the
gradient of a log-probability, `Clipped` keeps to a range, `Rescheduled` moves to another schedule,
`Tiled` serves images of any size. Complex images: `complex_images`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from typing import Self

import torch
from torch import Tensor, nn

from .parametrization import Predicts
from .schedule import Schedule, Stretched, expand
from .windows import tiled

__all__ = [
    "Affine",
    "Clipped",
    "Clock",
    "Denoiser",
    "Given",
    "Guided",
    "Network",
    "Padded",
    "Rescheduled",
    "Scale",
    "Steered",
    "Tiled",
    "noise_of",
    "score_of",
]

Scale = Callable[[Tensor, Tensor], Tensor]
Clock = Callable[[Tensor, Tensor, Tensor], Tensor]


class Denoiser(nn.Module, ABC):
    """E[x_0 given x_t] under a schedule."""

    schedule: Schedule

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (B, *), t () or (B,); returns the posterior mean of x_0 (B, *)."""

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and w in [0, 1] that places a learned variance (see `kernels.ancestral`).

        Raises:
            TypeError: this denoiser has learned no variance.
        """
        raise TypeError(f"{type(self).__name__} has no learned variance; choose w = 0 or w = 1")


def score_of(denoiser: Denoiser, x_t: Tensor, t: Tensor) -> Tensor:
    r"""$\nabla \log p_t(x_t) = (\alpha \hat x_0 - x_t)/\sigma^2$ (Tweedie's formula)."""
    alpha, sigma = denoiser.schedule(t, x_t)
    return (alpha * denoiser(x_t, t) - x_t) / sigma**2


def noise_of(denoiser: Denoiser, x_t: Tensor, t: Tensor) -> Tensor:
    r"""$E[z \mid x_t] = (x_t - \alpha\hat x_0)/\sigma$."""
    alpha, sigma = denoiser.schedule(t, x_t)
    return (x_t - alpha * denoiser(x_t, t)) / sigma


def unscaled(alpha: Tensor, sigma: Tensor) -> Tensor:
    """c_in = 1: the network sees x_t itself."""
    return torch.ones_like(alpha)


def unit_variance(data_std: float) -> Scale:
    r"""$c_{in} = 1/\sqrt{\alpha^2 s^2 + \sigma^2}$: the network's input has unit variance."""
    return lambda alpha, sigma: torch.rsqrt(alpha**2 * data_std**2 + sigma**2)


def log_noise(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    r"""$c_{noise} = \tfrac14\log(\sigma/\alpha)$ (Karras et al. 2022, table 1), any alpha."""
    return (torch.log(sigma) - torch.log(alpha)).clamp(-20, 20) / 4


def elapsed(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The time t itself."""
    return t


class Network(Denoiser):
    """A network read as a denoiser.

    Args:
        backbone: module called as `backbone(scaled x_t, clock (B,), **condition)`; it may return
            twice the channels, the second half placing the learned variance: w = (v + 1) / 2.
        schedule: the noise schedule it was trained with.
        predicts: what it outputs (a row of `parametrization`).
        scale: c_in(alpha, sigma), multiplies x_t at the network's input.
        clock: c_noise(t, alpha, sigma), what the network is told of the time.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        predicts: Predicts,
        scale: Scale = unscaled,
        clock: Clock = log_noise,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.schedule = schedule
        self.predicts = predicts
        self.scale = scale
        self.clock = clock

    def around(self, backbone: nn.Module) -> Self:
        """The same reading of another backbone."""
        other = copy(self)
        other._modules = {**self._modules, "backbone": backbone}
        return other

    @property
    def players(self) -> dict[str, nn.Module]:
        """What is trained, by the name of its player."""
        return {"network": self.backbone}

    def levels(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """t, alpha and sigma of each case of x_t, (B,) float64 each; t () or (B,)."""
        t64 = torch.as_tensor(t, dtype=torch.float64, device="cpu").expand(len(x_t))
        return t64, self.schedule.alpha(t64), self.schedule.sigma(t64)

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The network's own output at x_t (B, C, *S), t () or (B,)."""
        t64, alpha64, sigma64 = self.levels(x_t, t)
        clock = self.clock(t64, alpha64, sigma64).to(x_t.device, x_t.real.dtype)
        alpha, sigma = self.schedule(t64, x_t)
        return self.backbone(self.scale(alpha, sigma) * x_t, clock, **condition)

    def bound(self, **condition: Tensor) -> dict[str, Tensor]:
        """The condition, with all that follows from it alone: computed once for a chain."""
        return condition

    def given(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """E[x_0 given x_t and the condition]."""
        out = self.raw(x_t, t, **condition)
        alpha, sigma = self.schedule(t, x_t)
        return self.predicts.clean(out[:, : x_t.shape[1]], x_t, alpha, sigma)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.given(x_t, t)

    def with_variance(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> tuple[Tensor, Tensor]:
        out = self.raw(x_t, t, **condition)
        channels = x_t.shape[1]
        if out.shape[1] != 2 * channels:
            return super().with_variance(x_t, t)
        alpha, sigma = self.schedule(t, x_t)
        return self.predicts.clean(out[:, :channels], x_t, alpha, sigma), (
            out[:, channels:] + 1
        ) / 2


class Given(Denoiser):
    """A network with its conditions bound: label=, vector=, image= as its backbone takes them."""

    def __init__(self, network: Network, **condition: Tensor) -> None:
        super().__init__()
        self.network = network
        self.schedule = network.schedule
        self.condition = network.bound(**condition)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.network.given(x_t, t, **self.condition)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.with_variance(x_t, t, **self.condition)


class Guided(Denoiser):
    r"""Extrapolation from one denoiser to another: $\hat x = \hat x_b + w (\hat x_a - \hat x_b)$.

    Classifier-free guidance (Ho & Salimans 2022) with a = conditional, b = unconditional;
    autoguidance (Karras et al. 2024) with b = a weaker model. w = 1 is `main` alone.
    """

    def __init__(self, main: Denoiser, other: Denoiser, weight: float) -> None:
        super().__init__()
        self.main, self.other, self.weight = main, other, weight
        self.schedule = main.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        if self.weight == 1:
            return self.main(x_t, t)
        return torch.lerp(self.other(x_t, t), self.main(x_t, t), self.weight)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The guided mean, and the w of `main`."""
        x_0, w = self.main.with_variance(x_t, t)
        return (x_0 if self.weight == 1 else torch.lerp(self.other(x_t, t), x_0, self.weight)), w


class Steered(Denoiser):
    r"""Guidance by a gradient: $\hat x_0' = \hat x_0 + w\,\tfrac{\sigma^2}{\alpha}\nabla\log p(y\mid x_t)$.

    Adding $w \nabla \log p(y \mid x_t)$ to the score (Dhariwal & Nichol 2021, algorithm 1-2).

    Args:
        log_probability: maps (x_t (B, *), t) to log p(y given x_t), shape (B,).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        log_probability: Callable[[Tensor, Tensor], Tensor],
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.denoiser, self.log_probability, self.weight = denoiser, log_probability, weight
        self.schedule = denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x_t, t) + self._shift(x_t, t)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The steered mean, and the w of the denoiser."""
        x_0, w = self.denoiser.with_variance(x_t, t)
        return x_0 + self._shift(x_t, t), w

    def _shift(self, x_t: Tensor, t: Tensor) -> Tensor:
        # a likelihood differentiates the gradient once more, for its divergence
        twice = x_t.requires_grad
        with torch.enable_grad():
            x = x_t if twice else x_t.detach().requires_grad_()
            log_p = self.log_probability(x, t).sum()
            (gradient,) = torch.autograd.grad(log_p, x, create_graph=twice)
        alpha, sigma = self.schedule(t, x_t)
        return self.weight * sigma**2 / alpha * gradient


class Clipped(Denoiser):
    """The estimate kept to the range of the data (Ho et al. 2020 clip to [-1, 1]); complex: each part."""

    def __init__(self, denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.low, self.high = denoiser, low, high
        self.schedule = denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(x_t, t)
        if x_0.is_complex():
            parts = (part.clamp(self.low, self.high) for part in (x_0.real, x_0.imag))
            return torch.complex(*parts)
        return x_0.clamp(self.low, self.high)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x_0, w = self.denoiser.with_variance(x_t, t)
        return x_0.clamp(self.low, self.high), w


class Rescheduled(Denoiser):
    r"""The same denoiser under another schedule.

    At time t of the new schedule it is asked at the time u of its own with equal $\alpha/\sigma$, on
    $x_u = x_t\,\alpha_u/\alpha_t$: the two differ by a change of scale only, so the answer is exact.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        inner = self.denoiser.schedule
        t64 = torch.as_tensor(t, dtype=torch.float64, device="cpu")
        u = inner.time(self.schedule.log_ratio(t64))
        alpha_t, sigma_t, alpha_u, sigma_u = (
            function(time)
            for schedule, time in ((self.schedule, t64), (inner, u))
            for function in (schedule.alpha, schedule.sigma)
        )
        # equal wherever both schedules reach; at an end one of the two ratios may be 0 / 0
        ratio = torch.where(alpha_t > sigma_t, alpha_u / alpha_t, sigma_u / sigma_t)
        return self.denoiser(x_t * expand(ratio.to(x_t.device, x_t.real.dtype), x_t), u)


class Affine(Denoiser):
    r"""The denoiser of images in other units: of $m = (x - b)/k$, where x is what a denoiser knows.

    $x_t = k m_t + \alpha b$ under a schedule of the same alpha and k times the sigma. With k = 2, b = -1 a
    network of images in [-1, 1] serves images in [0, 1], whose measurements have no offset.

    Args:
        denoiser: of x, under any schedule.
        schedule: of m.
        factor: k.
        offset: b.
    """

    def __init__(
        self, denoiser: Denoiser, schedule: Schedule, factor: float = 2.0, offset: float = -1.0
    ) -> None:
        super().__init__()
        self.inner = Rescheduled(denoiser, Stretched(schedule, factor))
        self.schedule, self.factor, self.offset = schedule, factor, offset

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, _ = self.schedule(t, x_t)
        x_0 = self.inner(self.factor * x_t + alpha * self.offset, t)
        return (x_0 - self.offset) / self.factor


class Padded(Denoiser):
    """A denoiser of images whose sides are multiples of `stride`, for images of any size.

    x_t (B, C, *S) is continued by reflection at the end of each axis, and the estimate cut back.
    """

    def __init__(self, denoiser: Denoiser, stride: int) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.stride = denoiser, denoiser.schedule, stride

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        size = x_t.shape[2:]
        missing = [-side % self.stride for side in size]
        if not any(missing):
            return self.denoiser(x_t, t)
        pads = [part for more in reversed(missing) for part in (0, more)]
        x_0 = self.denoiser(nn.functional.pad(x_t, pads, mode="reflect"), t)
        for axis, side in enumerate(size, start=2):
            x_0 = x_0.narrow(axis, 0, side)
        return x_0


class Tiled(Denoiser):
    """Images larger than the network was trained on: overlapping tiles, blended without seams.

    Args:
        denoiser: of tiles; a `Network` where there are conditions.
        tile: sides of a tile, at most the image's; an axis of 1 is left out of what the denoiser sees,
            so that a network of slices denoises a volume.
        overlap: of neighbouring tiles, an axis each (see `windows.tiled`).
        batch: tiles at once; bounds the memory.
        condition: as `Given` takes them; an image is cut as x_t is, all else goes by case.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        tile: Sequence[int],
        overlap: Sequence[int],
        batch: int = 16,
        **condition: Tensor,
    ) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.tile, self.overlap, self.batch = tuple(tile), tuple(overlap), batch
        self.condition = condition

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self._asked(lambda denoiser, x, at: denoiser(x, at), x_t, t)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        def both(denoiser: Denoiser, x: Tensor, at: Tensor) -> Tensor:
            return torch.cat(denoiser.with_variance(x, at), 1)

        mean, w = self._asked(both, x_t, t).chunk(2, 1)
        return mean, w

    def _asked(
        self, ask: Callable[[Denoiser, Tensor, Tensor], Tensor], x_t: Tensor, t: Tensor
    ) -> Tensor:
        """What `ask` says of the denoiser with the conditions of each tile, blended."""
        times = torch.as_tensor(t).expand(len(x_t))
        images = {k: c for k, c in self.condition.items() if c.shape[2:] == x_t.shape[2:]}
        others = {k: c for k, c in self.condition.items() if k not in images}

        def apply(cuts: list[Tensor], rows: Tensor) -> Tensor:
            told = dict(zip(images, cuts[1:], strict=True))
            told |= {name: value[rows.to(value.device)] for name, value in others.items()}
            at = times[rows.to(times.device)]
            if not told:
                return ask(self.denoiser, cuts[0], at)
            assert isinstance(self.denoiser, Network)
            return ask(Given(self.denoiser, **told), cuts[0], at)

        return tiled(apply, [x_t, *images.values()], self.tile, self.overlap, self.batch)
