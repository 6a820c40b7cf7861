"""Code used by notebook 02c only."""
