"""Learning-rate schedules as plain functions: training progress in [0, 1] to a multiple of the peak learning rate."""

import math


def constant(progress: float) -> float:
    """The peak learning rate throughout."""
    return 1.0


def warmup_cosine(progress: float, warmup: float = 0.1) -> float:
    """Rise linearly over the first `warmup` of training, then follow half a cosine down to zero.

    f(p) = p / w for p < w, else (1 + cos(π (p - w) / (1 - w))) / 2 (Loshchilov & Hutter 2017, with a warm-up).
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
