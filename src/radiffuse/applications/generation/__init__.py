"""Generation: images from seeds alone, or from seeds and a class."""
