"""Registration without learning: B-splines and Demons (SimpleITK).

They work in mm: the grid's spacing is told to SimpleITK. They give displacement fields in voxels, as the
recipes do. What SimpleITK cannot register is a failure of that pair, never a field.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["CLASSICAL", "Classical", "attempt", "b_spline", "demons"]

NO_METRIC = 1e300
"""SimpleITK gives the largest of all numbers, and the identity, where it has nothing to compare."""
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

    Raises:
        RuntimeError: SimpleITK's, where it finds no registration.
    """
    still, moved = _itk(fixed, spacing_mm), _itk(moving, spacing_mm)
    mesh = [max(1, min(cells, side // 4)) for side in fixed.shape]
    with _threads(fixed.ndim):
        return _voxels(_b_spline(still, moved, mesh, levels), spacing_mm)


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
    if not method.GetMetricValue() < NO_METRIC:
        raise RuntimeError("no voxel of the two images could be compared")
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


def attempt(
    register: Classical, moving: Tensor, fixed: Tensor, spacing_mm: Sequence[float]
) -> Tensor | str:
    """The field (n, *S) of a classical method, or why there is none, in one line."""
    try:
        field = register(moving, fixed, spacing_mm)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[-1] if lines else type(error).__name__
    return field if bool(torch.isfinite(field).all()) else "the field is not finite"


@contextlib.contextmanager
def _threads(axes: int) -> Iterator[None]:
    """One thread for pictures, where more cost more than they give: ten times the time on a busy machine.

    SimpleITK's warnings, many for every pair, are not shown: a pair that it cannot register is a failure.
    """
    import SimpleITK as sitk

    process = sitk.ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads(), process.GetGlobalWarningDisplay()
    process.SetGlobalDefaultNumberOfThreads(1 if axes == 2 else before[0])
    process.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        process.SetGlobalDefaultNumberOfThreads(before[0])
        process.SetGlobalWarningDisplay(before[1])


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
