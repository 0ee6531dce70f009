"""Registration: the displacement that brings a moving image onto a fixed one."""

from ..task import Task

__all__ = ["REGISTRATION"]

REGISTRATION = Task(
    "registration",
    reads=("moving", "fixed"),
    optional=("moving_mask", "fixed_mask", "frames", "field"),
    writes=("warped", "displacement", "path", "folded"),
    raw=("displacement",),
    evaluation="radiffuse.applications.registration.evaluate:evaluate_registration",
    title="Registration",
    shown=(
        *("dice", "dice_1", "dice_2", "dice_3", "correlation", "end_point_error"),
        *("frames_psnr", "folded", "seconds_per_pair"),
    ),
)
"""Both images lie on one grid. `displacement` is in voxels (files hold mm), `path` a series from the
moving image to the warped one, `folded` a share of voxels. Masks, frames and the true `field` in
voxels only measure."""
