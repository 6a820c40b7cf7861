"""What serves notebook 10b only."""
