"""One training loop for every method: players, averages of weights, checkpoints, several processes."""
