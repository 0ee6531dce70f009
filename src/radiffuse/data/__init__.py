"""Medical images as data: opening, checking, splitting, reading and writing."""
