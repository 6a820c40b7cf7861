"""Measured figures in words: cards (label, value, note), the status line, the alt text."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from labkit.data import Data
from labkit.explore._panel import Card
from labkit.explore._score import Score
from labkit.measure import mcnemar


def accuracy_card(score: Score, dense: Score) -> Card:
    """Accuracy with its interval, and the dense network's beside it."""
    low, high = score.interval
    label = "accuracy" if score.settled else f"accuracy, preview of {score.images:,} {score.what}"
    return label, f"{score.accuracy:.2%}", f"95 %: {low:.1%}–{high:.1%} · dense {dense.accuracy:.2%}"


def file_card(size: int, dense: int) -> Card:
    """The file's length in bytes, and how often it fits into the fp32 file."""
    return "file", f"{size:,} B", f"{dense / size:.1f}× smaller · fp32 {dense:,} B"


def count_card(nonzeros: int, weights: int) -> Card:
    """How many weights are left, and the sparsity that was achieved."""
    return "weights left", f"{nonzeros:,}", f"of {weights:,} · sparsity {1 - nonzeros / max(1, weights):.2%}"


def flips_of(dense: Score, small: Score, truth: Tensor) -> tuple[list[int], list[int]]:
    """Indices of the images (lost, won) by the small network, among those that both have scored."""
    n = min(dense.images, small.images)
    before, after = dense.predicted[:n] == truth[:n], small.predicted[:n] == truth[:n]
    return torch.nonzero(before & ~after).flatten().tolist(), torch.nonzero(~before & after).flatten().tolist()


def flips_card(dense: Score, small: Score, truth: Tensor) -> Card:
    """The paired comparison with the dense network, image by image."""
    lost, won = (len(v) for v in flips_of(dense, small, truth))
    p = mcnemar(lost, won)
    return f"{small.what} lost / won", f"{lost:,} / {won:,}", f"McNemar p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def has_pictures(data: Data) -> bool:
    """Whether examples are images (channels, height, width): text, tables, signals and volumes are told in words."""
    return not data.of_text and data.validation.x.ndim == 4


def pictures(data: Data, indices: list[int]) -> np.ndarray:
    """Validation images as (n, h, w, 3) in [0, 1]: 3 channels in colour, any other number as grey, their mean.

    Blank ones of data that have no pictures.
    """
    if not has_pictures(data):
        return np.ones((len(indices), 28, 28, 3))
    x = data.validation.x[indices] * data.std + data.mean
    x = x if x.shape[1] == 3 else x.mean(1, keepdim=True)
    return x.float().clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def grey_of(data: Data) -> str:
    """What has to be said of pictures whose channels are no colours; nothing of others."""
    channels = data.validation.x.shape[1]
    return f"grey: mean of {channels} channels" if has_pictures(data) and channels not in (1, 3) else ""


def letters(data: Data, numbers: Tensor) -> str:
    """Characters of a text by their numbers; a blank is ␣ and the end of a line ↵."""
    return "".join(data.classes[i] for i in numbers.flatten()).replace(" ", "␣").replace("\n", "↵")


def weights_left(values: Mapping[str, Tensor]) -> tuple[int, int]:
    """(weights that are not zero, weights): biases and BatchNorm are not counted."""
    return sum(int(torch.count_nonzero(v)) for v in values.values()), sum(v.numel() for v in values.values())


def status(score: Score, file: str = "") -> str:
    """What kind of figures these are: a preview, or settled; and what is known of the file."""
    if not score.settled:
        return f"preview on {score.images:,} of {score.total:,} validation {score.what}; settling …"
    return f"scored on all {score.total:,} validation {score.what}{file}"


def sentence(setting: str, cards: list[Card]) -> str:
    """The alt text: the setting, then every card."""
    return f"{setting}: " + "; ".join(f"{label} {value} ({note})" for label, value, note in cards)
