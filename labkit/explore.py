"""The live panels: one function each, which returns a widget to end a cell with.

Each takes a trained model and its data, or nothing for the shipped checkpoints, and `preset`, the name of a scene.
"""

import importlib
from typing import Any

from labkit.topics import TOPICS

_TOPIC_OF = {panel: topic for topic, panels in TOPICS.items() for panel in panels}
__all__ = sorted(_TOPIC_OF)  # noqa: PLE0605 - a list of names


def __getattr__(name: str) -> Any:
    if name in _TOPIC_OF:
        return getattr(importlib.import_module(f"labkit.topics.{_TOPIC_OF[name]}.panel"), name)
    raise AttributeError(f"labkit.explore has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
