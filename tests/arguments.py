"""Bad values for every kind of argument, and what became of a call that was given one.

A case is a public function with good arguments. The kind of an argument follows from its name or from the type of its
good value. Each bad value takes the place of the good one; the others stay.
"""

import dataclasses
import inspect
import linecache
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import labkit
from labkit.data import Data, Split

HOME = str(Path(labkit.__file__).parent)
torch.manual_seed(0)
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).eval()
SPLIT = Split(torch.rand(128, 1, 8, 8), torch.arange(128) % 10)
DATA = Data("made up", SPLIT, SPLIT, SPLIT, tuple("0123456789"), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
NAN_MODEL = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
for p in NAN_MODEL.parameters():
    p.data.fill_(nan)

NO_NUMBER = [None, "x", nan, np.float64(nan), True, 1j, [1], torch.tensor([1.0, 2.0]), {}]
NO_WHOLE = [*NO_NUMBER, inf, -inf, 1.5]
# kind -> (values that are wrong for every argument of the kind, values that may be right for some)
BAD: dict[str, tuple[list[Any], list[Any]]] = {
    "number": (NO_NUMBER, [inf, -inf, -1, 0, 10**400]),
    "whole": (NO_WHOLE, [-1, 0, 10**400]),
    "seed": ([*NO_WHOLE, -1, 2**63, 10**400], [0]),
    "seeds": (["1", 3, ["x"], [None], [1.5], [-1], [2**63]], [[]]),
    "flag": (["affine", None, 2, [], torch.tensor([True, False])], []),
    "name": (["no such name", None, 3, ["x"], {}], [""]),
    "key": (["no such name", None, 3, ""], []),  # of a function with a cache: Python refuses what has no hash
    "text": ([None, 3, ["x"]], ["", "no such name"]),
    "names": (["1", ["no such name"], 3, [3], [None]], [[]]),
    "layers": (["1", [], ["no such name"], 3, [3], [None]], []),
    "excluded": (["1", ["no such name"], 3, [3], [None]], [[]]),
    "jobs": (NO_WHOLE, []),
    "texts": ([None, "1", 3, [3]], [[]]),
    "model": ([None, {}, lambda x: x, "model", nn.Linear], [NAN_MODEL, nn.Sequential(nn.Flatten(), nn.ReLU())]),
    "split": ([None, (SPLIT.x, SPLIT.y), DATA, "x", 3], [Split(torch.rand(3, 7), torch.arange(3))]),
    "data": ([None, SPLIT, "digits", {}], []),
    "tensor": ([None, [[1.0]], "x", {}], [torch.tensor(1.0), torch.zeros(0), torch.full((2, 3), nan), torch.zeros(1,
         2, 3)]),
    "array": ([None, "x", {}], [np.zeros(0), np.full((2, 3), nan), np.array(["a"]), 3]),
    "function": ([None, 3, "relu", {}], []),
    "table": ([None, {}, [], "x", pd.DataFrame({"other": [1]})], [pd.DataFrame()]),
    "mapping": ([None, 3, "x", ["x"]], [{}]),
    "space": ([None, {}, "x", {"a": (nan, 1)}, {"a": (1, inf)}, {"a": (2, 1)}, {"a": 3}, {"a": []}, {3: [1]}], []),
    "path": ([None, 3, {}], []),
    "dtype": (["x", {}], [None, 3]),
}  # fmt: skip
NAMED = {
    "seed": "seed",
    "seeds": "seeds",
    "space": "space",
    "layers": "layers",
    "exclude": "excluded",
    "n_jobs": "jobs",
}  # whatever the good value is


@dataclass
class Case:
    """A call with good arguments; `kinds` where the good value does not tell; `free`: any value is right."""

    function: Callable[..., Any]
    good: dict[str, Any]
    kinds: dict[str, str] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    call: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """module.function"""
        return f"{self.function.__module__}.{self.function.__qualname__}".removeprefix("labkit.")

    def arguments(self) -> dict[str, Any]:
        """Every argument of the signature with its good value, the default where none is given."""
        given = inspect.signature(self.function).parameters.values()
        defaults = {p.name: p.default for p in given if p.default is not p.empty}
        return defaults | self.good

    def untold(self) -> set[str]:
        """Arguments of the signature for which the case has no value."""
        given = inspect.signature(self.function).parameters.values()
        return {p.name for p in given if p.kind is not p.VAR_KEYWORD} - self.arguments().keys()

    def run(self, **changed: Any) -> Any:
        """Call the function with the good arguments, but for those changed."""
        arguments = {k: v() if isinstance(v, Fresh) else v for k, v in (self.good | changed).items()}
        return (self.call or self.function)(**arguments)


@dataclass
class Fresh:
    """A good value that a call may use up."""

    make: Callable[[], Any]

    def __call__(self) -> Any:
        return self.make()


def kind_of(case: Case, name: str, value: Any) -> str:
    if name in case.kinds:
        return case.kinds[name]
    if name in NAMED:
        return NAMED[name]
    kinds = {
        bool: "flag", int: "whole", float: "number", str: "name", Tensor: "tensor", nn.Module: "model", Split: "split",
        Data: "data", pd.DataFrame: "table", np.ndarray: "array", Mapping: "mapping", Path: "path",
        (list, tuple): "names", Callable: "function",
    }  # fmt: skip
    for types, kind in kinds.items():
        if isinstance(value, types):
            return kind
    raise TypeError(f"{case.name}: say what kind {name} = {value!r} is")


def calls(case: Case) -> Iterator[tuple[str, Any, bool]]:
    """(argument, bad value, may it be right?) for every call to try."""
    for name, good in case.arguments().items():
        if name in case.free:
            continue
        wrong, perhaps = BAD[kind_of(case, name, good() if isinstance(good, Fresh) else good)]
        told = inspect.signature(case.function).parameters[name]
        optional = told.default is None or "None" in str(told.annotation)
        yield from ((name, value, False) for value in wrong if not (value is None and optional))
        if isinstance(good, pd.DataFrame):
            yield name, good.iloc[:0], True
        yield from ((name, value, True) for value in perhaps)


def verdict(case: Case, name: str, value: Any, may_be_right: bool) -> str:
    """ "house" words, a "right" result, or what went wrong."""
    try:
        case.run(**{name: value})
    except Exception as error:  # noqa: BLE001 - that is what is asked
        return judged(error, "" if may_be_right else name)
    return "right" if may_be_right else "let in"


def judged(error: Exception, name: str) -> str:
    """ "house" for ValueError or TypeError of ours, in one sentence that names the argument.

    A network that is no good is told by its layer, a split by its x: without `name` any sentence of ours will do.
    """
    last, said = traceback.extract_tb(error.__traceback__)[-1], str(error)
    ours = last.filename.startswith(HOME) and "raise" in linecache.getline(last.filename, last.lineno)
    if type(error) in (ValueError, TypeError) and ours and "\n" not in said and re.search(rf"\b{name}s?\b", said):
        return "house"
    return f"{type(error).__name__}: {said.splitlines()[0][:110] if said else ''}"


def facts(value: Any) -> Any:
    """What two equal results have in common."""
    if isinstance(value, Tensor | np.ndarray):
        return facts(value.tolist())
    if isinstance(value, nn.Module):
        return {k: facts(v) for k, v in value.state_dict().items()}
    if isinstance(value, pd.DataFrame):
        return facts(value.to_dict("list"))
    if isinstance(value, Mapping):
        return {str(k): facts(v) for k, v in value.items() if k not in ("latency_ms", "seconds")}
    if isinstance(value, list | tuple):
        return [facts(v) for v in value]
    if dataclasses.is_dataclass(value):
        return facts(vars(value))
    if isinstance(value, float | int | np.generic) and not isinstance(value, bool | np.bool_):
        return f"{float(value):.5g}"
    return repr(value) if isinstance(value, str | bytes | None) else type(value).__name__
