"""Code used by notebook 03 only."""
