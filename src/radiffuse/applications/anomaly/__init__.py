"""Anomaly detection: what of an image differs from its healthy counterpart."""
