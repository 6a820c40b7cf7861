"""The live panels: one function each, which returns a widget to end a cell with.

Each takes a trained model and its data set, or nothing for the shipped checkpoints.
"""

from labkit.explore._deep_compression import deep_compression
from labkit.explore._distillation import distillation
from labkit.explore._overview import overview
from labkit.explore._pruning import pruning
from labkit.explore._quantization import quantization
from labkit.explore._sharing import sharing
from labkit.explore._structured import structured

__all__ = ["deep_compression", "distillation", "overview", "pruning", "quantization", "sharing", "structured"]
