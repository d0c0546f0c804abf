"""Step 4: the trainer, its checkpoints, runtime and energy."""
