"""Networks. They know no diffusion: (x (B, C, *S), clock (B,), conditions) -> (B, C', *S)."""

from .classifier import Classifier
from .transformer import DiT
from .unet import UNet

__all__ = ["Classifier", "DiT", "UNet"]
