"""Step 4: predictions as distributions, metrics with intervals, calibration."""
