"""Code used by notebook 13 only."""
