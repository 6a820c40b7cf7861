"""Code used by notebook 02 only."""
