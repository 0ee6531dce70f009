"""The applications: which keys go in and which come out."""
