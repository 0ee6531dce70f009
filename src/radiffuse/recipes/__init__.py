"""One file a method: its objective and its prediction, said with the parts of the library."""
