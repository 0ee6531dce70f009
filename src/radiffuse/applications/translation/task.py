"""Translation: an image of one modality from an image of another."""

from ..task import Task

__all__ = ["TRANSLATION", "TRANSLATION_UNPAIRED"]

TRANSLATION = Task(
    "translation",
    reads=("source", "target"),
    optional=("mask",),
    writes=("target",),
    given=("source",),
    paired=("source", "target"),
    evaluation="radiffuse.applications.translation.evaluate:evaluate_translation",
    title="Translation",
    shown=(
        *(
            "psnr",
            "ssim",
            "crps",
            "ms_ssim_to_target",
            "psnr_single",
            "detail",
            "fid",
            "kid",
            "shift",
        ),
        *("deviation_correlation", "lesion_contrast", "lesion_contrast_error"),
    ),
)
"""Source and target show the same anatomy; prediction needs the source alone."""

TRANSLATION_UNPAIRED = Task(
    "translation",
    reads=("source", "target"),
    optional=("mask",),
    writes=("target",),
    given=("source", "target"),
    unpaired=("source", "target"),
    evaluation="radiffuse.applications.translation.evaluate:evaluate_translation",
)
"""Source and target may be of different people; a prediction goes the way its data allow."""
