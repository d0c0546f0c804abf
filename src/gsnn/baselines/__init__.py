"""Step 4: the classical methods that a sceptic demands."""
