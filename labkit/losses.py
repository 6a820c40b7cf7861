"""Losses with one signature: loss(model, x, y) -> scalar. `fit` accepts any of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check, optim
from labkit._module import clone, lay_out_at_first_call, logits_of, running, unwrapped

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean over the batch of -log softmax(model(x))[y]."""
    return _cross_entropy(logits_of(model, x), y)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    _check.labels(y, logits)
    return F.cross_entropy(logits, y)


def cross_entropy_bf16(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with matrix products in bfloat16: faster if the processor supports it."""
    with torch.autocast("cpu", torch.bfloat16):
        return _cross_entropy(logits_of(model, x), y)


def next_character(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the next character at every position of windows of text, not only after the last.

    x (n, length) are characters and y (n,) is the one after each window, so the target at position i is x[:, i + 1].
    The logits (n, length, classes) are the output of the layer "fc" of a causal model, such as CharTransformer.
    """
    _check.shaped(Tensor, 2, x=x)
    _check.examples(x, y)
    logits, wanted = output_of(model, "fc", x), torch.cat([x[:, 1:], y[:, None]], 1)
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())


def with_l1(lam: float, loss: Loss = cross_entropy) -> Loss:
    """`loss` with a penalty: loss + λ Σ|w| over the weights; biases and BatchNorm are left out (Tibshirani 1996).

    Its gradient, λ sign(w), pulls every weight, also the smallest, towards zero with the same strength. But a step of
    lr λ jumps across zero and back, so hardly any weight becomes exactly zero. See `ProximalL1`. `lam` is λ ≥ 0, or
    ValueError.
    """
    _check.number("lam", lam, 0, float("inf"), open_high=True)
    _check.kind(Callable, loss=loss)
    return lambda model, x, y: loss(model, x, y) + lam * sum(w.abs().sum() for w in _penalized(model))


def with_l2(lam: float, loss: Loss = cross_entropy) -> Loss:
    """`loss` with a penalty: loss + ½ λ Σw² over the weights; biases and BatchNorm are left out.

    Its gradient is λ w: for plain SGD the same as weight decay, w ← (1 - lr λ) w - lr ∇loss. Adam divides that gradient
    by its own running size, so for Adam they differ; AdamW's `weight_decay` avoids this (Loshchilov & Hutter 2019).
    `lam` is λ ≥ 0, or ValueError.
    """
    _check.number("lam", lam, 0, float("inf"), open_high=True)
    _check.kind(Callable, loss=loss)
    return lambda model, x, y: loss(model, x, y) + lam / 2 * sum(w.square().sum() for w in _penalized(model))


def _penalized(model: nn.Module) -> Iterator[Tensor]:
    """The parameters that are trained and have two or more dimensions."""
    return (w for w in model.parameters() if w.ndim >= 2 and w.requires_grad)


def soft_threshold(w: Tensor, threshold: float) -> Tensor:
    """sign(w) · max(|w| - threshold, 0): the v that minimizes ½ (v - w)² + threshold · |v|."""
    _check.kind(Tensor, w=w)
    _check.number("threshold", threshold, 0, float("inf"))
    return w - w.clamp(-threshold, threshold)  # the formula typed in, and torch's softshrink, make negative zeros


class ProximalL1:
    """A hook for `fit(after_step=…)`: after every update w ← soft_threshold(w, lr λ), which makes exact zeros.

    After SGD this is proximal gradient descent on loss + λ Σ|w| (ISTA, Beck & Teboulle 2009); after AdamW it is a
    decoupled L1: like AdamW's weight decay it is not divided by the running size of the gradient, so its λ has another
    scale than that of `with_l1`. lr is that of the step. ValueError for λ < 0.
    """

    def __init__(self, lam: float) -> None:
        self.lam = _check.number("lam", lam, 0, float("inf"), open_high=True)

    @torch.no_grad()
    def __call__(self, model: nn.Module, step: optim.Step) -> None:
        """Shrink every penalized weight."""
        for w in _penalized(model):
            w.copy_(soft_threshold(w, step.lr * self.lam))


def label_smoothing(smoothing: float) -> Loss:
    """Cross-entropy with softened labels: ε of every label is spread evenly over all K classes.

    (1 - ε) · -log p_y + ε · mean over k of -log p_k, mean over the batch (Szegedy et al. 2016). `smoothing` is ε in
    [0, 1), or ValueError.
    """
    _check.number("smoothing", smoothing, 0, 1, open_high=True)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        log_p = F.log_softmax(logits_of(model, x), 1)
        _check.labels(y, log_p)
        return (1 - smoothing) * F.nll_loss(log_p, y) - smoothing * log_p.mean()

    return loss


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), mean over the batch, of logits (n, classes).

    Its gradient shrinks as 1/T²; the factor T² keeps it comparable with that of the labels for every T
    (Hinton, Vinyals & Dean 2015, section 2). ValueError for different shapes.
    """
    _check.kind(Tensor, student=student, teacher=teacher)
    check_distillation(temperature, 1)
    if student.shape != teacher.shape:
        shapes = f"teacher gives logits {tuple(teacher.shape)} and student {tuple(student.shape)}"
        raise ValueError(f"{shapes}; allowed: equal shapes, the same classes")
    log_p, log_q = F.log_softmax(teacher / temperature, 1), F.log_softmax(student / temperature, 1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def mixed_loss(student: Tensor, teacher: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
    """α · soft_loss + (1 - α) · cross-entropy with the labels y (n,), of logits (n, classes)."""
    check_distillation(temperature, alpha)
    return alpha * soft_loss(student, teacher, temperature) + (1 - alpha) * _cross_entropy(student, y)


def distillation(teacher: nn.Module, temperature: float = 4.0, alpha: float = 0.9) -> Loss:
    """A loss for `fit` that trains a student to match the outputs of `teacher` (Hinton, Vinyals & Dean 2015).

    `temperature` > 0 softens both distributions, `alpha` in [0, 1] is the weight of the teacher's term; the rest is
    cross-entropy. A copy of the teacher, in evaluation mode and without gradients, sees the same images as the student,
    also augmented ones. ValueError for settings out of range.
    """
    check_distillation(temperature, alpha)
    teacher = _still(teacher)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            said = logits_of(teacher, x)
        return mixed_loss(logits_of(model, x), said, y, temperature, alpha)

    return loss


def _still(teacher: nn.Module) -> nn.Module:
    """A copy of a teacher that does not change: in evaluation mode, with the memory format that suits its images."""
    _check.kind(nn.Module, teacher=teacher)
    teacher = clone(unwrapped(teacher)).eval()
    lay_out_at_first_call(teacher)
    return teacher


def check_distillation(temperature: float, alpha: float) -> None:
    """Refuse a temperature that is not positive and an alpha outside [0, 1]."""
    _check.number("temperature", temperature, 0, float("inf"), open_low=True, open_high=True)
    _check.number("alpha", alpha, 0, 1)


def hint(teacher: nn.Module, teacher_layer: str, student_layer: str, regressor: str = "") -> Loss:
    """A loss for `fit` that trains a layer to match a layer of `teacher` (FitNets, Romero et al. 2015, eq. 3).

    ½ ‖u - r(v)‖², mean over the batch, with u and v the outputs of the named layers. `regressor` names a submodule r of
    the student, such as an nn.Linear, that maps v to the shape of u and is trained, too; without one r(v) = v. The
    labels are not used. ValueError for a layer that does not exist and for shapes that differ.
    """
    _check.kind(str, student_layer=student_layer, regressor=regressor)
    teacher = _still(teacher)
    _check.one_of("teacher_layer", teacher_layer, dict(teacher.named_modules()))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = output_of(teacher, teacher_layer, x)
        given = output_of(model, student_layer, x)
        given = model.get_submodule(regressor)(given) if regressor else given
        if given.shape != wanted.shape:
            shapes = f"{tuple(given.shape[1:])} where {teacher_layer!r} of the teacher gives {tuple(wanted.shape[1:])}"
            raise ValueError(f"student_layer {student_layer!r} gives {shapes}; allowed: equal shapes, by a regressor")
        return distance(wanted, given)

    return loss


def distance(wanted: Tensor, given: Tensor) -> Tensor:
    """½ ‖u - v‖², mean over the batch, of the outputs (n, …) of two layers, which have the same shape."""
    _check.kind(Tensor, wanted=wanted, given=given)
    if wanted.shape != given.shape or not wanted.numel():
        raise ValueError(
            f"given has the shape {tuple(given.shape)}; allowed: that of wanted, {tuple(wanted.shape)}, not empty"
        )
    return (wanted - given).square().sum() / (2 * len(wanted))


def output_of(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """The output of a layer, named as in named_modules(), when `model` runs on x; ValueError for another name."""
    _check.kind(Tensor, x=x)
    with watching(model, layer) as seen, running(model, "x", x):
        model(x)
    return seen[0]


@contextmanager
def watching(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """A list of the outputs of a layer of `model` inside the block, one entry per forward pass."""
    _check.kind(nn.Module, model=model)
    _check.one_of("layer", layer, dict(model.named_modules()))
    seen: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()
