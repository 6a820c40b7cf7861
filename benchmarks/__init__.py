"""What the lab claims about speed and size: one command each, run as python -m benchmarks.NAME."""
