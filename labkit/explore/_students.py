"""The students of notebook 03's panel: one network, trained alone or with a teacher, step by step in sight."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labkit.compress.distill import distill
from labkit.data import Data, Split, take
from labkit.explore._score import Score, scores
from labkit.explore._training import paced
from labkit.measure import size_bytes
from labkit.models import mlp
from labkit.train import fit

FEW = 2_000  # labelled images at most, where labels are few
BUDGET = 3  # epochs over the whole training set; as many steps for a smaller one
BATCH = 128


@dataclass(frozen=True)
class Student:
    """A student during its training, at the share `done` of it, or behind it: its curve, and where it stands."""

    taught: bool
    setting: str
    curve: tuple[tuple[float, float], ...]  # (share done, validation accuracy)
    score: Score
    size_bytes: int

    @property
    def done(self) -> float:
        """The share of the training that is behind it."""
        return self.curve[-1][0]


@functools.cache
def untrained(inputs: int, width: int, classes: int) -> nn.Module:
    """The student before its first step, the same one whoever teaches it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mlp(inputs, width, classes)


def training_set(train: Split, labels: str, taught: bool, temperature: float, alpha: float) -> tuple[Split, float, str]:
    """What a student is trained on, the teacher's share α, and both in words."""
    few = take(train, min(FEW, len(train) // 2))
    if labels == "mixed" and taught:  # most of these images have no label, so the teacher's is the only word
        return train, 1.0, f"T = {temperature:g}, {len(train):,} images, no label"
    used = train if labels == "all" else few
    told = f"T = {temperature:g}, α = {alpha:g}, " if taught else ""
    return used, alpha, f"{told}{len(used):,} labels"


def train_student(
    student: nn.Module,
    data: Data,
    settings: dict[str, Any],
    said: Tensor | None,
    show: Callable[[Student], None],
    overtaken: Callable[[], bool],
) -> Student | None:
    """Train a student at the panel's `settings`, alone or on the answers `said`; None if it was overtaken."""
    taught, temperature = said is not None, settings["temperature"]
    train, alpha, told = training_set(data.train, settings["labels"], taught, temperature, settings["alpha"])
    curve: list[tuple[float, float]] = []

    def at(model: nn.Module, progress: float) -> Student:
        *_, score = scores(model, data.validation)
        curve.append((progress, score.accuracy))
        return Student(taught, f"{told}, width {settings['width']}", tuple(curve), score, size_bytes(model))

    epochs = max(1, round(BUDGET * len(data.train) / len(train)))
    how: dict[str, Any] = dict(epochs=epochs, lr=3e-3, batch_size=min(BATCH, len(train)), progress=False)
    how |= dict(after_step=paced(lambda model, progress: show(at(model, progress)), 0.2), cancel=overtaken)
    if said is None:
        model, history = fit(student, train, **how)
    else:
        model, history = distill(said, student, train, temperature=temperature, alpha=alpha, **how)
    return None if history.attrs["cancelled"] else at(model, 1.0)
