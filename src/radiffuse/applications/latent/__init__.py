"""What methods share that diffuse the codes of an auto-encoder in place of images."""
