"""Adversarial purification: an image is cleaned of an attack before an unchanged classifier sees it."""
