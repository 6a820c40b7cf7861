"""The live panels: one function each, which returns a widget to end a cell with.

Each takes a trained model and its data set, or nothing for the shipped checkpoints.
"""

from labkit.explore._architectures import architectures
from labkit.explore._article_mlp import article_mlp
from labkit.explore._deep_compression import deep_compression
from labkit.explore._distillation import distillation
from labkit.explore._few_bits import few_bits
from labkit.explore._learning_rate import learning_rate
from labkit.explore._optimizers import optimizers
from labkit.explore._order import order
from labkit.explore._overview import overview
from labkit.explore._pruning import pruning
from labkit.explore._quantization import quantization
from labkit.explore._race import race
from labkit.explore._regularization import regularization
from labkit.explore._search import search
from labkit.explore._sharing import sharing
from labkit.explore._structured import structured

__all__ = [
    "architectures",
    "article_mlp",
    "deep_compression",
    "distillation",
    "few_bits",
    "learning_rate",
    "optimizers",
    "order",
    "overview",
    "pruning",
    "quantization",
    "race",
    "regularization",
    "search",
    "sharing",
    "structured",
]
