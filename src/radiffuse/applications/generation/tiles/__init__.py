"""Tiles of histology by their class: what stands beside them, and how they are measured."""
