"""Where a panel starts from: a trained network, its data, what it scores and weighs before anything is done to it."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import pandas as pd
import torch
from torch import nn

from labkit import _check, store
from labkit._module import clone, logits_of, unwrapped
from labkit.compress._weights import weights
from labkit.data import TEXTS, Data, load_data, manifest
from labkit.explore import _controls
from labkit.explore._score import Score, scores
from labkit.sweep import shipped_sweep, sweep_path
from labkit.zoo import RECIPES, load_model

COLUMNS = ["method", "steps", "sparsity", "bits", "symmetric", "granularity", "accuracy", "size_bytes"]
Key = tuple[str, str]  # a checkpoint: model name, data name
OF_IMAGES = tuple(key for key in RECIPES if key[1] not in TEXTS)  # panels show images, and say so


@dataclass(frozen=True)
class Dense:
    """A trained network; `key` names its checkpoint, None if it is the user's own."""

    name: str
    key: Key | None
    model: nn.Module
    data: Data
    score: Score
    size_bytes: int

    @property
    def layers(self) -> list[str]:
        """The names of the weights."""
        return list(weights(self.model))

    def sweep(self, kind: str) -> pd.DataFrame:
        """The measured sweep that ships for this checkpoint; an empty table where there is none."""
        if self.key is None or sweep_path(kind, *self.key) not in manifest():
            return pd.DataFrame(columns=COLUMNS)
        return shipped_sweep(kind, *self.key)


def own(model: nn.Module, data: Data, name: str = "", key: Key | None = None) -> Dense:
    """Score and weigh a trained network once; a copy of it, so that later training does not change what was scored.

    ValueError or TypeError for a network that does not classify the examples of `data`.
    """
    model, x = clone(unwrapped(model)).cpu().eval(), data.validation.x
    name = name or type(model).__name__
    with torch.no_grad():
        classes = logits_of(model, x[:2]).shape[1]
    *_, score = scores(model, data.validation)
    if classes > len(data.classes):
        raise ValueError(
            f"data.classes names {len(data.classes)} classes; allowed: {classes}, as many as {name} tells apart"
        )
    return Dense(name, key, model, data, score, len(store.encode(model)))


@functools.cache
def shipped(key: Key) -> Dense:
    """A checkpoint by its key."""
    return own(load_model(*key), load_data(key[1]), f"{key[0]} on {key[1]}", key)


def start(
    model: nn.Module | None, data: Data | None, networks: Sequence[Key] = OF_IMAGES
) -> tuple[Dense | None, dict[str, Any]]:
    """The user's own network and no control, or a menu of shipped `networks`, the first one chosen."""
    if (model is None) != (data is None):
        raise ValueError("model and data belong together: give both or neither")
    if model is not None and data is not None:
        _check.kind(nn.Module, model=model)
        _check.kind(Data, data=data)
        for name in ("train", "validation"):
            if (device := getattr(data, name).prototype.device).type != "cpu":
                raise ValueError(f"data.{name}.x is on the device {device}; allowed: cpu, where panels work")
        return own(model, data), {}
    options = [(f"{m} on {d}", (m, d)) for m, d in networks]
    return None, {"checkpoint": _controls.choice("network", options, networks[0])}


def at_least(part: str, data: Data, examples: int) -> None:
    """Refuse a split of `data`, "train" or "validation", that is too small for a panel."""
    if (n := len(getattr(data, part))) < examples:
        raise ValueError(f"data.{part} has {n} examples; allowed here: at least {examples}")


def follow(controls: Mapping[str, Any], menu: widgets.Dropdown, everything: bool = True) -> None:
    """Let a menu of layers show those of the chosen checkpoint; call it when the panel already listens."""

    def offer(change: Mapping[str, Any]) -> None:
        with contextlib.suppress(Exception):  # the panel says in words why a checkpoint cannot be had
            _controls.offer(menu, shipped(change["new"]).layers, everything)

    if "checkpoint" in controls:
        controls["checkpoint"].observe(offer, "value")
