"""Learning to reconstruct from undersampled scans alone."""
