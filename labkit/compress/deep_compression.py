"""Deep Compression (Han, Mao & Dally 2016) as one recipe: prune → retrain → quantize → retrain; `store` codes the rest.

    0  whole units leave, if asked: fewer places for a weight to be in   structured.prune_channels
    1  w ← M ⊙ w, while M loses ever more of the smallest weights        magnitude.prune_gradually
    2  w ← the nearest of 2^bits levels, trained straight through        qat.prepare_qat
    3  mask and levels, range-coded under what lies around them          store.save(…, coders=CODERS)

The paper prunes in one go and shares weights by k-means; `magnitude.prune` and `codebook.share` do that.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from labkit import _check
from labkit.compress import _weights
from labkit.compress.magnitude import crowded_importance, prune_gradually
from labkit.compress.parts import Part, Quantized, assemble, floats_of, parts, shape_of
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.structured import prune_channels
from labkit.data import Split
from labkit.train import fit


def deep_compress(
    model: nn.Module,
    train: Split,
    *,
    sparsity: float,
    bits: int,
    epochs: tuple[int, int],
    lr: float,
    units: Mapping[str, int] | None = None,
    biases: bool = True,
    pull: float = 0.0,
    percentile: float = 100.0,
    after_step: Callable[[nn.Module, float], None] = lambda model, progress: None,
    **settings: Any,
) -> tuple[nn.Module, pd.DataFrame]:
    """Prune a trained `model` to `sparsity`, round it to `bits` bits, training all the while; a new model, its history.

    `epochs` says how long the first and the second training last; the second starts from a fifth of the learning rate
    `lr`. `units` says how many units a layer keeps, by the L2 norm of their weights; the others leave first, so that
    training is faster and the kept weights lie in fewer places. They come back as zeros, which count for `sparsity`.
    Without `biases` those of all layers but the last are zero, which saves 4 bytes each; `pull` draws the kept weights
    together (`crowded_importance`), `percentile` clips the grid (`choose_grid`). `settings` are those of `fit` (loss,
    augment, validation, seed, …); `after_step(model, progress)` hears of the progress of both trainings. The history is
    that of both, with the column phase, "prune" or "round". ValueError for settings out of range.
    """
    whole, model = model, _weights.clone(model) if biases else without_biases(model)
    for layer, kept in (units or {}).items():
        model = keep_units(model, train.x[:2], layer, kept)
    sparsity = _sparsity_left(sparsity, whole, model)
    steps = epochs[0] * len(train) // settings.get("batch_size", 128)
    every = min(50, steps // 20 + 1)  # a small data set has few steps to rise in
    hook = prune_gradually(sparsity, every=every, importance=crowded_importance(pull))
    share = epochs[0] / max(1, sum(epochs))

    def pruning(model: nn.Module, progress: float) -> None:
        hook(model, progress)
        after_step(model, share * progress)

    def rounding(model: nn.Module, progress: float) -> None:
        after_step(model, share + (1 - share) * progress)

    model, first = fit(model, train, epochs=epochs[0], lr=lr, after_step=pruning, **settings)
    model = prepare_qat(model, bits, percentile=percentile)
    model, second = fit(model, train, epochs=epochs[1], lr=lr / 5, after_step=rounding, **settings)
    history = pd.concat([first.assign(phase="prune"), second.assign(phase="round")], ignore_index=True)
    return embed(finish_qat(model), whole), history


def _sparsity_left(sparsity: float, whole: nn.Module, small: nn.Module) -> float:
    """The sparsity of `small` at which it has as many weights as `whole` has at `sparsity`."""
    n, left = (sum(value.numel() for value in _weights.weights(model).values()) for model in (whole, small))
    if left < (1 - sparsity) * n:
        raise ValueError(
            f"units leave {left:,} weights; allowed: at least {(1 - sparsity) * n:,.0f}, for this sparsity"
        )
    return 1 - (1 - sparsity) * n / left


def keep_units(model: nn.Module, example: Tensor, layer: str, kept: int) -> nn.Module:
    """A new model in which `layer` has the `kept` units with the largest weights; `example` is a batch of inputs."""
    (weight,) = _weights.chosen(model, [layer]).values()
    _check.whole(f"units of {layer}", kept, 1, len(weight))
    return prune_channels(model, example, 1 - kept / len(weight), layers=[layer], criterion="l2")


def embed(small: nn.Module, whole: nn.Module) -> nn.Module:
    """A new model of the shapes of `whole` that computes what `small` does, which was cut from it: zeros elsewhere."""
    stored = parts(small)
    return assemble(whole, {name: _padded(stored[name], shape_of(part)) for name, part in parts(whole).items()})


def _padded(part: Part, shape: torch.Size) -> Part:
    """The part in the first rows and columns of a larger one."""
    values = part.q if isinstance(part, Quantized) else floats_of(part)
    larger = torch.zeros(shape, dtype=values.dtype)
    larger[tuple(slice(size) for size in values.shape)] = values
    return Quantized(larger, part.grid) if isinstance(part, Quantized) else larger


@torch.no_grad()
def without_biases(model: nn.Module) -> nn.Module:
    """A new model whose biases are zero and stay so in training, but for the last layer's."""
    model = _weights.clone(model)
    biases = [p for name, p in model.named_parameters() if name.rpartition(".")[2] == "bias"]
    for bias in biases[:-1]:
        bias.zero_().requires_grad_(False)
    return model
