"""Code used by notebook 10 only."""
