"""Methods beyond the survey's papers: the families it sets beside diffusion (its figure 2), and fewer steps.

They are trained, sampled and measured as all others are; the survey's 31 papers stay 31.
"""

from .row import Paper, arxiv, recipe

__all__ = ["BEYOND"]

BEYOND: tuple[Paper, ...] = (
    Paper(
        "gan", None, "The GAN is dead; long live the GAN! A Modern GAN Baseline",
        "Huang Y, Gokaslan A, Kuleshov V, Tompkin J",
        "Advances in Neural Information Processing Systems (NeurIPS) 37, 2024 (arXiv:2501.05441)", 2024,
        "generation", "any", "any", "GAN",
        arxiv("2501.05441"), recipe("generation.gan:GAN"), beyond="family"),
)  # fmt: skip
