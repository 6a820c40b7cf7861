"""Code that only notebook 07 uses."""
