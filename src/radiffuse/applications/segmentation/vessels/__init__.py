"""Vessels found without labels: the task, what is learned from, what it stands beside."""
