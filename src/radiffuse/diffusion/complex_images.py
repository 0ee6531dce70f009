"""Complex images as real ones, and denoisers of them from priors of real ones."""

import torch
from torch import Tensor

from .denoiser import Denoiser

__all__ = ["Parts", "TwoChannels", "joined", "parts"]


def parts(x: Tensor) -> Tensor:
    """Complex x (B, *) as real cases (2 B, *): all real parts, then all imaginary ones. Real x as they are."""
    return torch.cat([x.real, x.imag]) if x.is_complex() else x


def joined(x: Tensor, like: Tensor) -> Tensor:
    """The inverse of `parts`, complex where `like` is."""
    return torch.complex(*x.chunk(2)) if like.is_complex() else x


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
        real = parts(x_t)
        each = real.flatten(0, 1)[:, None]
        times = torch.as_tensor(t)
        if times.ndim:
            times = times.repeat(len(real) // len(x_t)).repeat_interleave(real.shape[1])
        return joined(self.denoiser(each, times).reshape(real.shape), x_t)


class TwoChannels(Denoiser):
    """Complex x (B, C, *S) by a prior of real and imaginary channels (B, 2 C, *S), reals first."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(torch.cat([x_t.real, x_t.imag], 1), t)
        return torch.complex(*x_0.contiguous().chunk(2, 1))
