"""labkit: make a trained network smaller, and measure what it costs.

    import labkit as lk
    data  = lk.load_data("mnist")                     # .train .validation .test, each with tensors .x and .y
    model = lk.load_model("lenet-300-100", "mnist")   # trained, from data/, no download
    thin  = lk.prune(model, sparsity=0.9)             # a new model; the input is never changed
    thin, history = lk.fit(thin, data.train, epochs=3, lr=1e-3, after_step=lk.KeepZeros(thin))
    small = lk.quantize(thin, bits=4)
    lk.save(small, "small.lk")                        # this file's length is the size we quote
    again = lk.load("small.lk", into=model)           # equal, tensor by tensor
    lk.measure(again, data.validation)                # accuracy with its interval, bytes, MACs, latency
    lk.explore.overview()                             # the same, live

Data flows one way: data → models → train → compress → store → measure → explore. Every module is an attribute, such
as `lk.sweep`; modules that the functions here do not need are loaded when they are first used.
"""

import importlib
import os
import sys
from types import ModuleType

if sys.version_info < (3, 11):  # noqa: UP036 - a folder on the path is imported by whatever Python there is
    told = f"labkit needs Python 3.11 or newer, but this is {sys.version_info[0]}.{sys.version_info[1]}"
    raise ImportError(told, name="labkit")  # with its name, `python -m` shows the sentence alone

# Let idle OpenMP threads sleep; this must be set before torch loads, so `make lab` sets it, too. With a browser or a
# training run on the same processor, spinning made a slider 14 times and a training step 18 times slower here; on an
# idle machine, sleeping costs a tenth.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from labkit.budget import fit_budget
from labkit.compress.codebook import share_weights
from labkit.compress.compose import compose
from labkit.compress.distill import distill
from labkit.compress.fold import fold_batchnorm
from labkit.compress.gradients import integer_gradients
from labkit.compress.integer import integer_only
from labkit.compress.magnitude import GradualPruning, KeepZeros, prune, random_importance
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.quantize import quantize
from labkit.compress.structured import prune_channels
from labkit.data import Data, Split, load_data
from labkit.frontier import frontier
from labkit.measure import accuracy, compare, measure, sensitivity
from labkit.models import build
from labkit.store import compression_ratio, decode, encode, ledger, load, save, size_table
from labkit.train import fit
from labkit.zoo import load_model

_MODULES = (
    *("article", "augment", "budget", "compress", "data", "drawing", "explore", "export", "losses", "models", "optim"),
    *("search", "seeds", "significance", "store", "surfaces", "sweep", "teach", "topics", "train", "zoo"),
)

__all__ = [
    "Data",
    "Split",
    "accuracy",
    "build",
    "compare",
    "size_table",
    "compose",
    "compression_ratio",
    "decode",
    "distill",
    "encode",
    "finish_qat",
    "fit",
    "fit_budget",
    "fold_batchnorm",
    "frontier",
    "integer_gradients",
    "integer_only",
    "KeepZeros",
    "ledger",
    "load",
    "load_data",
    "load_model",
    "measure",
    "prepare_qat",
    "prune",
    "prune_channels",
    "GradualPruning",
    "quantize",
    "random_importance",
    "save",
    "sensitivity",
    "share_weights",
]


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"labkit.{name}")
    raise AttributeError(f"labkit has no {name!r}; it has {', '.join([*__all__, *_MODULES])}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
