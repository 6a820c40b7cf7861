"""The same three settings on six networks: the curves and the scans of notebook 11. Nothing is trained."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import nn

from labkit import _check
from labkit.compress._weights import weights
from labkit.compress.magnitude import prune, random_importance
from labkit.compress.quantize import quantize, quantize_inputs
from labkit.data import Split, load_data, manifest, take
from labkit.measure import Change, accuracy, accuracy_vs, kinds, size_bytes
from labkit.significance import difference
from labkit.sweep import run_and_ship, shipped_sweep, sweep_path
from labkit.train import correct_mask
from labkit.zoo import load_model

NETWORKS = (
    ("lenet-300-100", "fashion-mnist"),
    ("lenet-5", "fashion-mnist"),
    ("vit", "fashion-mnist"),
    ("resnet-20", "cifar10"),
    ("mobilenet", "cifar10"),
    ("char-transformer", "shakespeare"),
)
CALIBRATION_IMAGES = 256  # training images that set the ranges of activations


def squeeze(
    model: nn.Module,
    sparsity: float | Mapping[str, float] = 0.0,
    bits: int = 32,
    activation_bits: int = 32,
    *,
    granularity: str = "tensor",
    calibration: Split | None = None,
    layers: list[str] | None = None,
) -> nn.Module:
    """Three settings: prune globally, round the weights, round the inputs of the layers; 32 bits: not rounded.

    `calibration` images are needed below 32 `activation_bits`; the other arguments are those of `prune` and `quantize`;
    `sparsity` may map layers to sparsities.
    """
    _check.whole("bits", bits, 1, 32)
    _check.whole("activation_bits", activation_bits, 1, 32)
    _check.one_of("granularity", granularity, ("tensor", "channel"))
    _check.kind(Split | None, calibration=calibration)
    small = prune(model, sparsity, layers=None if isinstance(sparsity, Mapping) else layers)
    if bits < 32:
        small = quantize(small, bits, granularity=granularity, layers=layers)
    if activation_bits < 32 and calibration is not None:
        small = quantize_inputs(small, activation_bits, calibration=calibration, layers=layers)
    return small


CHANNELS_GRID = {"sparsity": (0.0, 0.3, 0.5), "bits": (2, 3, 4, 5, 6, 8)}


def channels_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """`frontier_sweep` with one scale per output channel, without training; scored on validation."""
    model, split = load_model(model_name, data_name), load_data(data_name).validation

    def run(sparsity: float, bits: int) -> dict[str, Any]:
        small = squeeze(model, sparsity, bits, granularity="channel")
        return accuracy(small, split) | dict(size_bytes=size_bytes(small))

    return run_and_ship(run, CHANNELS_GRID, None, "channels", model_name, data_name)


def across(model_name: str, data_name: str) -> pd.DataFrame:
    """Every one-shot setting that ships, one scale per tensor or channel; sparsity 0, 32 bits: the dense network."""
    sweeps = {"tensor": "frontier", "channel": "channels"}
    shipped = {name: kind for name, kind in sweeps.items() if sweep_path(kind, model_name, data_name) in manifest()}
    tables = [shipped_sweep(kind, model_name, data_name).assign(granularity=name) for name, kind in shipped.items()]
    return pd.concat(tables, ignore_index=True)


SCANNED = 2_000  # validation images: all that ship of CIFAR-10
AT_RANDOM = "80 % pruned at random"
MASKS = (0, 1, 2)  # seeds of the random masks
CHANGES = (
    "80 % pruned", *(f"{AT_RANDOM}, mask {seed}" for seed in MASKS), "4 bits", "4 bits, clipped at 99 %",
    "4 bits a channel", "2 bits a channel", "activations, 4 bits",
)  # fmt: skip


def changes(train: Split) -> dict[str, Change]:
    """The changes that a scan applies to a part, by name; images of `train` set the ranges of activations."""
    made: list[Change] = [
        functools.partial(prune, sparsity=0.8),
        *(functools.partial(_prune_at_random, seed=seed) for seed in MASKS),
        functools.partial(quantize, bits=4),
        functools.partial(quantize, bits=4, percentile=99),
        functools.partial(quantize, bits=4, granularity="channel"),
        functools.partial(quantize, bits=2, granularity="channel"),
        functools.partial(quantize_inputs, bits=4, calibration=take(train, CALIBRATION_IMAGES)),
    ]
    return dict(zip(CHANGES, made, strict=True))


def _prune_at_random(model: nn.Module, layers: list[str], seed: int) -> nn.Module:
    return prune(model, 0.8, layers=layers, importance=random_importance(seed))


def layer_parts(model: nn.Module) -> dict[str, list[str]]:
    """Each layer as a part of its own, in the order of the network."""
    return {name: [name] for name in weights(model)}


def kind_parts(model: nn.Module) -> dict[str, list[str]]:
    """The layers of each kind."""
    parts: dict[str, list[str]] = {}
    for name, kind in kinds(model).items():
        parts.setdefault(kind, []).append(name)
    return parts


PARTS = {"layers": layer_parts, "kinds": kind_parts}


def scan_sweep(by: str, model_name: str, data_name: str) -> pd.DataFrame:
    """One part changed, the rest dense, a row for each part and change; scored on 2,000 validation images.

    `by` is a key of PARTS: "layers", each weight tensor alone, or "kinds", all weights of a kind at once.
    """
    model, data = load_model(model_name, data_name), load_data(data_name)
    split, made = take(data.validation, SCANNED), changes(data.train)
    every, before, kind = weights(model), correct_mask(model, split), kinds(model)
    parts = PARTS[by](model)

    def run(part: str, change: str) -> dict[str, Any]:
        layers = parts[part]
        about = dict(kind=kind[layers[0]], weights=sum(every[layer].numel() for layer in layers))
        return about | accuracy_vs(before, made[change](model, layers=layers), split)

    return run_and_ship(run, {"part": tuple(parts), "change": CHANGES}, None, by, model_name, data_name)


def scan_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Points of accuracy that each part of a scan loses by each change: part, kind, weights, change, lost, low, high.

    `low` and `high` are the 95 % interval of a paired difference; for the random masks, which are one change here,
    `lost` is the mean over the masks, `low` and `high` are the least and the most.
    """
    _check.table("table", table, "part", "kind", "weights", "change", "lost", "won", "images", rows=1)
    found = [difference(*counts) for counts in table[["lost", "won", "images"]].to_numpy(int).tolist()]
    points = table[["part", "kind", "weights"]].assign(
        change=table["change"].str.replace(r", mask \d+", "", regex=True)
    )
    points[["lost", "low", "high"]] = 100 * pd.DataFrame(found, index=table.index)
    drawn = points["change"] == AT_RANDOM
    points.loc[drawn, "low"] = points.loc[drawn, "high"] = points.loc[drawn, "lost"]
    ends = dict(lost=("lost", "mean"), low=("low", "min"), high=("high", "max"))
    return points.groupby(["part", "kind", "weights", "change"], sort=False).agg(**ends).reset_index()


ALONE = 1_000  # validation images on which the panel tries each layer alone
ALONE_GRID: Mapping[str, Sequence[Any]] = {
    "sparsity": (0.0,), "bits": (3, 8), "activation_bits": (32,), "granularity": ("tensor", "channel"),
}  # fmt: skip


def alone_sweep(model_name: str, data_name: str) -> pd.DataFrame:
    """Each layer alone at the settings at which the panel opens, measured as it does: it shows them without waiting."""
    model, data = load_model(model_name, data_name), load_data(data_name)
    split = take(data.validation, ALONE)
    before = correct_mask(model, split)

    def run(part: str, **settings: Any) -> dict[str, Any]:
        return accuracy_vs(before, squeeze(model, layers=[part], **settings), split)

    return run_and_ship(run, {"part": tuple(weights(model)), **ALONE_GRID}, None, "alone", model_name, data_name)


def make() -> None:
    """The sweeps that ship."""
    alone_sweep("mobilenet", "cifar10")
    for key in NETWORKS:
        channels_sweep(*key)
        for by in PARTS:
            scan_sweep(by, *key)
