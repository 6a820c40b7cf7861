"""Code used by notebook 00 only."""
