"""Where a panel starts from: a trained network, its data, what it scores and weighs before anything is done to it."""

import functools
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from labkit import _check, store
from labkit._module import clone, logits_of, unwrapped
from labkit.compress._weights import weights
from labkit.data import TEXTS, Data, load_data, manifest
from labkit.live.score import Score, scores
from labkit.sweep import shipped_sweep, sweep_path
from labkit.zoo import RECIPES, load_model

COLUMNS = ["method", "steps", "sparsity", "bits", "symmetric", "granularity", "accuracy", "size_bytes"]
Key = tuple[str, str]  # a checkpoint: model name, data name
OF_IMAGES = tuple(key for key in RECIPES if key[1] not in TEXTS)  # panels show images, and say so


@dataclass(frozen=True)
class Baseline:
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


def from_user(model: nn.Module, data: Data, name: str = "", key: Key | None = None) -> Baseline:
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
    return Baseline(name, key, model, data, score, len(store.encode(model)))


@functools.cache
def shipped(key: Key) -> Baseline:
    """A checkpoint by its key."""
    return from_user(load_model(*key), load_data(key[1]), f"{key[0]} on {key[1]}", key)


def given(model: nn.Module | None, data: Data | None) -> Baseline | None:
    """The user's own network, scored and weighed; None where there is none."""
    if (model is None) != (data is None):
        raise ValueError("model and data belong together: give both or neither")
    if model is None or data is None:
        return None
    _check.kind(nn.Module, model=model)
    _check.kind(Data, data=data)
    for name in ("train", "validation"):
        if (device := getattr(data, name).prototype.device).type != "cpu":
            raise ValueError(f"data.{name}.x is on the device {device}; allowed: cpu, where panels work")
    return from_user(model, data)


def at_least(part: str, data: Data, examples: int) -> None:
    """Refuse a split of `data`, "train" or "validation", that is too small for a panel."""
    if (n := len(getattr(data, part))) < examples:
        raise ValueError(f"data.{part} has {n} examples; allowed here: at least {examples}")
