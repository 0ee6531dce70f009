"""What an auto-encoder makes of data: codes by channel, and how well images come back."""

from typing import Any

import torch
from torch import Tensor

from ...data.cases import Cases
from ...diffusion.noise import Seeded, derive
from ...diffusion.spectrum import power
from ...metrics.diversity import ms_ssim_per_patient
from ...metrics.estimate import average_per_patient
from ...metrics.fidelity import psnr
from ...nn.autoencoder import AutoEncoder, Codebook
from ...nn.blocks import cut_to
from ..evaluation.asked import spread

__all__ = ["codes_of", "measured"]

MOST = 512
"""Cases whose codes are looked at."""


@torch.no_grad()
def codes_of(coder: AutoEncoder, cases: Cases, batch: int = 8) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the codes of up to 512 cases, evenly spaced; (N, C_z, *L) each, on the CPU."""
    device = next(coder.parameters()).device
    rows = spread(len(cases), MOST)
    parts = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    found = [coder.encode(cases.batch(part)["image"].to(device)) for part in parts]
    means, deviations = (torch.cat([pair[k].cpu() for pair in found]) for k in (0, 1))
    return means, deviations


@torch.no_grad()
def measured(coder: AutoEncoder, train: Cases, held_out: Cases, batch: int = 8) -> dict[str, Any]:
    """Statistics of drawn codes of training cases, and of reconstructions of held-out ones.

    Returns:
        Plain values. "mean", "deviation": of each channel. "within": deviation of the codes' own laws, root
        mean square of each channel. "correlation": between channels. "neighbours": between places next to each
        other, mean over axes, of each channel. "divergence": nats a place and channel above a standard normal (of
        Gaussian codes, 0 for a codebook). "used": share of the codebook's entries. "spectrum": see
        `spectrum.power`, of codes brought to unit variance. "psnr", "ms_ssim": of held-out images. "ratio":
        numbers of an image over those of its code.
    """
    means, deviations = codes_of(coder, train, batch)
    noise = Seeded(derive(0, "codes", k) for k in range(len(means)))
    codes = means + deviations * noise(means)
    flat = codes.movedim(1, 0).flatten(1).double()
    mean, deviation = flat.mean(1), flat.std(1)
    divergence = 0.0
    if not isinstance(coder.law, Codebook):
        each = means.square() + deviations.square() - 2 * deviations.clamp_min(1e-20).log() - 1
        divergence = float(each.mean() / 2)
    image = held_out.batch([0])["image"][0]
    return {
        "mean": _numbers(mean),
        "deviation": _numbers(deviation),
        "within": _numbers(deviations.square().mean((0, *range(2, deviations.ndim))).sqrt()),
        "overall": [float(f"{float(flat.mean()):.4g}"), float(f"{float(flat.std()):.4g}")],
        "correlation": [_numbers(row) for row in torch.corrcoef(flat).reshape(len(flat), -1)],
        "neighbours": _numbers(_neighbours(codes)),
        "divergence": divergence,
        "used": _used(coder, means),
        "ratio": image.numel() / codes[0].numel(),
        "code": list(codes.shape[1:]),
        **_reconstructed(coder, held_out, batch),
    }


def standardised(codes: Tensor, shift: tuple[float, ...], scale: tuple[float, ...]) -> Tensor:
    """Codes (N, C_z, *L) as the denoiser sees them."""
    shape = (1, -1, *[1] * (codes.ndim - 2))
    return (codes - torch.tensor(shift).reshape(shape)) * torch.tensor(scale).reshape(shape)


def seen(
    coder: AutoEncoder, train: Cases, shift: Any, scale: Any
) -> tuple[float, tuple[float, ...]]:
    """Deviation and spectrum of codes as the denoiser sees them."""
    means, deviations = codes_of(coder, train)
    noise = Seeded(derive(0, "codes", k) for k in range(len(means)))
    codes = standardised(means + deviations * noise(means), shift, scale)
    return round(float(codes.std()), 4), power(codes)


def _numbers(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.flatten().tolist()]


def _neighbours(codes: Tensor) -> Tensor:
    """Correlation of places next to each other, (C_z,)."""
    centred = codes - codes.mean((0, *range(2, codes.ndim)), keepdim=True)
    every = (0, *range(2, codes.ndim))
    found = []
    for axis in range(2, codes.ndim):
        if codes.shape[axis] > 1:
            length = codes.shape[axis] - 1
            here, there = centred.narrow(axis, 0, length), centred.narrow(axis, 1, length)
            product = (here.square().mean(every) * there.square().mean(every)).sqrt()
            found.append((here * there).mean(every) / product.clamp_min(1e-20))
    return torch.stack(found).mean(0) if found else torch.zeros(codes.shape[1])


def _used(coder: AutoEncoder, means: Tensor) -> float:
    """Share of the codebook that these codes take; 1 without one."""
    if not isinstance(coder.law, Codebook):
        return 1.0
    taken = coder.law.indices(means.to(coder.law.entries.device)).unique()
    return len(taken) / len(coder.law.entries)


def _reconstructed(coder: AutoEncoder, cases: Cases, batch: int) -> dict[str, Any]:
    """PSNR and MS-SSIM of up to 64 held-out images, decoded from the means of their codes."""
    device = next(coder.parameters()).device
    rows = spread(len(cases), 64)
    images, made = [], []
    for first in range(0, len(rows), batch):
        x = cases.batch(rows[first : first + batch])["image"]
        images.append(x)
        back = cut_to(coder.decode(coder.encode(x.to(device))[0]), x.shape[2:])
        made.append(back.clamp(-1, 1).float().cpu())
    x, y = torch.cat(images), torch.cat(made)
    patients = [cases.patients[row] for row in rows]
    return {
        "psnr": average_per_patient(psnr(y, x, 2.0).tolist(), patients),
        "ms_ssim": ms_ssim_per_patient(y, x, patients),
    }
