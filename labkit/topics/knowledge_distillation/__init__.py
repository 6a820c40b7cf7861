"""Code used by notebooks 03 and 03b only."""
