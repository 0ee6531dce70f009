r"""Why a latent diffusion falls short of its auto-encoder: what its codes, noise levels and decoder say.

Codes z of held-out images are diffused to levels of the training law, and the network's error is set beside that of
the best linear estimate of stationary codes, the Wiener filter of the training codes' power P of each channel c:

$$ \hat z = m_c + F^{-1}\left[\frac{\alpha P_c}{\alpha^2 P_c + \sigma^2}\,F(z_t - \alpha m_c)\right]. $$

A network above it has not learned what a Gaussian of the same spectrum knows.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...data.cases import Cases
from ...diffusion.kernels import diffuse
from ...diffusion.noise import Seeded, derive
from ...metrics.fidelity import psnr
from ..evaluation.asked import spread
from .denoising import CodeDenoising
from .verdict import verdict

__all__ = ["Stationary", "decoded", "diagnosed", "drawn_codes"]

LEVELS = 12
"""Noise levels looked at, evenly spaced in the law of training."""
MOST, HELD_OUT = 256, 24
"""Codes of training and of held-out cases that are looked at."""
RISING = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Noise on codes of unit variance, decoded."""
SAME = 100.0
"""PSNR said of images that are equal."""
BETWEEN = 6
"""Places on the way from one code to another."""


@dataclass(frozen=True)
class Stationary:
    """A Gaussian of codes (C_z, *L): the mean of each channel, and the power of each of its frequencies.

    Attributes:
        mean: (C_z, 1, ...).
        power: |Fourier transform of z - mean|^2 over places, (C_z, *L), half of it along the last axis.
    """

    mean: Tensor
    power: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> "Stationary":
        """That of codes (N, C_z, *L)."""
        axes = tuple(range(2, codes.ndim))
        mean = codes.mean((0, *axes), keepdim=True)
        places = codes[0, 0].numel()
        power = torch.fft.rfftn(codes - mean, dim=axes).abs().square().mean(0) / places
        return cls(mean[0], power)

    def __call__(self, z_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[z_0 | z_t]; z_t (B, C_z, *L), alpha and sigma ()."""
        axes = tuple(range(2, z_t.ndim))
        kept = alpha * self.power / (alpha**2 * self.power + sigma**2).clamp_min(1e-20)
        seen = torch.fft.rfftn(z_t - alpha * self.mean, dim=axes)
        return self.mean + torch.fft.irfftn(kept * seen, s=z_t.shape[2:], dim=axes)


@torch.no_grad()
def drawn_codes(objective: CodeDenoising, cases: Cases, most: int, batch: int = 8) -> Tensor:
    """Codes of up to `most` cases as the network sees them, drawn from their laws, (N, C_z, *L) on the CPU."""
    rows = spread(len(cases), most)
    device = next(objective.first.parameters()).device
    found = []
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        noise = Seeded(derive(0, "codes", row) for row in part)
        x = cases.batch(part)["image"].to(device)
        found.append(objective.latent.encode(x, noise).float().cpu())
    return torch.cat(found)


@torch.no_grad()
def diagnosed(
    objective: CodeDenoising, train: Cases, held_out: Cases, about: dict[str, Any]
) -> dict[str, Any]:
    """What is to be seen of a trained latent diffusion.

    Args:
        objective: of the second stage, its network as it samples.
        train, held_out: cases.
        about: `statistics.measured` of the auto-encoder.

    Returns:
        Plain values. "shift", "scale": of codes. "mean", "deviation": of each channel as the network sees it;
        "overall": deviation of all. "own_noise": share of the codes' variance that is the noise of their own laws.
        "levels": of each noise level "time", "noise" (sigma / alpha), and mean squared errors of z_0 over its
        variance: "network" and "gaussian". "start": share of the variance of z_0 that a Gaussian still knows at the
        first step of sampling. "decoder": PSNR of images decoded with noise on the code against without it, by
        "noise". "verdict": faults with the setting to change, worst first.
    """
    learned, codes = drawn_codes(objective, train, MOST), drawn_codes(objective, held_out, HELD_OUT)
    gaussian = Stationary.of(learned)
    flat = learned.movedim(1, 0).flatten(1)
    within = torch.tensor(about["within"]).square().sum()
    variance = torch.tensor(about["deviation"]).square().sum()
    found = {
        "shift": list(objective.latent.shift),
        "scale": list(objective.latent.scale),
        "mean": _numbers(flat.mean(1)),
        "deviation": _numbers(flat.std(1)),
        "overall": _number(flat.std()),
        "own_noise": _number(within / variance.clamp_min(1e-20)),
        "levels": _levels(objective, gaussian, codes, held_out),
        "start": _number(1 - _unknown(objective, gaussian, codes, 1.0)),
        "decoder": _decoder(objective, codes),
        "codes": about,
    }
    return {**found, "verdict": verdict(found)}


def _levels(
    objective: CodeDenoising, gaussian: Stationary, codes: Tensor, cases: Cases
) -> list[dict[str, float]]:
    """Errors of the network and of the Gaussian, of the same codes under the same noise."""
    network = objective.network.eval()
    device = next(network.backbone.parameters()).device
    rows = spread(len(cases), HELD_OUT)
    told = [objective.told(_on(cases.batch([row]), device)) for row in rows]
    times = objective.times(LEVELS * 8).sort().values[4::8]
    variance = float((codes - gaussian.mean).square().mean())
    found = []
    for time in times:
        alpha, sigma = (value.squeeze() for value in network.schedule(time, codes))
        z_t = diffuse(network.schedule, codes, time, _noise(len(codes))(codes))
        made = torch.cat(
            [
                network.given(
                    z_t[k : k + 1].to(device), time.to(device), **network.bound(**told[k])
                )
                .float()
                .cpu()
                for k in range(len(codes))
            ]
        )
        linear = gaussian(z_t, alpha, sigma)
        found.append(
            {
                "time": _number(time),
                "noise": _number(sigma / alpha.clamp_min(1e-12)),
                "network": _number((made - codes).square().mean() / variance),
                "gaussian": _number((linear - codes).square().mean() / variance),
            }
        )
    return found


def _unknown(objective: CodeDenoising, gaussian: Stationary, codes: Tensor, time: float) -> Tensor:
    """Error of the Gaussian at a time, over the variance of the codes."""
    schedule = objective.network.schedule
    t = torch.tensor(time)
    z_t = diffuse(schedule, codes, t, _noise(len(codes))(codes))
    alpha, sigma = (value.squeeze() for value in schedule(t, codes))
    error = (gaussian(z_t, alpha, sigma) - codes).square().mean()
    return error / (codes - gaussian.mean).square().mean()


def _decoder(objective: CodeDenoising, codes: Tensor) -> list[dict[str, float]]:
    """How far images move with noise on their codes."""
    some = codes[:4]
    plain = _decode(objective, some)
    noise = _noise(len(some))(some)
    moved = [(level, _decode(objective, some + level * noise)) for level in RISING[1:]]
    return [
        {"noise": level, "psnr": _number(psnr(x, plain, 2.0).clamp_max(SAME).mean())}
        for level, x in moved
    ]


@torch.no_grad()
def decoded(objective: CodeDenoising, held_out: Cases) -> tuple[list[Tensor], list[Tensor]]:
    """Images (C, *S) for two pictures: codes at rising noise, two rows of six, and from one code to the other."""
    codes = drawn_codes(objective, held_out, 2)
    codes = codes if len(codes) == 2 else codes.repeat(2, *[1] * (codes.ndim - 1))
    noise = _noise(2)(codes)
    rising = [
        _decode(objective, codes[k : k + 1] + s * noise[k : k + 1])[0]
        for k in (0, 1)
        for s in RISING
    ]
    ways = torch.linspace(0, 1, BETWEEN).tolist()
    way = [_decode(objective, torch.lerp(codes[:1], codes[1:], w))[0] for w in ways]
    return rising, way


def _decode(objective: CodeDenoising, codes: Tensor) -> Tensor:
    device = next(objective.first.parameters()).device
    parts = [objective.latent.decode(code[None].to(device)) for code in codes]
    return torch.cat(parts).clamp(-1, 1).float().cpu()


def _noise(count: int) -> Seeded:
    return Seeded(derive(0, "diagnosis", k) for k in range(count))


def _on(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()
    }


def _number(value: Any) -> float:
    return float(f"{float(value):.4g}")


def _numbers(values: Tensor) -> list[float]:
    return [_number(value) for value in values.flatten().tolist()]
