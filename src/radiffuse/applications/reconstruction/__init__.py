"""Reconstruction: images from measurements, by a prior learned from images alone."""
