"""Images that come with the library: brains of the MNI template, moved pairs of them."""
