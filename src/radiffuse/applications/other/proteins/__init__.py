"""Protein backbones: chains of C-alpha atoms, and scaffolds around a motif."""
