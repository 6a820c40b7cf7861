"""Losses of one shape: loss(model, x, y) -> scalar. `fit` accepts any of them."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean over the batch of -log softmax(model(x))[y]."""
    return F.cross_entropy(model(x), y)


def cross_entropy_bf16(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with the matrix products in bfloat16: faster where the processor has them."""
    with torch.autocast("cpu", torch.bfloat16):
        return F.cross_entropy(model(x), y)


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), mean over the batch, of logits (n, classes).

    Its gradient shrinks as 1/T²; the factor T² keeps it in step with that of the labels, whatever T is
    (Hinton, Vinyals & Dean 2015, section 2).
    """
    log_p, log_q = F.log_softmax(teacher / temperature, 1), F.log_softmax(student / temperature, 1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def mixed_loss(student: Tensor, teacher: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
    """α · soft_loss + (1 - α) · cross-entropy with the labels y (n,), of logits (n, classes)."""
    return alpha * soft_loss(student, teacher, temperature) + (1 - alpha) * F.cross_entropy(student, y)


def distillation(teacher: nn.Module, temperature: float = 4.0, alpha: float = 0.9) -> Loss:
    """A loss for `fit` that teaches the student what `teacher` says of each image (Hinton, Vinyals & Dean 2015).

    `temperature` > 0 softens both distributions, `alpha` in [0, 1] is the teacher's share; the rest is cross-entropy.
    A copy of the teacher, in evaluation mode and without gradients, sees the same images as the student, augmented
    ones too. ValueError for settings out of range.
    """
    check_distillation(temperature, alpha)
    _check.module("teacher", teacher)
    teacher = copy.deepcopy(teacher).eval()

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            said = teacher(x)
        return mixed_loss(model(x), said, y, temperature, alpha)

    return loss


def check_distillation(temperature: float, alpha: float) -> None:
    """Refuse a temperature that is not positive and a share outside [0, 1]."""
    _check.number("temperature", temperature, 0, float("inf"), open_low=True, open_high=True)
    _check.number("alpha", alpha, 0, 1)


def hint(teacher: nn.Module, teacher_layer: str, student_layer: str, regressor: str = "") -> Loss:
    """A loss for `fit` that draws a layer of the student to a layer of `teacher` (FitNets, Romero et al. 2015, eq. 3).

    ½ ‖u - r(v)‖², mean over the batch, with u and v the outputs of the named layers. `regressor` names a submodule r of
    the student, such as an nn.Linear, that takes v to the shape of u and is trained along; without one r(v) = v. The
    labels are not used. ValueError for a layer that does not exist and for shapes that differ.
    """
    _check.module("teacher", teacher)
    _check.one_of("teacher_layer", teacher_layer, dict(teacher.named_modules()))
    teacher = copy.deepcopy(teacher).eval()

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = _output(teacher, teacher_layer, x)
        given = _output(model, student_layer, x)
        given = model.get_submodule(regressor)(given) if regressor else given
        if given.shape != wanted.shape:
            shapes = f"{tuple(given.shape[1:])} where {teacher_layer!r} of the teacher gives {tuple(wanted.shape[1:])}"
            raise ValueError(f"student_layer {student_layer!r} gives {shapes}; allowed: equal shapes, by a regressor")
        return (wanted - given).square().sum() / (2 * len(x))

    return loss


def _output(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """What a layer gives while `model` sees x."""
    _check.one_of("layer", layer, dict(model.named_modules()))
    seen: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(x)
    hook.remove()
    return seen[0]
