"""The honest baseline of each task: the simplest method that a diffusion model has to beat."""
