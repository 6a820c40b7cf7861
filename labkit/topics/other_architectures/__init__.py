"""What serves notebook 11 only."""
