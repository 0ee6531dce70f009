"""Shapes from pictures: a volume from one picture of it."""
