"""Code used by notebook 01 only."""
