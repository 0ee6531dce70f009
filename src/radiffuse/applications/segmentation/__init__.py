"""Segmentation: the label of every voxel, drawn as often as one likes."""
