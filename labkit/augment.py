"""Random changes of a training batch that leave its classes true; each takes (x, generator) and returns a new batch."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def crop_flip(x: Tensor, generator: Generator) -> Tensor:
    """Shift by up to 4 pixels (padding repeats the border) and mirror half of the images: CIFAR's usual recipe.

    x is (n, c, h, w). One gather moves the whole batch, so no loop over images is needed.
    """
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
