"""Denoisers of complex images, from priors of real ones."""

import torch
from torch import Tensor

from .denoise import Denoiser

__all__ = ["Parts", "TwoChannels"]


class Parts(Denoiser):
    """Complex images by a prior of real ones: each part of each channel is an image of its own.

    x (B, K, *S) is asked as one real batch (2 B K, 1, *S), or (B K, 1, *S) where x is real, so K coil
    images or one image go alike (score-MRI, Chung & Ye 2022, section 3.2). The prior must see no
    condition that differs from case to case.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        parts = torch.stack([x_t.real, x_t.imag], 2) if x_t.is_complex() else x_t[:, :, None]
        each = parts.flatten(0, 2)[:, None]
        times = torch.as_tensor(t)
        times = times.repeat_interleave(len(each) // len(x_t)) if times.ndim else times
        x_0 = self.denoiser(each, times)[:, 0].reshape(parts.shape)
        return torch.complex(x_0[:, :, 0], x_0[:, :, 1]) if x_t.is_complex() else x_0[:, :, 0]


class TwoChannels(Denoiser):
    """Complex x (B, C, *S) by a prior of real and imaginary channels (B, 2 C, *S), reals first."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(torch.cat([x_t.real, x_t.imag], 1), t)
        return torch.complex(*x_0.contiguous().chunk(2, 1))
