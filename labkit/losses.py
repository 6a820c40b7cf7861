"""Losses of one shape: loss(model, x, y) -> scalar. `fit` accepts any of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean over the batch of -log softmax(model(x))[y]."""
    return F.cross_entropy(model(x), y)


def cross_entropy_bf16(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with the matrix products in bfloat16: faster where the processor has them."""
    with torch.autocast("cpu", torch.bfloat16):
        return F.cross_entropy(model(x), y)
