"""Forward models of the sky, one file each; every one is a Source with its truth."""
