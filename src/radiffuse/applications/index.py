"""Which methods have a recipe, and where. Imports a recipe (and torch) only when it is asked for."""

import importlib
from typing import Any

__all__ = ["IMPLEMENTED", "find"]

RECIPES: tuple[tuple[str, str], ...] = (
    ("ddpm", "radiffuse.applications.generation.ddpm:DDPM"),
    ("ncsn", "radiffuse.applications.generation.ncsn:NCSN"),
    ("sde", "radiffuse.applications.generation.sde:SDE"),
    ("anoddpm", "radiffuse.applications.anomaly.anoddpm:AnoDDPM"),
    ("diff-scm", "radiffuse.applications.anomaly.diff_scm:DiffSCM"),
    ("swiss-army", "radiffuse.applications.anomaly.swiss_army:SwissArmy"),
    ("diffusion-anomaly", "radiffuse.applications.anomaly.diffusion_anomaly:DiffusionAnomaly"),
    ("score-inverse", "radiffuse.applications.reconstruction.score_inverse:ScoreInverse"),
    ("score-mri", "radiffuse.applications.reconstruction.score_mri:ScoreMRI"),
    ("mcg", "radiffuse.applications.reconstruction.mcg:MCG"),
    ("r2d2", "radiffuse.applications.other.r2d2:R2D2"),
    ("bayes-mri", "radiffuse.applications.reconstruction.bayes_mri:BayesMRI"),
    ("diffuse-recon", "radiffuse.applications.reconstruction.diffuse_recon:DiffuseRecon"),
    ("ddpm-conversion", "radiffuse.applications.translation.ddpm_conversion:Conversion"),
    (
        "segmentation-ensembles",
        "radiffuse.applications.segmentation.segmentation_ensembles:SegmentationEnsembles",
    ),
    ("syndiff", "radiffuse.applications.translation.syndiff:SynDiff"),
    ("diffusemorph", "radiffuse.applications.registration.diffusemorph:DiffuseMorph"),
    ("ddm", "radiffuse.applications.registration.ddm:DDM"),
    ("oct-ddpm", "radiffuse.applications.denoising.oct_ddpm:OCT"),
    ("pet-ddpm", "radiffuse.applications.denoising.pet_ddpm:PET"),
    ("diffmic", "radiffuse.applications.classification.diffmic:DiffMIC"),
)

IMPLEMENTED: tuple[str, ...] = tuple(name for name, _ in RECIPES)


def find(method: str) -> type[Any]:
    """The recipe class of a method.

    Raises:
        KeyError: the method has no recipe.
    """
    module, _, name = dict(RECIPES)[method].partition(":")
    return getattr(importlib.import_module(module), name)
