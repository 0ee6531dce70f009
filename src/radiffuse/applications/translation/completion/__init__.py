"""Completion: whatever contrasts a case lacks, from those it has."""
