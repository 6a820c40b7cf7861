"""Measured figures in words: cards (label, value, note), the status line, the alt text."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit import drawing
from labkit.data import Data
from labkit.live.controls import sentence_of
from labkit.live.score import Score
from labkit.live.view import Card
from labkit.significance import difference, mcnemar


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


def setting(dense: Any, settings: Any, view: Any) -> str:
    """The network and its settings in words; controls that change nothing are left out."""
    values = dataclasses.asdict(settings)
    return f"{dense.name}, {sentence_of(settings, view.idle(values))}"


def cut(text: str, letters: int) -> str:
    """A text of at most so many letters, an ellipsis for the rest."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def count(number: int, one: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def measured(what: str, row: Mapping[Any, Any], note: str = "measured beforehand") -> str:
    """A row of a sweep in words: what it is, its accuracy and size, and how it was measured."""
    return f"{what}: {row['accuracy']:.2%}, {drawing.kilobytes(row['size_bytes'])}\n{note}"


def finding(dense: Score, small: Score, ratio: float) -> str:
    """What was found, in a line: how much smaller, and how many images it costs."""
    smaller = f"{ratio:.3g}× smaller" if ratio >= 1 else f"{1 / ratio:.3g}× larger"
    worse = round(dense.accuracy * small.images) - small.correct
    if not worse:
        return f"{smaller}, no {small.what} worse"
    said = count(abs(worse), small.what.removesuffix("s"))
    return f"{smaller}, {said} better" if worse < 0 else f"{smaller}, {said} worse, 1 in {small.images / worse:.0f}"


def difference_words(pinned: Any, now: Any) -> str:
    """How a result differs from a pinned one of the same data: accuracy with its paired 95 % interval, and bytes."""
    before, after = score_of(pinned), score_of(now)
    said = []
    if before and after and pinned.dense.data is now.dense.data:
        lost, won = (len(v) for v in flips_of(before, after, now.dense.data.validation.y))
        d, low, high = (-100 * v for v in difference(lost, won, min(before.images, after.images)))
        said.append(f"accuracy {d:+z.2f} points (95 %: {high:+z.2f} to {low:+z.2f})")
    sizes = [getattr(one, "size_bytes", 0) for one in (pinned, now)]
    if all(sizes):
        said.append(
            f"file {sizes[0] / sizes[1]:.2f}× smaller"
            if sizes[1] <= sizes[0]
            else f"file {sizes[1] / sizes[0]:.2f}× larger"
        )
    return ", ".join(said)


def score_of(result: Any) -> Score | None:
    """The score of a result, or of its run."""
    found = getattr(result, "score", None) or getattr(getattr(result, "run", None), "score", None)
    return found if isinstance(found, Score) else None
