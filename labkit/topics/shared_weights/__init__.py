"""Code used by notebook 02b only."""
