"""Knowledge distillation: a small network learns from what a large one says (Hinton, Vinyals & Dean 2015).

    L = α · T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) + (1 - α) · CE(z_s, y)

The teacher is asked once and its answers are kept. For images that change with every step there are no answers to
keep: train with `fit(…, augment=…, loss=losses.distillation(teacher))`.
"""

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from labkit import _check
from labkit.data import Split
from labkit.losses import Loss, check_distillation, mixed_loss
from labkit.train import evaluating, fit


@torch.no_grad()
def answers(teacher: nn.Module, x: Tensor, batch_size: int = 250) -> Tensor:
    """The logits (n, classes) that `teacher`, in evaluation mode, gives images x."""
    with evaluating(teacher):
        return torch.cat([teacher(batch) for batch in x.split(batch_size)])


def distill(
    teacher: nn.Module | Tensor,
    student: nn.Module,
    train: Split,
    *,
    temperature: float = 4.0,
    alpha: float = 0.9,
    **settings: Any,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a copy of `student` on the answers of `teacher` to the images of `train`; return it and fit's history.

    `teacher` is a network, left as it is, or its `answers` to train.x, logits (n, classes). `temperature` > 0 softens
    both distributions; `alpha` in [0, 1] is the teacher's share, and with 1 the labels are not used. `settings` are
    those of `fit` (epochs, lr, seed, validation, …) but for loss and augment. The same student comes out as with
    fit(loss=losses.distillation(teacher)), in less time. ValueError for settings out of range and answers of another
    shape.
    """
    check_distillation(temperature, alpha)
    said = teacher if isinstance(teacher, Tensor) else answers(_checked(teacher), train.x)
    if said.ndim != 2 or len(said) != len(train):
        raise ValueError(f"teacher has the shape {tuple(said.shape)}; allowed: logits ({len(train)}, classes)")
    _check.finite("teacher", said)
    beside, loss = with_answers(train, said, temperature, alpha)
    return fit(student, beside, loss=loss, **settings)


def with_answers(train: Split, said: Tensor, temperature: float, alpha: float) -> tuple[Split, Loss]:
    """A split in which the answers `said`, logits (n, classes), travel behind the pixels, and the loss that reads them.

    For a loss is handed no more than x and y. Give both to `fit`, or to a recipe that ends in it.
    """
    shape, classes = train.x.shape[1:], said.shape[1]
    beside = Split(torch.cat([train.x.flatten(1), said], 1), train.y)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        images = x[:, :-classes].reshape(-1, *shape).to(train.x.dtype)
        return mixed_loss(model(images), x[:, -classes:], y, temperature, alpha)

    return beside, loss


def best_offset(logits: Tensor, y: Tensor, label: int, offsets: Tensor) -> float:
    """Which of `offsets`, added to the logit of class `label`, makes most of the logits (n, classes) right.

    Of equally good ones the first. A class that the student never saw has too low a bias (Hinton, Vinyals & Dean 2015,
    section 3): `logits` and `y` should be of images that nothing is reported on.
    """
    right = [int((raise_logit(logits, label, float(offset)).argmax(1) == y).sum()) for offset in offsets]
    return float(offsets[right.index(max(right))])


def raise_logit(logits: Tensor, label: int, offset: float) -> Tensor:
    """The logits (n, classes) with `offset` added to those of class `label`: what a higher bias would give."""
    raised = logits.clone()
    raised[:, label] += offset
    return raised


def _checked(teacher: nn.Module) -> nn.Module:
    _check.module("teacher", teacher)
    return teacher
