"""Convolutions of volumes, where torch's own are slow or wrong on a processor."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Conv3d"]

SLOW = 20480
"""Numbers of a volume without its last axis up to which torch takes its slow kernel for one case alone."""


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, but on a processor

    - one small volume is done as two halves of it, 2 to 4 times as fast: torch (2.13, `use_mkldnn` of
      ATen/native/Convolution.cpp) leaves oneDNN to batches and to large volumes, and unfolds the rest into matrices.
      Halves that overlap by what the kernel sees are a batch.
    - volumes two voxels thin stay in fp32. There the bf16 gradient of the weights reads memory that nobody wrote
      (torch 2.13 with oneDNN, first axis of 2, 32 channels or more), so that a training met NaN now and then.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        if min(input.shape[2:]) <= 2:
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return self._in_halves(input) if self._is_slow(input) else super().forward(input)

    def _is_slow(self, x: Tensor) -> bool:
        alone = len(x) == 1 and x[..., 0].numel() <= SLOW and min(self.kernel_size) > 1
        return alone and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")

    def _in_halves(self, x: Tensor) -> Tensor:
        reach, *around = (int(side) for side in self.padding)
        step, wide = self.stride[0], self.kernel_size[0]
        size = (x.shape[2] + 2 * reach - wide) // step + 1
        half = -(-size // 2)
        long = (half - 1) * step + wide
        behind = max(0, half * step + long - x.shape[2] - reach)
        x = F.pad(x, (0, 0, 0, 0, reach, behind))
        both = torch.cat([x[:, :, :long], x[:, :, half * step : half * step + long]])
        beside = (0, *around)
        made = F.conv3d(both, self.weight, self.bias, self.stride, beside, groups=self.groups)
        return torch.cat([made[:1], made[1:]], dim=2)[:, :, :size]
