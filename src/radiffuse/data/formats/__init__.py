"""One module a file format, and the layouts that folders of files come in."""
