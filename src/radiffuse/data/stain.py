r"""Stains of histology: what two dyes take out of white light, and tiles brought to a reference of them.

With the grey levels I of red, green and blue, 0 to 255, and the light $I_0$ = 240, the optical density is
$D = -\log((I + 1)/I_0)$. By the law of Lambert and Beer $D = C S$: S (2, 3) are the stain vectors, of length 1,
haematoxylin first, C the concentrations at every pixel. A tile is normalised by keeping its C, up to one factor a
stain, and putting the reference's S in place of its own (Macenko et al. 2009, ISBI):

$I' = I_0 \exp(-C\,\mathrm{diag}(c^*/c)\,S^*) - 1$, c the 99 % quantiles of C.

S spans the plane of the two largest principal components of D, at the 1 % and 99 % quantiles of the angle in it; S and
c are of tissue alone: pixels with a mean density of 0.15 or more over the three colours that are not black.
"""

import torch
from torch import Tensor

from ..errors import UserError

__all__ = ["concentrations", "density", "described", "normalised", "stains", "tissue"]

LIGHT, FAINTEST, EXTREME, STRONG = 240.0, 0.15, 0.01, 0.99
LEAST_TISSUE, LEAST_ANGLE = 0.01, 0.02
SEEN = 1 << 13
"""Pixels of tissue, evenly spaced, that are looked at where a tile has more."""


def density(image: Tensor) -> Tensor:
    """Optical density (P, 3) float64 of grey levels (3, *S), 0 to 255."""
    return -((image.double() + 1) / LIGHT).log().flatten(1).T


def tissue(image: Tensor) -> Tensor:
    """Pixels (P,) bool of (3, *S) that a dye darkens."""
    return (density(image).mean(1) >= FAINTEST) & (image.flatten(1) > 0).any(0)


def stains(image: Tensor) -> Tensor:
    """S and c of a tile as eight numbers (8,) float64: haematoxylin's vector, eosin's, and the two quantiles.

    Haematoxylin is the one that takes out more of the red.

    Args:
        image: grey levels (3, *S), 0 to 255.

    Raises:
        UserError: the image has no tissue, or one colour alone; to follow the name of the tile.
    """
    if len(image) != 3:
        what = "grey" if len(image) == 1 else f"of {len(image)} channels"
        raise UserError(f"is {what}, and stains are told from red, green and blue")
    inside = tissue(image)
    if (share := float(inside.double().mean())) < LEAST_TISSUE:
        raise UserError(
            f"is empty: {share:.1%} of its pixels are tissue, the others white or black"
        )
    dense = density(image)[inside]
    dense = dense[:: -(-len(dense) // SEEN)]
    vectors = _extremes(dense)
    if float(torch.linalg.cross(vectors[0], vectors[1]).norm()) < LEAST_ANGLE:
        raise UserError("has one colour alone, as grey pictures have, and no two stains to tell")
    strong = concentrations(dense, vectors).quantile(STRONG, dim=0).clamp_min(1e-3)
    return torch.cat([vectors.flatten(), strong])


def _extremes(dense: Tensor) -> Tensor:
    """Stain vectors (2, 3) of the densities (P, 3) of tissue."""
    axes = torch.linalg.eigh(torch.cov(dense.T)).eigenvectors[:, [2, 1]]
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)
    first, second = (dense @ axes).T
    angle = torch.atan2(second, first)
    ends = angle.quantile(torch.tensor([EXTREME, 1 - EXTREME]).to(angle))
    found = torch.stack([ends.cos(), ends.sin()], 1) @ axes.T
    return found if found[0, 0] > found[1, 0] else found.flip(0)


def concentrations(dense: Tensor, vectors: Tensor) -> Tensor:
    """C (P, 2), the least squares of D - C S, of densities (P, 3) and vectors (2, 3)."""
    return dense @ torch.linalg.pinv(vectors)


def normalised(image: Tensor, own: Tensor, reference: Tensor) -> Tensor:
    """The tile I' in the reference's stains, in whole grey levels, float32 (3, *S).

    Args:
        image: grey levels (3, *S), 0 to 255.
        own, reference: as `stains` gives them.
    """
    c = concentrations(density(image), own[:6].reshape(2, 3)) * (reference[6:] / own[6:])
    made = LIGHT * torch.exp(-c @ reference[:6].reshape(2, 3)) - 1
    return made.round().clamp(0, 255).float().T.reshape(image.shape)


def described(reference: Tensor) -> str:
    """Eight numbers of `stains` in words."""
    numbers = [f"{value:.2f}" for value in reference.tolist()]
    h, e, c = (" ".join(part) for part in (numbers[:3], numbers[3:6], numbers[6:]))
    return f"haematoxylin {h}, eosin {e}, 99 % of tissue below {c}"
