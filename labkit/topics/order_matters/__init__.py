"""Code that only notebook 10b uses."""
