"""Code that only notebook 13b uses."""
