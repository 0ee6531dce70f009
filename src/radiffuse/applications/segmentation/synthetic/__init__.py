"""Segmentation learned from pairs that are made: label maps, images painted on them, the segmenter."""
