"""Which methods have a recipe, and where. Imports a recipe (and torch) only when it is asked for."""

import importlib
from typing import Any

__all__ = ["IMPLEMENTED", "find"]

RECIPES: tuple[tuple[str, str], ...] = (
    ("ddpm", "radiffuse.recipes.ddpm:DDPM"),
    ("ncsn", "radiffuse.recipes.ncsn:NCSN"),
    ("sde", "radiffuse.recipes.sde:SDE"),
    ("anoddpm", "radiffuse.recipes.anoddpm:AnoDDPM"),
    ("diff-scm", "radiffuse.recipes.diff_scm:DiffSCM"),
    ("swiss-army", "radiffuse.recipes.swiss_army:SwissArmy"),
    ("diffusion-anomaly", "radiffuse.recipes.diffusion_anomaly:DiffusionAnomaly"),
    ("score-inverse", "radiffuse.recipes.score_inverse:ScoreInverse"),
    ("score-mri", "radiffuse.recipes.score_mri:ScoreMRI"),
    ("mcg", "radiffuse.recipes.mcg:MCG"),
    ("r2d2", "radiffuse.recipes.r2d2:R2D2"),
    ("bayes-mri", "radiffuse.recipes.bayes_mri:BayesMRI"),
    ("diffuse-recon", "radiffuse.recipes.diffuse_recon:DiffuseRecon"),
    ("ddpm-conversion", "radiffuse.recipes.ddpm_conversion:Conversion"),
    ("segmentation-ensembles", "radiffuse.recipes.segmentation_ensembles:SegmentationEnsembles"),
    ("syndiff", "radiffuse.recipes.syndiff:SynDiff"),
    ("diffusemorph", "radiffuse.recipes.diffusemorph:DiffuseMorph"),
    ("ddm", "radiffuse.recipes.ddm:DDM"),
    ("oct-ddpm", "radiffuse.recipes.oct_ddpm:OCT"),
    ("pet-ddpm", "radiffuse.recipes.pet_ddpm:PET"),
    ("diffmic", "radiffuse.recipes.diffmic:DiffMIC"),
)

IMPLEMENTED: tuple[str, ...] = tuple(name for name, _ in RECIPES)


def find(method: str) -> type[Any]:
    """The recipe class of a method.

    Raises:
        KeyError: the method has no recipe.
    """
    module, _, name = dict(RECIPES)[method].partition(":")
    return getattr(importlib.import_module(module), name)
