"""Denoising: an image from a noisy one of the same anatomy."""
