"""Trained checkpoints: load one, or retrain it from its recipe.

python -m labkit.zoo                         every checkpoint with its recipe and its accuracy
python -m labkit.zoo train lenet-5 mnist     retrain one into data/checkpoints/ (minutes; ResNet-20 over an hour)
"""

import functools
import json
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import nn

from labkit import _check, augment, losses
from labkit._files import replace
from labkit.data import load_data, partial, publish, verified
from labkit.models import build
from labkit.train import count_correct, fit

MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=5e-4)


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint was trained: the arguments of `fit`, and the training data."""

    settings: dict[str, Any]
    trained_on: str = ""  # "" means the data set of the checkpoint's own name


LENET = Recipe(
    dict(epochs=12, lr=2e-3, batch_size=128, seed=0, optimizer=functools.partial(torch.optim.AdamW, weight_decay=0.1))
)

RECIPES = {
    ("lenet-300-100", "mnist"): LENET,
    ("lenet-300-100", "fashion-mnist"): Recipe(LENET.settings | dict(epochs=20)),
    ("lenet-5", "mnist"): LENET,
    ("lenet-5", "fashion-mnist"): LENET,
    ("resnet-20", "cifar10"): Recipe(
        dict(epochs=45, lr=0.2, batch_size=128, seed=0, optimizer=MOMENTUM, augment=augment.crop_flip,
             loss=losses.cross_entropy_bf16),
        trained_on="cifar10-full",
    ),
    ("mobilenet", "cifar10"): Recipe(
        dict(epochs=40, lr=0.2, batch_size=128, seed=0, optimizer=functools.partial(MOMENTUM, weight_decay=1e-4),
             augment=augment.crop_flip, loss=losses.cross_entropy_bf16),
        trained_on="cifar10-full",
    ),
    ("vit", "fashion-mnist"): Recipe(LENET.settings | dict(epochs=100, augment=augment.crop_flip)),
    ("char-transformer", "shakespeare"): Recipe(
        LENET.settings | dict(epochs=4, lr=8e-3, batch_size=64, loss=losses.next_character)
    ),
}  # fmt: skip
FINE_TUNE: dict[str, Any] = dict(
    epochs=6, lr=1e-3, progress=False
)  # the budget of every sweep that trains a checkpoint


def checkpoint(name: str, data_name: str) -> str:
    """The path of a checkpoint in data/."""
    _check.kind(str, name=name, data_name=data_name)
    if (name, data_name) not in RECIPES:
        pairs = ", ".join(f"{m} on {d}" for m, d in RECIPES)
        raise ValueError(f"name and data_name are {name!r} and {data_name!r}; allowed: {pairs}")
    return f"checkpoints/{name}--{data_name}.safetensors"


def record(path: str) -> str:
    """The path in data/ of the record of a checkpoint."""
    _check.kind(str, path=path)
    return path.replace(".safetensors", ".json")


def load_model(name: str, data_name: str) -> nn.Module:
    """A trained network from data/checkpoints, in evaluation mode.

    Args:
        name: an architecture, as in `build`.
        data_name: the data set that it was trained for, as in `load_data`.

    Returns:
        A new model at each call.

    Raises:
        ValueError: there is no such checkpoint, or it is damaged.

    Example:
        >>> model = lk.load_model("lenet-300-100", "mnist")
        >>> sum(p.numel() for p in model.parameters()), model.training
        (266610, False)
    """
    raw = verified(checkpoint(name, data_name))
    with torch.random.fork_rng(devices=[]):  # the initial weights are random, and then replaced
        model = build(name)
    model.load_state_dict(safetensors.torch.load(raw))
    return model.eval()


def retrain(name: str, data_name: str, progress: bool = True) -> dict[str, Any]:
    """Train with the recipe, write the checkpoint and its figures, and return them; test is scored once, at the end."""
    path, recipe = checkpoint(name, data_name), RECIPES[name, data_name]
    data = load_data(recipe.trained_on or data_name)
    torch.manual_seed(recipe.settings["seed"])
    model, history = fit(build(name), data.train, validation=data.validation, progress=progress, **recipe.settings)
    figures = dict(
        model=name,
        data=data.name,
        recipe={k: _plain(v) for k, v in recipe.settings.items()},
        train_images=len(data.train),
        validation_accuracy=count_correct(model, data.validation) / len(data.validation),
        test_accuracy=count_correct(model, data.test) / len(data.test),
        seconds=round(history.seconds.sum(), 1),
        command=f"python -m labkit.zoo train {name} {data_name}",
    )
    partial(path).parent.mkdir(exist_ok=True)
    replace(partial(path), [safetensors.torch.save(model.state_dict())])
    replace(partial(record(path)), [(json.dumps(figures, indent=1) + "\n").encode()])
    publish(path, record(path))
    return figures


def figures() -> list[dict[str, Any]]:
    """The record that was written beside each checkpoint when it was trained."""
    return [json.loads(verified(record(checkpoint(*key)))) for key in RECIPES]


def _plain(value: object) -> object:
    if isinstance(value, functools.partial):
        return f"{value.func.__name__}({', '.join(f'{k}={v}' for k, v in value.keywords.items())})"
    return getattr(value, "__name__", value)
