"""Images to calibrate with, whose labels nobody reads."""

import torch

from labkit.data import Split


def unlabelled(x: torch.Tensor) -> Split:
    """A split of the images x, all of class 0."""
    return Split(x, torch.zeros(len(x), dtype=torch.long))
