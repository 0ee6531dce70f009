"""Numbers of a person read off the image: how big, how old, how bright, as learned from real images.

Kernel ridge regression (Saunders et al. 1998) on what an image shows where and how often each grey value occurs,
its widths and weights chosen by five-fold cross-validation for each number. It is a measuring instrument of limited
sharpness: its correlation with the truth on real held-out images is the most that generated images can reach.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Readout"]

PLACES, GREYS = 4096, 48
"""Voxels of the images seen, at most, and grey values between -1 and 1 at which they are counted."""
SHARES = (0.0, 0.5, 2.0, 8.0)
"""Weights of the grey values beside the places."""


class Readout:
    """Real images and their numbers, and the number of any other image.

    Args:
        images: (N, C, *S) in [-1, 1], N > 20.
        values: (N,).
    """

    def __init__(self, images: Tensor, values: Tensor) -> None:
        self.centres = [part.mean(0) for part in _seen(images)]
        self.scales = [
            float((part - centre).norm(dim=1).mean()) + 1e-12
            for part, centre in zip(_seen(images), self.centres, strict=True)
        ]
        truth = values.double().numpy()
        self.best = max(
            (self._fitted(images, truth, share) for share in SHARES), key=lambda b: b[0]
        )

    def __call__(self, images: Tensor) -> Tensor:
        """(B,) float64 of images (B, C, *S)."""
        _, share, model = self.best
        return torch.from_numpy(model.predict(self._features(images, share)))

    def _features(self, images: Tensor, share: float) -> np.ndarray:
        both = zip(_seen(images), self.centres, self.scales, strict=True)
        places, greys = ((part - centre) / scale for part, centre, scale in both)
        return np.asarray(torch.cat([places, share * greys], 1))

    def _fitted(self, images: Tensor, truth: np.ndarray, share: float) -> tuple[float, float, Any]:
        """(cross-validated R^2, share, model)."""
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.kernel_ridge import KernelRidge
        from sklearn.model_selection import GridSearchCV
        from sklearn.preprocessing import StandardScaler

        width = 1 + share**2
        grid = {
            "regressor__alpha": [1e-4, 1e-3, 1e-2, 1e-1],
            "regressor__gamma": [0.05 / width, 0.2 / width],
        }
        model = TransformedTargetRegressor(KernelRidge(kernel="rbf"), transformer=StandardScaler())
        search = GridSearchCV(model, grid, cv=5).fit(self._features(images, share), truth)
        return search.best_score_, share, search.best_estimator_


def _seen(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image, voxels (of blocks, where there are many), and the shares of grey values up to each of `GREYS`."""
    x = images.double()
    axes = x.ndim - 2
    side = math.ceil((x[0].numel() / PLACES) ** (1 / axes)) if x[0].numel() > PLACES else 1
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
    edges = torch.linspace(-0.98, 1, GREYS + 1, dtype=x.dtype)[:-1]
    below = torch.stack([(x <= edge).double().flatten(1).mean(1) for edge in edges], 1)
    return pool(x, side, ceil_mode=True).flatten(1), below
