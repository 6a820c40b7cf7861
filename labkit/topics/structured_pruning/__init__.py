"""Code used by notebook 04 only."""
