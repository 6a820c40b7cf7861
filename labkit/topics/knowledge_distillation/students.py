"""The students of notebook 03's panel: one network, trained alone or distilled, and shown while it trains."""

import functools
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from labkit import store
from labkit.compress.distill import distill
from labkit.data import Data, Split, take
from labkit.live.score import scores
from labkit.live.training import paced
from labkit.models import mlp
from labkit.topics.knowledge_distillation.lesson import FEW, Settings, Student
from labkit.train import fit

BUDGET = 3  # epochs over all training images; the same number of steps for fewer images
BATCH = 128


@functools.cache
def untrained(inputs: int, width: int, classes: int) -> nn.Module:
    """The student before training, the same with and without a teacher."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mlp(inputs, width, classes)


@functools.cache
def student_bytes(inputs: int, width: int, classes: int) -> int:
    """The size of a student's file; training does not change it."""
    return len(store.encode(untrained(inputs, width, classes)))


def images(train: Split, labels: str, distilled: bool) -> int:
    """How many of the training images a student is trained on."""
    return len(train) if labels == "all" or (labels == "mixed" and distilled) else min(FEW, len(train) // 2)


def training_set(train: Split, settings: Settings, distilled: bool) -> tuple[Split, str]:
    """The images a student is trained on, and in words what it learns from."""
    used = take(train, images(train, settings.labels, distilled))
    if not distilled:
        return used, f"{len(used):,} labels"
    taught = f"T = {settings.temperature:g}"
    if settings.labels == "mixed":  # most of these images have no label, only the teacher's predictions
        return used, f"{taught}, {len(used):,} unlabelled"
    return used, f"{taught}, α = {settings.alpha:g}, {len(used):,} labels"


def schedule(train: Split, used: int) -> dict[str, Any]:
    """Settings of `fit` on `used` images, with as many steps as BUDGET epochs over all of `train`."""
    return dict(epochs=max(1, round(BUDGET * len(train) / used)), lr=3e-3, batch_size=min(BATCH, used))


def train_student(
    data: Data,
    classes: int,
    settings: Settings,
    teacher_logits: Tensor | None,
    show: Callable[[Student], None],
    overtaken: Callable[[], bool],
) -> Student | None:
    """Train a student at the panel's effective `settings`, alone (no logits) or distilled; None if overtaken."""
    train, trained_on = training_set(data.train, settings, teacher_logits is not None)
    student = untrained(data.train.prototype.shape[1:].numel(), settings.width, classes)
    curve: list[tuple[float, float]] = []

    def at(model: nn.Module, progress: float) -> Student:
        *_, score = scores(model, data.validation)
        curve.append((progress, score.accuracy))
        return Student(teacher_logits is not None, settings, trained_on, tuple(curve), score)

    how = schedule(data.train, len(train)) | dict(progress=False, cancel=overtaken)
    how["after_step"] = paced(lambda model, progress: show(at(model, progress)), 0.2)
    training: Callable[..., tuple[nn.Module, pd.DataFrame]] = fit
    if teacher_logits is not None:
        training = functools.partial(
            distill, teacher=teacher_logits, temperature=settings.temperature, alpha=settings.alpha
        )
    model, history = training(student, train, **how)
    return None if history.attrs["cancelled"] else at(model, 1.0)
