"""Several techniques in any order, at a fixed training budget: composition does not commute.

    w ← step_n(… step_2(step_1(w)) …)        Q(P(w)) ≠ P(Q(w)), in general

    "prune"       prune the smallest weights in one step, then train the others     magnitude.prune, zeros held
    "quantize"    train for a grid of 2^bits levels                                 qat.prepare_qat
    "distil"      train on the soft targets of the given network, not on labels     distill.distill, alpha = 1

Each step returns what a file can hold, and later steps preserve it: zeros stay zero, a grid does not change.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from torch import Tensor, nn

from labkit import _check
from labkit._module import clone
from labkit.compress._phases import Phases, Training
from labkit.compress.distill import distill, teacher_outputs
from labkit.compress.magnitude import apply_masks, masks_of, prune
from labkit.compress.qat import finish_qat, keep_grids, on_grids, prepare_qat
from labkit.compress.quantize import quantize
from labkit.data import Split
from labkit.losses import check_distillation
from labkit.optim import Hook, Hooks
from labkit.train import fit, steps_of

STEPS = ("prune", "quantize", "distil")


def compose(
    model: nn.Module,
    train: Split,
    steps: Sequence[str],
    *,
    sparsity: float,
    bits: int,
    epochs: int,
    lr: float = 1e-3,
    temperature: float = 4.0,
    after_step: Hooks = (),
    **settings: Any,
) -> tuple[nn.Module, pd.DataFrame]:
    """Apply `steps` to a trained `model`, in this order; return a new model and its training history.

    w ← step_n(… step_2(step_1(w)) …). Each step trains for an equal share of `epochs`, with its own schedule.

    Args:
        model: the trained network; in "distil" it is the teacher.
        train: the images to train on.
        steps: of "prune" (to `sparsity`), "quantize" (to `bits` bits) and "distil" (on soft targets). Without steps
            all epochs are fine-tuning on the labels.
        sparsity: the fraction of zeros, in [0, 1).
        bits: bits per weight, 1 to 8.
        epochs: of all steps together, a multiple of their number. With 0 nothing is trained: the result is that of
            the techniques alone, bit for bit.
        lr: the peak learning rate of each step.
        temperature: softens the soft targets, above 0.
        after_step: one hook or several, which get the steps of the whole; `as_stored(model)` is what a file would
            hold then.
        **settings: those of `fit` except loss and augment.

    Returns:
        The new model, and the history of `fit` with the column phase, the name of the step; epochs are counted from 1
        to `epochs`, and attrs["cancelled"] is true if `cancel` ended a step. Without epochs it is empty.

    Raises:
        ValueError: an unknown step, epochs that are no multiple of the steps, or a setting out of range.

    Example:
        >>> data, model = lk.load_data("digits"), lk.models.mlp(64, 32, 10)
        >>> how = dict(sparsity=0.9, bits=4, epochs=0)
        >>> one, _ = lk.compose(model, data.train, ["prune", "quantize"], **how)
        >>> other, _ = lk.compose(model, data.train, ["quantize", "prune"], **how)
        >>> lk.encode(one) == lk.encode(lk.quantize(lk.prune(model, sparsity=0.9), bits=4))
        True
        >>> lk.encode(one) == lk.encode(other)  # the order matters
        False
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Split, train=train)
    _check.known("steps", steps, STEPS)
    _check.whole("bits", bits, 1, 8)
    _check.number("sparsity", sparsity, 0, 1, open_high=True)
    _check.number("lr", lr, 0, float("inf"), open_high=True)
    check_distillation(temperature, 1)
    if taken := {"loss", "augment"} & settings.keys():
        raise ValueError(f"{min(taken)} is set by each step; allowed: the other settings of fit")
    share = _share(epochs, len(steps))
    phases = Phases(after_step, epochs, steps_of(len(train), settings.get("batch_size", 128)))
    if not epochs:
        return _at_once(model, steps, sparsity, bits), phases.history
    teach: Training = fit
    if "distil" in steps:
        teach = partial(distill, teacher=teacher_outputs(model, train.x), temperature=temperature, alpha=1.0)
    model = clone(model)
    for step in steps or ["fine-tune"]:
        model = _begin(model, step, sparsity, bits)
        # a weight that trains for a grid keeps its zeros by itself: they get no gradient
        free = {name: mask for name, mask in masks_of(model).items() if name not in on_grids(model)}
        training = partial(teach if step == "distil" else fit, model, train, lr=lr, **settings)
        model = as_stored(phases.run(step, training, share, [_holding(free)]))
    return model, phases.history


def _at_once(model: nn.Module, steps: Sequence[str], sparsity: float, bits: int) -> nn.Module:
    """A new model with the steps applied without training, for live panels; nothing is prepared to train."""
    model = clone(model)
    for step in steps:
        if step == "prune":
            model = prune(model, sparsity)
        elif step == "quantize":
            model = quantize(model, bits)
    return model


def as_stored(model: nn.Module) -> nn.Module:
    """The network as a file would hold it: with integers where it trains for a grid."""
    return finish_qat(model) if on_grids(model) else model


def _share(epochs: int, steps: int) -> int:
    """The epochs of each step."""
    _check.whole("epochs", epochs, 0, 10_000)
    if epochs % max(1, steps):
        raise ValueError(f"epochs is {epochs}; allowed: a multiple of the {steps} steps, which share them equally")
    return epochs // max(1, steps)


def _begin(model: nn.Module, step: str, sparsity: float, bits: int) -> nn.Module:
    """A new model, ready to train, with the step's change before training; what earlier steps made is kept."""
    if step == "quantize":
        return prepare_qat(model, bits)
    return keep_grids(prune(model, sparsity) if step == "prune" else model)


def _holding(masks: dict[str, Tensor]) -> Hook:
    """A hook that applies `masks`."""
    return lambda model, step: apply_masks(model, masks)


def one_shot(model: nn.Module, sparsity: float, bits: int) -> nn.Module:
    """Prune globally, then round the weights to `bits` bits per layer, without training; 32 bits leaves them as is."""
    _check.whole("bits", bits, 1, 32)
    pruned = prune(model, sparsity)
    return pruned if bits == 32 else quantize(pruned, bits)
