"""Registration without diffusion: B-splines and Demons (SimpleITK), and the plain network.

The classical methods work in mm: the grid's spacing is told to SimpleITK. All give displacement fields
in voxels, as the recipes do.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...nn.augment import UNVARIED, Varied
from ...nn.field import FieldUNet
from ...nn.warp import exponential
from ...training.loop import TrainOptions, train
from .losses import misfit

__all__ = ["CLASSICAL", "Direct", "b_spline", "demons", "trained_direct"]

Classical = Callable[[Tensor, Tensor, Sequence[float]], Tensor]


def b_spline(
    moving: Tensor, fixed: Tensor, spacing_mm: Sequence[float], cells: int = 8, levels: int = 3
) -> Tensor:
    """Free-form deformation: cubic B-splines, mean squares, L-BFGS-B, coarse to fine.

    Args:
        moving, fixed: (*S) on one grid.
        spacing_mm: of that grid.
        cells: control cells along each axis, none of less than four voxels, at all `levels` of the image.

    Returns:
        u (n, *S) in voxels.
    """
    still, moved = _itk(fixed, spacing_mm), _itk(moving, spacing_mm)
    mesh = [max(1, min(cells, side // 4)) for side in fixed.shape]
    with _threads(fixed.ndim):
        try:
            return _voxels(_b_spline(still, moved, mesh, levels), spacing_mm)
        except RuntimeError:  # the images do not overlap: left where they are
            return torch.zeros(fixed.ndim, *fixed.shape)


def _b_spline(still: Any, moved: Any, mesh: Sequence[int], levels: int) -> Any:
    import SimpleITK as sitk

    transform = sitk.BSplineTransformInitializer(still, mesh, order=3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-5, numberOfIterations=100)
    method.SetShrinkFactorsPerLevel([2**level for level in reversed(range(levels))])
    method.SetSmoothingSigmasPerLevel([float(level) for level in reversed(range(levels))])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(transform, inPlace=True)
    found = method.Execute(still, moved)
    return sitk.TransformToDisplacementField(
        found, sitk.sitkVectorFloat64, still.GetSize(), still.GetOrigin(), still.GetSpacing(),
        still.GetDirection(),
    )  # fmt: skip


def demons(
    moving: Tensor, fixed: Tensor, spacing_mm: Sequence[float], sigma: float = 1.0, levels: int = 3
) -> Tensor:
    """Symmetric diffeomorphic Demons (Vercauteren et al. 2009), coarse to fine.

    Args and result as for `b_spline`; sigma: of the field's smoothing, in voxels.
    """
    still, moved = _itk(fixed, spacing_mm), _itk(moving, spacing_mm)
    with _threads(fixed.ndim):
        return _voxels(_demons(still, moved, sigma, levels), spacing_mm)


def _demons(still: Any, moved: Any, sigma: float, levels: int) -> Any:
    import SimpleITK as sitk

    method = sitk.DiffeomorphicDemonsRegistrationFilter()
    method.SetSmoothDisplacementField(True)
    method.SetStandardDeviations(sigma)
    method.SetNumberOfIterations(60)
    field: Any = None
    for level in reversed(range(levels)):
        factor = 2**level
        size = [max(1, side // factor) for side in still.GetSize()]
        small, other = _shrunk(still, size, factor), _shrunk(moved, size, factor)
        if field is None:
            field = method.Execute(small, other)
        else:
            field = method.Execute(small, other, sitk.Resample(field, small))
    return sitk.Resample(field, still)


CLASSICAL: dict[str, Classical] = {"b_spline": b_spline, "demons": demons}
"""The classical methods by name; the first is the main baseline."""


@contextlib.contextmanager
def _threads(axes: int) -> Iterator[None]:
    """One thread for pictures, where more cost more than they give: ten times the time on a busy machine."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1 if axes == 2 else before)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _itk(image: Tensor, spacing_mm: Sequence[float]) -> Any:
    """An axis-parallel ITK image whose first index is the first axis of `image`."""
    import SimpleITK as sitk

    out = sitk.GetImageFromArray(image.detach().cpu().float().numpy().T)
    out.SetSpacing([float(step) for step in spacing_mm])
    return out


def _shrunk(image: Any, size: Sequence[int], factor: int) -> Any:
    """Smoothed and resampled to fewer voxels over the same extent."""
    import SimpleITK as sitk

    if factor == 1:
        return image
    sides = zip(image.GetSpacing(), image.GetSize(), size, strict=True)
    spacing = [step * old / new for step, old, new in sides]
    origin = [(new - old) / 2 for new, old in zip(spacing, image.GetSpacing(), strict=True)]
    sigmas = [factor / 2 * step for step in image.GetSpacing()]
    smooth = sitk.SmoothingRecursiveGaussian(image, sigmas)
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, origin, spacing, image.GetDirection(),
        0.0, image.GetPixelID(), True,
    )  # fmt: skip


def _voxels(field: Any, spacing_mm: Sequence[float]) -> Tensor:
    """An ITK field in mm of an axis-parallel image as u (n, *S) in voxels."""
    import SimpleITK as sitk

    vectors = torch.from_numpy(sitk.GetArrayFromImage(field)).float()
    axes = vectors.shape[-1]
    # (K, J, I, n) -> (n, I, J, K)
    mm = vectors.permute(axes, *reversed(range(axes)))
    return mm / torch.tensor(spacing_mm, dtype=torch.float32).reshape(-1, *[1] * axes)


class Direct:
    """The same deformation network told both images, without a diffusion (VoxelMorph).

    Args:
        network: (B, 2, *S) -> field; the player "field".
        smooth, padding, diffeomorphic, varied: as in the method it is compared with.
    """

    def __init__(
        self,
        network: FieldUNet,
        smooth: float = 1.0,
        padding: str = "border",
        diffeomorphic: bool = False,
        varied: Varied = UNVARIED,
    ) -> None:
        self.players: dict[str, nn.Module] = {"field": network}
        self.varied = varied
        self.smooth, self.padding, self.diffeomorphic = smooth, padding, diffeomorphic

    def losses(self, batch: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        moving, fixed = self.varied(batch["moving"], batch["fixed"])
        field = self.displacement(moving, fixed)
        yield "field", misfit(moving, fixed, field, self.smooth, padding=self.padding).mean()

    def displacement(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """u (B, n, *S) in voxels."""
        out = self.players["field"](torch.cat([moving, fixed], dim=1)).float()
        return exponential(out) if self.diffeomorphic else out


def trained_direct(recipe: Any, cases: Any, options: TrainOptions, folder: Path) -> Direct:
    """Train (or go on with, or find in `folder`) the plain network of a registration recipe's fields."""
    torch.manual_seed(options.seed)
    objective = Direct(
        FieldUNet(
            len(recipe.size), 2, recipe.encoder, recipe.decoder, recipe.convolutions, recipe.coarse
        ),
        recipe.smooth,
        recipe.padding,
        recipe.diffeomorphic,
        recipe.varied(),
    )
    train(objective, cases, options, folder, resume=True, about={"method": "direct"})
    objective.players["field"].eval()
    return objective
