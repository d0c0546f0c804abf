"""Step 4: what is learned, one file each."""
