"""Code used by notebook 12 only."""
