"""Step 5: one self-contained page a run."""
