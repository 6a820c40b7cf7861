"""Random changes of a training batch that keep its classes; each takes (x, generator) and returns a new batch."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from labkit import _check


def crop_flip(x: Tensor, generator: Generator) -> Tensor:
    """Shift by up to 4 pixels (padding repeats the border) and mirror half of the images: CIFAR's usual recipe.

    x is (n, c, h, w). One gather moves the whole batch, so no loop over images is needed.
    """
    _check.shaped(Tensor, 4, x=x)
    _check.kind(Generator, generator=generator)
    n, _, h, w = x.shape
    top, left = torch.randint(9, (2, n, 1), generator=generator)
    columns = left + torch.arange(w)  # (n, w)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows = top + torch.arange(h)  # (n, h)
    padded = F.pad(x, (4, 4, 4, 4), mode="replicate")
    image = torch.arange(n)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return moved.permute(0, 3, 1, 2)


def affine(x: Tensor, generator: Generator, strength: float = 1.0) -> Tensor:
    """Rotate, stretch, shear and shift each image of x (n, c, h, w) a little: the usual recipe for handwritten digits.

    At `strength` 1, up to 12 degrees, 12 %, 15 % and 8 % of the picture's half width, each drawn uniformly with both
    signs; other values, in [0, 3], are multiples of that. New areas at the border get the value of the darkest pixel.
    """
    _check.shaped(Tensor, 4, x=x)
    _check.kind(Generator, generator=generator)
    _check.number("strength", strength, 0, 3)
    turn, wide, high, slant, right, down = strength * (2 * torch.rand(6, len(x), generator=generator) - 1)
    cos, sin = (turn * math.radians(12)).cos(), (turn * math.radians(12)).sin()
    wide, high = 1 + 0.12 * wide, 1 + 0.12 * high
    across = torch.stack([cos * wide, 0.15 * slant - sin * high, 0.16 * right], 1)
    upright = torch.stack([sin * wide, cos * high, 0.16 * down], 1)
    grid = F.affine_grid(torch.stack([across, upright], 1), list(x.shape), align_corners=False)
    dark = x.min()
    return F.grid_sample(x - dark, grid, align_corners=False) + dark
