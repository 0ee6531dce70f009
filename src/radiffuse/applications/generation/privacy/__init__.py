"""How much of its training data a generative model gives away."""
