"""Classification: the class of an image, with a probability that tells how sure it is."""
