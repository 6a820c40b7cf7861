"""Code that only notebook 06 uses."""
