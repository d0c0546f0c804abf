"""Step 5: what the network looks at."""
