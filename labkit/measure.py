"""Measure a model: accuracy with its interval, bytes of its file, parameters, MACs, latency - one flat record.

A list of records is a table: `pandas.DataFrame([measure(m, data.validation) for m in models])`.
"""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labkit import _check, store
from labkit.compress import _weights
from labkit.data import Split
from labkit.train import count_correct, evaluating, predict


def wilson(correct: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high): Wilson's score interval for a share of `correct` among `images` (Wilson 1927).

    (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n), with z the normal quantile of `confidence`. Unlike p ± z·σ it
    never leaves [0, 1] and keeps its width when nothing, or everything, is right.
    """
    _check.whole("images", images, 1, 2**62)
    _check.whole("correct", correct, 0, images)
    _check.number("confidence", confidence, 0, 1, open_low=True, open_high=True)
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), correct / images
    centre, spread = p + z * z / (2 * images), z * math.sqrt(p * (1 - p) / images + (z / (2 * images)) ** 2)
    low, high = ((centre + sign * spread) / (1 + z * z / images) for sign in (-1, 1))
    return max(0.0, min(low, p)), min(1.0, max(high, p))  # rounding must not push an end past 0, 1 or p


def accuracy(model: nn.Module, split: Split) -> dict[str, float]:
    """Share of `split` that is classified right: accuracy, accuracy_low and accuracy_high (95 %), correct, images."""
    correct = count_correct(model, split)
    low, high = wilson(correct, len(split))
    shares = dict(accuracy=correct / len(split), accuracy_low=low, accuracy_high=high)
    return shares | dict(correct=correct, images=len(split))


def size_bytes(model: nn.Module) -> int:
    """The length of the `.lk` file that `save` writes."""
    return len(store.encode(model))


def counts(model: nn.Module) -> dict[str, float]:
    """Parameters, those that are not zero, and the sparsity of the weights (biases and BatchNorm not counted)."""
    weights = _weights.weights(model).values()
    dense = list(_weights.plain(model).parameters())
    zeros = sum(int((w == 0).sum()) for w in weights)
    return dict(
        parameters=sum(p.numel() for p in dense),
        nonzeros=sum(int(p.count_nonzero()) for p in dense),
        sparsity=zeros / max(1, sum(w.numel() for w in weights)),
    )


@torch.no_grad()
def macs(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds for one `image` of shape (channels, height, width); zeros count, as dense kernels multiply them."""
    with evaluating(model), _attention_written_out(), FlopCounterMode(display=False) as counter:
        model(image[None])
    return counter.get_total_flops() // 2


@contextmanager
def _attention_written_out() -> Iterator[None]:
    """Attention as matrix products inside the block: the counter knows none of the fused kernels of a processor."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@torch.inference_mode()
def latency_ms(model: nn.Module, images: Tensor, repeats: int = 20) -> float:
    """Median wall-clock milliseconds of one forward pass over the batch `images`, after two passes to warm up."""
    _check.whole("repeats", repeats, 1, 100_000)
    times = []
    with evaluating(model):
        for _ in range(repeats + 2):
            started = time.perf_counter()
            model(images)
            times.append(time.perf_counter() - started)
    return statistics.median(times[2:]) * 1e3


def measure(model: nn.Module, split: Split, *, latency_batch: int = 1) -> dict[str, float]:
    """Everything about a model as one flat record, accuracy on `split`, latency on its first `latency_batch` images.

    Latency is that of this machine with torch's current number of threads, which the record names.
    """
    _check.module("model", model)
    _check.whole("latency_batch", latency_batch, 1, len(split))
    cost = dict(
        size_bytes=size_bytes(model),
        macs=macs(model, split.x[0]),
        latency_ms=latency_ms(model, split.x[:latency_batch]),
        latency_batch=latency_batch,
        threads=torch.get_num_threads(),
    )
    return accuracy(model, split) | counts(model) | cost


def mcnemar(lost: int, won: int) -> float:
    """Exact p-value that two models are equally good, from the images on which they differ (McNemar 1947).

    `lost` images only the first got right, `won` only the second: 2 · P(Binomial(lost + won, ½) ≤ min(lost, won)).
    """
    _check.whole("lost", lost, 0, 2**31)
    _check.whole("won", won, 0, 2**31)
    n = torch.tensor(lost + won, dtype=torch.float64)
    k = torch.arange(min(lost, won) + 1, dtype=torch.float64)
    log_choose = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return min(1.0, 2 * float(torch.exp(log_choose - n * math.log(2)).sum()))


def compare(before: nn.Module, after: nn.Module, split: Split) -> dict[str, float]:
    """Two models on the same images: how many only `before` gets right (lost), only `after` (won), and McNemar's p.

    Intervals of two accuracies may overlap although one model is plainly worse; image by image it shows.
    """
    right_before, right_after = (predict(model, split.x) == split.y for model in (before, after))
    lost, won = int((right_before & ~right_after).sum()), int((~right_before & right_after).sum())
    return dict(lost=lost, won=won, p=mcnemar(lost, won))
