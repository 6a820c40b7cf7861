"""Knowledge distillation: a small network is trained to match a large network's outputs (Hinton, Vinyals & Dean 2015).

    L = α · T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) + (1 - α) · CE(z_s, y)

The teacher is evaluated once and its logits are kept. This is not possible for images that change at every step: train
with `fit(…, augment=…, loss=losses.distillation(teacher))`. A hint may be added: ½ ‖u - r(v)‖² between a hidden layer
of each (Romero et al. 2015).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from labkit import _check
from labkit._module import evaluating, fastest_layout, logits_of, unwrapped
from labkit.data import Split
from labkit.losses import Loss, check_distillation, distance, mixed_loss, output_of, watching
from labkit.train import Interrupted, fit, hooks_of


@torch.no_grad()
def teacher_outputs(teacher: nn.Module, x: Tensor, batch_size: int = 250, layer: str = "") -> Tensor:
    """Teacher logits (n, classes), or the activations of the teacher's `layer`, for images x; in evaluation mode."""
    _check.kind(nn.Module, teacher=teacher)
    _check.filled(x=x)
    _check.kind(str, layer=layer)
    batch_size = _check.whole("batch_size", batch_size, 1, 2**31)
    teacher, layout = unwrapped(teacher), fastest_layout(teacher, x)
    with evaluating(teacher):
        ask = partial(output_of, teacher, layer) if layer else partial(logits_of, teacher)
        return torch.cat([ask(batch.clone(memory_format=layout)) for batch in x.split(batch_size)])


@dataclass(frozen=True)
class Hint:
    """Activations of a layer of the teacher that a hidden layer of the student is to match (Romero et al. 2015).

    `wanted` (n, …) is `teacher_outputs(teacher, train.x, layer=…)`, `layer` names a layer of the student, `weight` ≥ 0
    is the factor of ½ ‖wanted - r(given)‖² in the loss.
    """

    wanted: Tensor
    layer: str
    weight: float

    def __post_init__(self) -> None:
        _check.kind(Tensor, wanted=self.wanted)
        _check.finite("hint.wanted", self.wanted)
        _check.kind(str, layer=self.layer)
        _check.number("hint.weight", self.weight, 0, float("inf"), open_high=True)


def distill(
    student: nn.Module,
    train: Split,
    *,
    teacher: nn.Module | Tensor,
    temperature: float = 4.0,
    alpha: float = 0.9,
    hint: Hint | None = None,
    **settings: Any,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a copy of `student` on the logits of `teacher` for the images of `train`; return it and fit's history.

    L = α · T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) + (1 - α) · CE(z_s, y) (Hinton, Vinyals & Dean 2015). Without
    a hint the student is the same as with fit(loss=losses.distillation(teacher)), in less time.

    Args:
        student: the network to train.
        train: images and labels to train on.
        teacher: a network, which does not change, or its logits (n, classes) for train.x (see `teacher_outputs`).
        temperature: T > 0 softens both distributions.
        alpha: α in [0, 1] is the weight of the teacher's term: with 1, labels are not used.
        hint: trains a hidden layer as well (Romero et al. 2015).
        **settings: those of `fit` (epochs, lr, seed, validation, …) except loss and augment.

    Returns:
        The trained copy of `student`, and the history of `fit`.

    Raises:
        ValueError: a setting is out of range, or logits have another shape.
        Interrupted: Ctrl-C, as in `fit`; it holds the student and the history so far.

    Example:
        >>> data, how = lk.load_data("digits"), dict(alpha=1, epochs=1, lr=0.01, progress=False)
        >>> teacher, student = lk.models.mlp(64, 100, 10), lk.models.mlp(64, 8, 10)
        >>> small, _ = lk.distill(student, data.train, teacher=teacher, **how)
        >>> unlabelled = lk.Split(data.train.x, torch.zeros_like(data.train.y))
        >>> again, _ = lk.distill(student, unlabelled, teacher=teacher, **how)
        >>> again[1].weight.equal(small[1].weight), student[1].weight.equal(small[1].weight)  # no label was used
        (True, False)
    """
    check_distillation(temperature, alpha)
    if taken := {"loss", "augment"} & settings.keys():
        raise ValueError(f"{min(taken)} is set by distillation; allowed: the other settings of fit")
    _check.kind(nn.Module, student=student)
    _check.kind(nn.Module | Tensor, teacher=teacher)
    _check.kind(Split, train=train)
    _check.kind(Hint | None, hint=hint)
    logits = teacher.detach() if isinstance(teacher, Tensor) else teacher_outputs(teacher, train.x)
    if logits.ndim != 2 or len(logits) != len(train):
        raise ValueError(f"teacher has the shape {tuple(logits.shape)}; allowed: logits ({len(train)}, classes)")
    _check.finite("teacher", logits)
    beside, loss = with_logits(train, logits, temperature, alpha)
    if hint is None:
        return fit(student, beside, loss=loss, **settings)
    _check_hint(hint, train)
    hooks = hooks_of(settings.get("after_step", ()))  # they get the student, without the regressor
    settings["after_step"] = lambda model, step: [hook(model.student, step) for hook in hooks]
    beside, loss = _with_hint(beside, loss, hint)
    pair = guided(student, hint, train.x, settings.get("seed", 0))
    try:
        model, history = fit(pair, beside, loss=loss, **settings)
    except Interrupted as stop:
        stop.model = stop.model.get_submodule("student")
        raise
    return model.get_submodule("student"), history


class Guided(nn.Module):
    """A student, and the regressor r that maps one of its layers to the shape of a hint; its logits do not use r."""

    def __init__(self, student: nn.Module, regressor: nn.Module) -> None:
        super().__init__()
        self.student, self.regressor = student, regressor

    def forward(self, x: Tensor) -> Tensor:
        """Images to the logits (n, classes) of the student."""
        return self.student(x)


def guided(student: nn.Module, hint: Hint, x: Tensor, seed: int = 0) -> Guided:
    """`student` with a linear regressor from its `hint.layer` to `hint.wanted`, initialized with `seed`.

    Between feature maps of the same size it is a 1×1 convolution. ValueError for other layers.
    """
    student = unwrapped(student)
    given, wanted = teacher_outputs(student, x[:1], layer=hint.layer), hint.wanted
    if given.ndim not in (2, 4) or given.ndim != wanted.ndim or given.shape[2:] != wanted.shape[2:]:
        shapes = f"{tuple(given.shape[1:])} where the hint has {tuple(wanted.shape[1:])}"
        raise ValueError(f"layer {hint.layer!r} gives {shapes}; allowed: two vectors, or two maps of one size")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = given.shape[1], wanted.shape[1]
        return Guided(student, nn.Linear(*widths) if given.ndim == 2 else nn.Conv2d(*widths, kernel_size=1))


def _with_hint(train: Split, rest: Loss, hint: Hint) -> tuple[Split, Loss]:
    """The split and the loss of `with_logits`, with hint.wanted added to both, for a Guided student."""
    wanted = hint.wanted.flatten(1)
    width = wanted.shape[1]

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with watching(model, f"student.{hint.layer}") as seen:
            value = rest(model, x[:, :-width], y)
        given = model.get_submodule("regressor")(seen[0])
        return value + hint.weight * distance(x[:, -width:], given.flatten(1))

    return Split(torch.cat([train.x, wanted], 1), train.y), loss


def with_logits(train: Split, logits: Tensor, temperature: float, alpha: float) -> tuple[Split, Loss]:
    """A split with the teacher logits `logits` (n, classes) appended to each flattened image, and the loss for it.

    A loss gets only x and y, so the logits have to be in x. Give both to `fit`, or to a function that calls it.
    """
    shape, classes = train.x.shape[1:], logits.shape[1]
    beside = Split(torch.cat([train.x.flatten(1), logits], 1), train.y)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        images = x[:, :-classes].reshape(-1, *shape).to(train.x.dtype)
        return mixed_loss(logits_of(model, images), x[:, -classes:], y, temperature, alpha)

    return beside, loss


def best_offset(logits: Tensor, y: Tensor, label: int, offsets: Tensor) -> float:
    """The one of `offsets` with the highest accuracy when added to the logit of class `label`; logits (n, classes).

    Among equally good ones, the first. A class that the student never saw has too low a bias (Hinton, Vinyals & Dean
    2015, section 3). `logits` and `y` should be of images that no reported result uses.
    """
    _check.shaped(Tensor, 1, offsets=offsets)
    _check.shaped(Tensor, 2, logits=logits)
    _check.labels(y, logits)
    right = [int((raise_logit(logits, label, float(offset)).argmax(1) == y).sum()) for offset in offsets]
    return float(offsets[right.index(max(right))])


def raise_logit(logits: Tensor, label: int, offset: float) -> Tensor:
    """The logits (n, classes) with `offset` added to those of class `label`, as with a higher bias."""
    _check.shaped(Tensor, 2, logits=logits)
    _check.whole("label", label, 0, logits.shape[1] - 1)
    _check.numbers(offset=offset)
    raised = logits.clone()
    raised[:, label] += offset
    return raised


def _check_hint(hint: Hint, train: Split) -> None:
    if len(hint.wanted) != len(train):
        raise ValueError(f"hint.wanted has the length {len(hint.wanted)}; allowed: that of train, {len(train)}")
