"""The live panels: one function each, which returns a widget to end a cell with.

Each takes a trained model and its data set, or nothing for the shipped checkpoints, and `preset`, the name of a scene.
"""

import importlib
from typing import Any

_ROOMS = {
    "architectures": "_architectures",
    "article_mlp": "_article_mlp",
    "deep_compression": "_deep_compression",
    "distillation": "_distillation",
    "few_bits": "_few_bits",
    "learning_rate": "_learning_rate",
    "optimizers": "_optimizers",
    "order": "_order",
    "overview": "_overview",
    "pruning": "_pruning",
    "quantization": "_quantization",
    "race": "_race",
    "regularization": "_regularization",
    "search": "_search",
    "sharing": "_sharing",
    "structured": "_structured",
}
__all__ = sorted(_ROOMS)  # noqa: PLE0605 - a list of names


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(importlib.import_module(f"labkit.explore.{_ROOMS[name]}"), name)
    raise AttributeError(f"labkit.explore has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
