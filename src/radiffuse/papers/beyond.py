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
    Paper(
        "vae", None,
        "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images",
        "Child R",
        "International Conference on Learning Representations (ICLR), 2021 (arXiv:2011.10650)", 2021,
        "generation", "any", "any", "VAE",
        arxiv("2011.10650"), recipe("generation.vae:VAE"), beyond="family"),
    Paper(
        "flow", None, "Normalizing Flows are Capable Generative Models",
        "Zhai S, Zhang R, Nakkiran P, Berthelot D, Gu J, Zheng H, Chen T, Bautista MA, Jaitly N, Susskind J",
        "arXiv:2412.06329, 2024", 2024,
        "generation", "any", "any", "normalizing flow",
        arxiv("2412.06329"), recipe("generation.flow:Flow"), beyond="family"),
    Paper(
        "ebm", None, "Implicit Generation and Modeling with Energy-Based Models",
        "Du Y, Mordatch I",
        "Advances in Neural Information Processing Systems (NeurIPS) 32, 2019 (arXiv:1903.08689)", 2019,
        "generation", "any", "any", "energy",
        arxiv("1903.08689"), recipe("generation.ebm:EBM"), beyond="family"),
)  # fmt: skip
