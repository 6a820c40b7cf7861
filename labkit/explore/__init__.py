"""The live panels: one function each, which returns a widget to end a cell with.

overview(), pruning() and quantization() take a trained model and its data set, or nothing for the shipped checkpoints.
"""

from labkit.explore._overview import overview
from labkit.explore._pruning import pruning
from labkit.explore._quantization import quantization

__all__ = ["overview", "pruning", "quantization"]
