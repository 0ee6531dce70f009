"""Metrics: what is measured, with its uncertainty. Tensors in, plain JSON-able numbers out."""
