"""Your own network before compression, what of it is compressed, and what each layer costs and does alone.

bytes     of a layer: what the file has of its weight, with mask and scales
damage    of a layer: how much worse the network is when only this layer is compressed
heat      share of the file × damage: large for a layer that is both large and sensitive
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor, nn

from labkit import _check, store
from labkit._module import clone
from labkit.compress import _weights
from labkit.compress._channels import channels, held
from labkit.compress.magnitude import prune
from labkit.compress.parts import Part, assemble, parts
from labkit.compress.quantize import quantize
from labkit.live.score import workers
from labkit.measure import kinds
from labkit.topics.your_own_model.merit import Damage, Merit, Metric, damage, examples_of, merits, metric_of

ALONE = 500  # examples on which a layer is tried alone, always the first
NORMS = (*_weights.NORMS, nn.GroupNorm, nn.modules.batchnorm._NormBase)
Key = tuple[str, str]  # a checkpoint: model name, data name


@dataclass(frozen=True)
class Own:
    """A network with its examples and its figure of merit; `few` is that of the first ALONE examples."""

    name: str
    key: Key | None
    model: nn.Module
    x: Tensor
    y: Tensor
    merit: Merit
    few: Merit
    parts: dict[str, Part]
    layers: list[str]  # the weights that are compressed
    left_out: dict[str, str]  # what is stored as it is, and why
    size_bytes: int

    @property
    def metric(self) -> Metric:
        """What the network is scored by."""
        return self.merit.metric

    @property
    def unit(self) -> float:
        """Of damage in pictures: a point of accuracy, or a hundredth of the dense figure."""
        return 0.01 if self.metric.percent else abs(self.merit.value) / 100 or 0.01


def own_network(
    model: nn.Module, data: Any, metric: Any = None, better: str = "higher", name: str = "", key: Key | None = None
) -> Own:
    """Score and weigh a network once; a copy of it. TypeError or ValueError for what a panel cannot show."""
    model = clone(_weights.opened(model)).cpu().eval()
    x, y = examples_of(data)
    layers = list(_weights.chosen(model, None))
    *_, merit = merits(metric_of(metric, better, model, x, y), model, x, y)
    if not abs(merit.value) < float("inf"):
        raise ValueError(
            f"metric {merit.metric.name} of the network as it is is {merit.value}; allowed: a finite number"
        )
    name, size = name or type(model).__name__, len(store.encode(model))
    return Own(name, key, model, x, y, merit, merit.first(ALONE), parts(model), layers, left_out(model), size)


def left_out(model: nn.Module) -> dict[str, str]:
    """{layer or tensor: why it is stored as it is}, for all that is not compressed.

    The bias of a compressed layer and layers without parameters, such as ReLU, are not listed.
    """
    model = _weights.opened(model)
    weights = _weights.weights(model)
    first: dict[int, str] = {}  # of each tensor, by its id
    found: dict[str, str] = {}
    for layer, owner in model.named_modules(remove_duplicate=False):
        if ".parametrizations" in f".{layer}":
            continue  # what labkit stores of a weight that is compressed already
        own = {f"{layer}.{attribute}".lstrip("."): v for attribute, v in _tensors(owner) if v is not None}
        names = {first.setdefault(id(value), name) for name, value in own.items()}
        names |= {f"{layer}.{attribute}".lstrip(".") for attribute in _weights.parametrizations(owner)}
        for name, value in own.items():
            matrix = sum(size > 1 for size in value.shape) > 1
            if name in weights or not matrix and (not isinstance(value, nn.Parameter) or names & weights.keys()):
                continue
            if first[id(value)] != name:
                found |= {name: f"shares {first[id(value)]}"} if matrix else {}
            elif isinstance(owner, NORMS):
                found[layer] = "a normalization"
            else:
                found[name] = _reason(value, matrix)
    return found


def _tensors(owner: nn.Module) -> list[tuple[str, Tensor | None]]:
    return [*owner._parameters.items(), *owner._buffers.items()]


def _reason(value: Tensor, matrix: bool) -> str:
    if not value.is_floating_point():
        return f"holds {value.dtype}".replace("torch.", "")
    if not isinstance(value, nn.Parameter):
        return "a buffer, not a parameter"
    return "a bias" if matrix else "a vector"


def layer_table(model: nn.Module, x: Tensor) -> pd.DataFrame:
    """Every layer with parameters: whether it is compressed, and whether `prune_channels` can remove its units.

    Args:
        model: any network.
        x: a batch of its inputs, by which its units are found.

    Returns:
        A table with the columns layer, kind, weights, compressed ("yes", or why not) and units ("can be removed", or
        why not).
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Tensor, x=x)
    weights, kind = _weights.weights(model), kinds(model)
    units = _units(model, x[:2])
    rows = [
        dict(layer=name, kind=kind[name], weights=weight.numel(), compressed="yes")
        | dict(units=units.get(name.rpartition(".")[0], "it has none of its own"))
        for name, weight in weights.items()
    ]
    rows += [dict(layer=name, kind="", weights=0, compressed=why, units="") for name, why in left_out(model).items()]
    return pd.DataFrame(rows)


def _units(model: nn.Module, example: Tensor) -> dict[str, str]:
    """{layer: whether `prune_channels` can remove its units}."""
    try:
        free = {use.layer for use in channels(model, example) if use.side == "out"}
    except ValueError as error:  # it names every layer and its reason, or says that the network cannot be followed
        return dict.fromkeys((name.rpartition(".")[0] for name in _weights.weights(model)), str(error))
    return dict.fromkeys(free, "can be removed") | held(model, example)


# --- compress, and account for each layer -----------------------------------------------------------------------------


def compressed(own: Own, sparsity: float, bits: int, granularity: str) -> dict[str, Part]:
    """The weights of all layers, each pruned to the sparsity by magnitude, then rounded; 32 bits: not rounded."""
    small = prune(own.model, sparsity, scope="layer")
    small = small if bits == 32 else quantize(small, bits, granularity=granularity)
    return {name: part for name, part in parts(small).items() if name in own.layers}


def network(own: Own, weights: Mapping[str, Part]) -> nn.Module:
    """The network with these weights in place of its own."""
    return assemble(own.model, own.parts | dict(weights), copies=False)


def layer_bytes(own: Own, ledger: pd.DataFrame) -> dict[str, int]:
    """{layer: bytes of the file}, from the ledger of the file."""
    sizes = dict.fromkeys(own.layers, 0)
    for name, size in zip(ledger["name"], ledger["bytes"].tolist(), strict=True):
        if name in sizes:
            sizes[name] += size
    return sizes


def damage_alone(own: Own, weights: Mapping[str, Part], layer: str) -> Damage:
    """How much worse the network is when it has only this layer of the compressed weights."""
    n = len(own.few.y)
    *_, merit = merits(own.metric, network(own, {layer: weights[layer]}), own.x[:n], own.y[:n])
    return workers().submit(damage, own.few, merit).result()


def heat(share: float, damage: float) -> float:
    """Share of the file × damage; 0 for a layer without damage."""
    return share * max(damage, 0.0)


def hot_spots(
    model: nn.Module, data: Any, metric: Any = None, *, better: str = "higher", sparsity: float = 0.5, bits: int = 4,
    granularity: str = "tensor",
) -> pd.DataFrame:  # fmt: skip
    """Where the bytes of a compressed network are, and what each layer costs alone; the hottest first.

    heat = share of the file × damage.

    Args:
        model: any network.
        data: a labkit Data (validation), a Split, a pair (x, y) of tensors, or an iterable of batches (x, y).
        metric: metric(outputs, y) gives one score per example or one number for all; None is accuracy.
        better: whether a "higher" or a "lower" figure is better.
        sparsity: share of the weights of each layer that is set to 0, in [0, 1).
        bits: bits per weight, 1 to 8, or 32: not rounded.
        granularity: one scale per "tensor" or per output "channel".

    Returns:
        A table with the columns layer, kind, weights, bytes and share (of the compressed file), damage (in units of the
        metric, on the first ALONE examples), low, high (its 95 % interval) and heat.

    Raises:
        ValueError: or TypeError, for a model, data or a metric that cannot be used together, or a setting out of range.
    """
    own = own_network(model, data, metric, better)
    weights = compressed(own, sparsity, bits, granularity)
    raw, ledger = store.encode_with_ledger(network(own, weights))
    kind, sizes, rows = kinds(own.model), layer_bytes(own, ledger), []
    for layer in own.layers:
        lost, low, high = damage_alone(own, weights, layer)
        share = sizes[layer] / len(raw)
        rows.append(
            dict(layer=layer, kind=kind[layer], weights=weights[layer].shape.numel(), bytes=sizes[layer], share=share)
            | dict(damage=lost, low=low, high=high, heat=heat(share, lost))
        )
    return pd.DataFrame(rows).sort_values("heat", ascending=False, kind="stable", ignore_index=True)
