"""Measure a model: accuracy with its interval, bytes of its file, parameters, MACs, latency - one flat record.

A list of records is a table: `pandas.DataFrame([measure(m, data.validation) for m in models])`.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from labkit import _check, store
from labkit._module import clone, evaluating, running, unwrapped
from labkit.compress import _weights
from labkit.compress.magnitude import prune
from labkit.compress.quantize import quantize
from labkit.data import Split
from labkit.significance import mcnemar, wilson
from labkit.train import correct_mask


def accuracy(model: nn.Module, split: Split, *, diverged: bool = False) -> dict[str, float]:
    """The fraction of `split` classified correctly, with its 95 % interval (Wilson 1927; see `wilson`).

    Args:
        model: returns logits (n, classes); it is scored in evaluation mode.
        split: the images and labels.
        diverged: NaN logits, after a training that may have diverged, count as class 0.

    Returns:
        The record accuracy, accuracy_low and accuracy_high (fractions), correct, images.

    Raises:
        ValueError: logits are NaN, unless `diverged`.

    Example:
        >>> score = lk.accuracy(lk.models.mlp(64, 32, 10), lk.load_data("digits").test)
        >>> list(score), score["images"]
        (['accuracy', 'accuracy_low', 'accuracy_high', 'correct', 'images'], 300)
        >>> score["accuracy_low"] <= score["correct"] / 300 <= score["accuracy_high"]
        True
    """
    _check.flags(diverged=diverged)
    hits = correct_mask(model, split) if diverged else _right("model", model, split)
    return _shares(int(hits.sum()), len(split))


def _right(name: str, model: nn.Module, split: Split) -> Tensor:
    """`right` for the model in the argument `name`; ValueError if a logit is NaN."""
    _check.kind(nn.Module, **{name: model})
    return correct_mask(model, split, refuse_nan=True)


def _shares(correct: int, images: int) -> dict[str, float]:
    low, high = wilson(correct, images)
    return dict(accuracy=correct / images, accuracy_low=low, accuracy_high=high, correct=correct, images=images)


def size_bytes(model: nn.Module) -> int:
    """The length of the `.lk` file that `save` writes."""
    return len(store.encode(unwrapped(model)))


def counts(model: nn.Module) -> dict[str, float]:
    """The numbers of all and of non-zero parameters, and the sparsity of the weights (without biases and BatchNorm)."""
    weights = _weights.weights(model).values()
    dense = list(_weights.plain(model).parameters())
    zeros = sum(int((w == 0).sum()) for w in weights)
    return dict(
        parameters=sum(p.numel() for p in dense),
        nonzeros=sum(int(p.count_nonzero()) for p in dense),
        sparsity=zeros / max(1, sum(w.numel() for w in weights)),
    )


@torch.no_grad()
def macs(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds for one `image` of shape (channels, height, width); zeros count, as dense kernels multiply them.

    Matrix products are counted: convolutions, linear, bilinear and recurrent layers, attention. Additions, scaling,
    normalization and look-ups count as 0. ValueError names the layer that multiplies by an operation not known here.
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Tensor, image=image)
    counter = FlopCounterMode(display=False, custom_mapping=FLOPS)
    model = clone(unwrapped(model)).eval().requires_grad_(False)  # the counter fails on a view that requires a gradient
    with _attention_written_out(), _NothingMissed(model, counter), counter, running(model, "image", image):
        model(image[None])
    return counter.get_total_flops() // 2


def _recurrent(x: Sequence[int], w_input: Sequence[int], w_hidden: Sequence[int], *rest: Any, **about: Any) -> int:
    """Both weights of one layer of an LSTM, one direction, at every step of x (steps, n, inputs)."""
    return 2 * x[0] * x[1] * (math.prod(w_input) + math.prod(w_hidden))


def _bilinear(first: Sequence[int], weight: Sequence[int], second: Sequence[int], *rest: Any, **about: Any) -> int:
    """x₁ (n, inputs₁) times the weight (outputs, inputs₁, inputs₂), and that times x₂ (n, inputs₂)."""
    return 2 * first[0] * (math.prod(weight) + weight[0] * weight[2])


# Twice the multiply-adds, from the argument shapes, of operations that torch's counter does not know.
FLOPS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
    torch.ops.aten._trilinear: _bilinear,
    torch.ops.aten.mv: lambda matrix, vector, **about: 2 * math.prod(matrix),
    torch.ops.aten.addmv: lambda start, matrix, vector, **about: 2 * math.prod(matrix),
}
PRODUCTS = {"mm", "mv", "rnn", "cdist", "convolution"}  # in the names of torch's operations


class _NothingMissed(TorchDispatchMode):
    """Inside the block, an operation that multiplies by weights and that `counter` does not count is an error."""

    def __init__(self, model: nn.Module, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter = counter
        self.weights = {place for w in model.parameters() if w.ndim > 1 and (place := _storage(w))}

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run the operation, if it is known."""
        suspect = op.namespace != "aten" or PRODUCTS & set(op._opname.split("_"))
        if (
            suspect
            and op._overloadpacket not in self.counter.flop_registry
            and any(map(self._weighs, tree_leaves(args)))
        ):
            layer = max(self.counter.mod_tracker.parents, key=len).partition(".")[2]  # "Net.layer", or "Global"
            raise ValueError(f"layer {layer!r} multiplies by {op}; allowed: operations whose MACs are known")
        return op(*args, **(kwargs or {}))

    def _weighs(self, argument: object) -> bool:
        packed = isinstance(argument, torch.ScriptObject)  # the weights of a layer that torch has quantized
        return packed or isinstance(argument, Tensor) and _storage(argument) in self.weights


def _storage(tensor: Tensor) -> int:
    """An identifier that a tensor and its views share; 0 for a sparse tensor."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else 0


@contextmanager
def _attention_written_out() -> Iterator[None]:
    """Compute attention as matrix products inside the block: the counter does not know the fused CPU kernels."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@torch.inference_mode()
def latency_ms(model: nn.Module, images: Tensor, repeats: int = 20) -> float:
    """Median wall-clock milliseconds of one forward pass over the batch `images`, after two passes to warm up."""
    _check.kind(nn.Module, model=model)
    _check.kind(Tensor, images=images)
    repeats = _check.whole("repeats", repeats, 1, 100_000)
    times = []
    with evaluating(model), running(model, "images", images):
        for _ in range(repeats + 2):
            started = time.perf_counter()
            model(images)
            times.append(time.perf_counter() - started)
    return statistics.median(times[2:]) * 1e3


def accuracy_when_smaller(
    model: nn.Module, split: Split, sparsities: Sequence[float] = (0.8, 0.9), bits: Sequence[int] = (4, 3)
) -> dict[str, float]:
    """Accuracy when pruned one-shot and when rounded, untrained: {"accuracy_at_0.8": …, "accuracy_4_bits": …}.

    NaN for a network that diverged: infinite weights cannot be pruned or rounded.
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Sequence, sparsities=sparsities, bits=bits)
    for i, share in enumerate(sparsities):
        _check.number(f"sparsities[{i}]", share, 0, 1, open_high=True)
    small = {f"accuracy_at_{sparsity:g}": partial(prune, sparsity=sparsity) for sparsity in sparsities}
    small |= {f"accuracy_{width}_bits": partial(quantize, bits=width) for width in bits}
    if not all(p.isfinite().all() for p in model.parameters()):
        return dict.fromkeys(small, math.nan)
    return {name: accuracy(make(model), split)["accuracy"] for name, make in small.items()}


def measure(model: nn.Module, split: Split, *, latency_batch: int = 1) -> dict[str, float]:
    """Everything about a model as one flat record: accuracy on `split`, bytes of its file, parameters, MACs, latency.

    Args:
        model: returns logits (n, classes).
        split: the images and labels that it is scored on.
        latency_batch: latency is that of the first `latency_batch` images of `split`, 1 to all.

    Returns:
        The record of `accuracy`, then parameters, nonzeros, sparsity, size_bytes, macs (for one image; zeros count),
        latency_ms, latency_batch, threads. Latency is that of this machine with torch's current number of threads,
        which the record names.

    Raises:
        ValueError: logits are NaN, a layer multiplies by an operation whose MACs are not known, or `latency_batch` is
            out of range.

    Example:
        >>> model = lk.prune(lk.models.mlp(64, 32, 10), sparsity=0.5)  # 1,184 of 2,368 weights are zero
        >>> record = lk.measure(model, lk.load_data("digits").test)
        >>> [record[name] for name in ("parameters", "nonzeros", "sparsity", "macs")]
        [2410, 1226, 0.5, 2368]
        >>> record["size_bytes"] == len(lk.encode(model))
        True
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Split, split=split)
    _check.whole("latency_batch", latency_batch, 1, len(split))
    score = accuracy(model, split)
    cost = dict(
        size_bytes=size_bytes(model),
        macs=macs(model, split.x[0]),
        latency_ms=latency_ms(model, split.x[:latency_batch]),
        latency_batch=latency_batch,
        threads=torch.get_num_threads(),
    )
    return score | counts(model) | cost


def compare(before: nn.Module, after: nn.Module, split: Split) -> dict[str, float]:
    """Two models on the same images: McNemar's exact test that they are equally good (McNemar 1947; see `mcnemar`).

    The intervals of two accuracies may overlap although one model is clearly worse; the paired test shows it.

    Args:
        before: a model that returns logits (n, classes).
        after: another one.
        split: the images and labels that both are scored on.

    Returns:
        The record lost (how many images only `before` has correct), won (only `after`), and p, in [0, 1].

    Raises:
        ValueError: logits of one of them are NaN.

    Example:
        >>> test, one, other = lk.load_data("digits").test, lk.models.mlp(64, 32, 10), lk.models.mlp(64, 32, 10)
        >>> lk.compare(one, one, test)
        {'lost': 0, 'won': 0, 'p': 1.0}
        >>> lk.compare(one, other, test)["lost"] == lk.compare(other, one, test)["won"]
        True
    """
    return _pairs(_right("before", before, split), _right("after", after, split))


def _pairs(before: Tensor, after: Tensor) -> dict[str, float]:
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    return dict(lost=lost, won=won, p=mcnemar(lost, won))


def accuracy_vs(before: Tensor, model: nn.Module, split: Split) -> dict[str, float]:
    """`accuracy` of a model, and `compare` with a model whose correctness mask is known: `before`, from `right`."""
    _check.kind(Tensor, before=before)
    now = _right("model", model, split)
    if before.shape != now.shape or before.dtype != torch.bool:
        was = f"{tuple(before.shape)}, {before.dtype}"
        raise ValueError(f"before is a tensor {was}; allowed: what `right` gives for {len(split)} images")
    return _shares(int(now.sum()), len(split)) | _pairs(before, now)


# --- sensitivity ------------------------------------------------------------------------------------------------------

Change = Callable[..., nn.Module]  # change(model, layers=[…]) -> a new model, as `prune` and `quantize` are


def sensitivity(
    model: nn.Module,
    split: Split,
    changes: Mapping[str, Change],
    parts: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Change one part of a network, keep the rest, and score it: one row for each part and change.

    Han et al. (2015) scan the layers of a network in this way to choose how far to prune each.

    Args:
        model: returns logits (n, classes).
        split: the images and labels that it is scored on.
        changes: maps a name to a function that takes `layers`, such as `functools.partial(quantize, bits=4)`.
        parts: maps a name to layers; by default every weight is its own part.

    Returns:
        A table with the columns part, kind (of its first layer, see `kinds`), weights (how many), change, accuracy with
        its interval, and lost, won and p, as `compare` with the unchanged network gives them.

    Raises:
        ValueError: a layer does not exist, or logits are NaN.

    Example:
        >>> from functools import partial
        >>> model, changes = lk.models.mlp(64, 32, 10), {"half": partial(lk.prune, sparsity=0.5)}
        >>> table = lk.sensitivity(model, lk.load_data("digits").test, changes)
        >>> table[["part", "kind", "weights", "change"]].to_numpy().tolist()
        [['1.weight', 'linear', 2048, 'half'], ['3.weight', 'head', 320, 'half']]
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Mapping, changes=changes)
    _check.kind(Mapping | None, parts=parts)
    _check.kind(Callable, **{f"changes[{name!r}]": change for name, change in changes.items()})
    model = unwrapped(model)
    every, names = _weights.weights(model), kinds(model)
    parts = parts or {name: [name] for name in every}
    before, rows = _right("model", model, split), []
    for part, layers in parts.items():
        chosen = _weights.chosen(model, list(layers))
        about = dict(part=part, kind=names[next(iter(chosen))], weights=sum(w.numel() for w in chosen.values()))
        for change, make in changes.items():
            small = make(model, layers=list(layers))
            rows.append(about | dict(change=change) | accuracy_vs(before, small, split))
    return pd.DataFrame(rows)


KINDS = {
    "transposed convolution": (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    "recurrent": (nn.RNNBase, nn.RNNCellBase),
    "bilinear": (nn.Bilinear,),
}


def kinds(model: nn.Module) -> dict[str, str]:
    """The kind of each weight, by its parameter name, from the layers' types, shapes and names.

    "convolution"; "depthwise", with groups; "pointwise", 1×1; "patches", with stride equal to kernel; "transposed
    convolution"; "recurrent"; "bilinear"; "attention", also a linear layer in a module of that name; "linear"; "head",
    the last linear layer; "embedding", an embedding layer, or a parameter outside layers, such as positions.
    """
    model = _weights.opened(model)
    found = {name: _kind(*_weights.owner_of(model, name), name) for name in _weights.weights(model)}
    linear = [name for name, kind in found.items() if kind == "linear"]
    return found | {name: "head" for name in linear[-1:]}


def _kind(owner: nn.Module, attribute: str, name: str) -> str:
    if isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if owner.groups > 1:
            return "depthwise"
        if max(owner.kernel_size) == 1:
            return "pointwise"
        return "patches" if owner.stride == owner.kernel_size else "convolution"
    for kind, types in KINDS.items():
        if isinstance(owner, types):
            return kind
    if isinstance(owner, nn.MultiheadAttention) or "attention" in name or "attn" in name:
        return "attention"
    return "linear" if isinstance(owner, nn.Linear) else "embedding"
