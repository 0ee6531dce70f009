"""Data that come with the library: brains of the MNI template, moved pairs of them, and made shapes."""
