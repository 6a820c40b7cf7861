"""Deep Compression (Han, Mao & Dally 2016) as one recipe: prune → retrain → quantize → retrain; then `store` codes it.

    1  w ← M ⊙ w, where M drops more and more of the smallest weights    magnitude.GradualPruning
    2  w ← the nearest of 2^bits levels, with straight-through gradients qat.prepare_qat
    3  mask and levels, range-coded in the context of their neighbours   store.save(…, coders=CODERS)

The paper prunes by a threshold, retrains, and shares weights by k-means; `prune` and `share_weights` do that. For the
smallest files, remove whole units before step 1 (`keep_units`): training is several times faster, and the weights are
less scattered; `embed` then restores the whole architecture, with zeros where the units were.
"""

import operator
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from labkit import _check
from labkit._module import clone
from labkit.compress import _weights
from labkit.compress._phases import Phases
from labkit.compress.magnitude import GradualPruning, clustered_importance
from labkit.compress.parts import assemble, parts
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.structured import prune_channels
from labkit.data import Split
from labkit.optim import Hooks
from labkit.train import fit, hooks_of, steps_of


def deep_compress(
    model: nn.Module,
    train: Split,
    *,
    sparsity: float,
    bits: int,
    epochs: tuple[int, int],
    lr: float,
    biases: bool = True,
    clustering: float = 0.0,
    percentile: float = 100.0,
    after_step: Hooks = (),
    **settings: Any,
) -> tuple[nn.Module, pd.DataFrame]:
    """Prune a trained `model` to `sparsity`, then round it to `bits` bits, both in training; a new model, its history.

    `epochs` are those of the first and of the second training; the second has a fifth of the peak learning rate `lr`.
    With biases=False those of all layers but the last are zero, which saves 4 bytes each; `clustering` is the strength
    of `clustered_importance`, `percentile` clips the grid (`choose_grid`). `settings` are those of `fit` (loss,
    augment, validation, seed, …); the hooks of `after_step` get the steps of both trainings. The history is
    that of both, with the column phase, "prune" or "round": epochs are counted on, and attrs["cancelled"] is true if
    one of them was cancelled. ValueError for settings out of range.
    """
    _check.flags(biases=biases)
    _check.kind(Split, train=train)
    hooks = hooks_of(after_step)
    _check.number("sparsity", sparsity, 0, 1, open_high=True)
    _check.whole("bits", bits, 1, 8)
    _check.number("percentile", percentile, 50, 100, open_low=True)
    _check.number("clustering", clustering, 0, 2)
    _check.number("lr", lr, 0, float("inf"), open_high=True)
    if not isinstance(epochs, tuple) or len(epochs) != 2:
        raise TypeError(f"epochs is {_check.shown(epochs)}; allowed: two whole numbers, for the two trainings")
    for i, number in enumerate(epochs):
        _check.whole(f"epochs[{i}]", number, 0, 10_000)
    _check.kind(nn.Module, model=model)
    model = clone(model) if biases else without_biases(model)
    of_epoch = steps_of(len(train), settings.get("batch_size", 128))
    every = min(50, epochs[0] * of_epoch // 20 + 1)  # a small data set has few steps
    gradual = GradualPruning(sparsity, every=every, importance=clustered_importance(clustering))

    phases = Phases(hooks, sum(epochs), of_epoch)
    model = phases.run("prune", partial(fit, model, train, lr=lr, **settings), epochs[0], [gradual])
    model = prepare_qat(model, bits, percentile=percentile)
    model = phases.run("round", partial(fit, model, train, lr=lr / 5, **settings), epochs[1])
    return finish_qat(model), phases.history


def keep_units(model: nn.Module, example: Tensor, layer: str, kept: int) -> nn.Module:
    """A new model in which `layer` has the `kept` units with the largest weights; `example` is a batch of inputs."""
    _check.kind(str, layer=layer)
    (weight,) = _weights.chosen(model, [layer]).values()
    kept = _check.whole("kept", kept, 1, len(weight))
    return prune_channels(model, 1 - kept / len(weight), example=example, layers=[layer], importance="l2")


def embed(small: nn.Module, whole: nn.Module) -> nn.Module:
    """A new model of the shapes of `whole` with the outputs of `small`, a pruned version of it; zeros elsewhere."""
    _check.kind(nn.Module, small=small, whole=whole)
    stored, shapes = parts(small), {name: part.shape for name, part in parts(whole).items()}
    for name, shape in shapes.items():
        if name not in stored or len(shape) != len(own := stored[name].shape) or any(map(operator.gt, own, shape)):
            raise ValueError(f"small has no {name} that fits into {tuple(shape)}; allowed: a network cut from whole")
    return assemble(whole, {name: stored[name].padded(shape) for name, shape in shapes.items()})


@torch.no_grad()
def without_biases(model: nn.Module) -> nn.Module:
    """A new model whose biases, except the last layer's, are zero and stay zero in training."""
    _check.kind(nn.Module, model=model)
    model = clone(model)
    biases = [p for name, p in model.named_parameters() if name.rpartition(".")[2] == "bias"]
    for bias in biases[:-1]:
        bias.zero_().requires_grad_(False)
    return model
