"""Step 3: networks, one family a file. Imports nothing of gsnn but models and the schema."""
