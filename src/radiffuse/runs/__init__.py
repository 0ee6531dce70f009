"""Run folders: what made a model and what it learned."""
