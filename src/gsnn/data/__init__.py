"""Step 2: surveys, readers, splits, streams and transforms. Knows no network."""
