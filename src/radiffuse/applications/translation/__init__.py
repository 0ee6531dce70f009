"""Translation: an image of one modality from an image of another."""
