"""Networks that several store tests write: every kind of part in a few bytes."""

import torch
from torch import nn

from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from tests.unlabelled import unlabelled


def tiny(seed: int = 0) -> nn.Module:
    """A net of every kind of part: convolution, BatchNorm with its int64 counter, bias, a pruned linear layer."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3))
    net(torch.randn(8, 1, 6, 6))
    return net.eval()


def small(seed: int = 0) -> nn.Module:
    """`tiny`, pruned and quantized, activations too."""
    net = quantize(prune(tiny(seed), 0.8), 3, activation_bits=8, calibration=unlabelled(torch.randn(8, 1, 6, 6)))
    return net.eval()
