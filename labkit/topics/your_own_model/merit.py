"""The figure of merit of your own model: any function of its outputs and y, with its interval, compared in pairs.

metric(outputs, y) gives one score per example, whose mean counts, or one number for all examples.

    right or wrong         the share of right answers, Wilson's interval; damage as in `significance.difference`
    anything else          the percentile bootstrap (Efron & Tibshirani 1993): RESAMPLES times n of the n examples are
                           drawn with replacement; two models are compared on the same draws
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from labkit import _check
from labkit._module import as_logits, evaluating, logits_of, running
from labkit.data import Data, Split
from labkit.live.score import growing
from labkit.significance import difference, wilson

RESAMPLES = 200
PROBE = 64  # examples on which a metric is tried first
BETTER = ("higher", "lower")
Damage = tuple[float, float, float]  # how much worse, and the ends of its interval, in units of the metric


@dataclass(frozen=True)
class Metric:
    """A figure of merit. `each`: `of(outputs, y)` gives one score per example; else one number for all."""

    name: str
    of: Callable[[Any, Tensor], Any]
    better: str = "higher"
    each: bool = True
    percent: bool = False  # whether it reads in per cent

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1

    def __call__(self, outputs: Any, y: Tensor) -> Any:
        """What the function gives; ValueError, which names it, for its errors."""
        try:
            return self.of(outputs, y)
        except Exception as error:
            given = f"outputs {_shape(outputs)} and y {tuple(y.shape)}"
            raise ValueError(f"metric {self.name} does not work on {given}: {error}") from error

    def scores(self, outputs: Any, y: Tensor) -> Tensor:
        """One score per example, (n,): the mean over its positions."""
        return torch.as_tensor(self(outputs, y)).double().reshape(len(y), -1).mean(1)

    def show(self, value: float) -> str:
        """A value in words."""
        return f"{value:.2%}" if self.percent else f"{value:.4g}"

    def change(self, damage: float) -> str:
        """Damage in words: points of accuracy; of other metrics, what is added to the value."""
        return f"{-100 * damage:+z.1f} points" if self.percent else f"{-self.sign * damage:+z.2g}"


@dataclass(frozen=True)
class Merit:
    """The figure of merit on the first examples of `total`; `kept` holds their scores (n,), or their outputs."""

    metric: Metric
    kept: Any
    y: Tensor
    total: int

    @property
    def examples(self) -> int:
        """How many were scored."""
        return len(self.y)

    @property
    def settled(self) -> bool:
        """Whether every example was scored."""
        return self.examples == self.total

    @cached_property
    def value(self) -> float:
        """The figure of merit."""
        return self._of(slice(None))

    @cached_property
    def shares(self) -> bool:
        """Whether every example is right, 1, or wrong, 0."""
        return self.metric.each and bool(((self.kept == 0) | (self.kept == 1)).all())

    @cached_property
    def draws(self) -> Tensor:
        """The figure of each resample; every model of n examples has the same resamples."""
        random, n = torch.Generator().manual_seed(0), self.examples
        return torch.tensor([self._of(torch.randint(n, (n,), generator=random)) for _ in range(RESAMPLES)]).double()

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return wilson(int(self.kept.sum()), self.examples) if self.shares else _middle(self.draws)

    def first(self, n: int) -> "Merit":
        """That of the first n examples alone."""
        if n >= self.examples:
            return self
        return Merit(self.metric, tree_map(lambda values: values[:n], self.kept), self.y[:n], n)

    @torch.inference_mode()
    def _of(self, rows: Any) -> float:
        if self.metric.each:
            return float(self.kept[rows].mean())
        return float(self.metric(tree_map(lambda values: values[rows], self.kept), self.y[rows]))


def damage(before: Merit, after: Merit) -> Damage:
    """How much worse `after` is than `before`, on the same examples, with the paired 95 % interval."""
    sign = before.metric.sign
    if before.shares and after.shares:
        gap = sign * (before.kept - after.kept)
        return difference(int((gap > 0).sum()), int((gap < 0).sum()), after.examples)
    return sign * (before.value - after.value), *_middle(sign * (before.draws - after.draws))


def _middle(draws: Tensor) -> tuple[float, float]:
    """The middle 95 % of the draws."""
    low, high = draws.quantile(draws.new_tensor([0.025, 0.975])).tolist()
    return low, high


def merits(metric: Metric, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Merit]:
    """Previews where all examples would be late, at last the figure of merit on all; as `live.score.scores`."""

    def of(model: nn.Module, x: Tensor, rows: slice) -> Any:
        return metric.scores(model(x), y[rows]) if metric.each else model(x)

    return _merits(metric, growing(model, x, of), y)


def _merits(metric: Metric, found: Iterator[list[Any]], y: Tensor) -> Iterator[Merit]:
    for pieces in found:
        kept = tree_map(lambda *parts: torch.cat(parts), *pieces)
        done = sum(len(tree_leaves(piece)[0]) for piece in pieces)
        yield Merit(metric, kept, y[:done], len(y))


# --- what a user gives ------------------------------------------------------------------------------------------------


def examples_of(data: Any) -> tuple[Tensor, Tensor]:
    """(x, y) of a labkit Data (validation), a Split, a pair of tensors, or an iterable of batches (x, y), read once."""
    allowed = "allowed: a labkit.Data, a pair (x, y) of tensors, or an iterable of batches (x, y)"
    if isinstance(data, Data | Split):
        split = data.validation if isinstance(data, Data) else data
        x, y = split.x, split.y
    elif isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        x, y = data
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping | Tensor):
        x, y = _joined(list(data), allowed)
    else:
        raise TypeError(f"data is {_check.shown(data)}; {allowed}")
    _check.filled(x=x, y=y)
    if len(x) != len(y):
        raise ValueError(f"x has the shape {tuple(x.shape)}; allowed: ({len(y)}, …), one example per entry of y")
    for name, value in dict(x=x, y=y).items():
        if value.device.type != "cpu":
            raise ValueError(f"{name} is on the device {value.device}; allowed: cpu, where panels work")
    return x, y


def _joined(batches: list[Any], allowed: str) -> tuple[Tensor, Tensor]:
    """The batches as two tensors."""
    for i, batch in enumerate(batches):
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not pair or not all(isinstance(part, Tensor) and part.ndim for part in batch):
            inner = ", ".join(map(_shape, batch)) if isinstance(batch, tuple | list) else _shape(batch)
            raise TypeError(f"batch {i} of data holds {inner}; allowed: a pair of tensors, x (n, …) and y (n, …)")
    if not batches:
        raise ValueError(f"data has no batch; {allowed}")
    x, y = zip(*batches, strict=True)
    try:
        return torch.cat(x), torch.cat(y)
    except RuntimeError as error:
        raise ValueError(f"the batches of data do not join: {error}; allowed: examples of one shape") from error


def metric_of(function: Any, better: str, model: nn.Module, x: Tensor, y: Tensor) -> Metric:
    """The metric, tried on the first examples: accuracy if `function` is None."""
    _check.kind(Callable | None, metric=function)
    _check.one_of("better", better, BETTER)
    few = min(PROBE, len(x))
    with torch.inference_mode(), evaluating(model):
        if function is None:
            return _accuracy(better, model, x, y)
        outputs = _outputs(model, x[:few])
        name = getattr(function, "__name__", "metric").replace("_", " ").replace("<lambda>", "metric")
        found = Metric(name, function)(outputs, y[:few])
    each = isinstance(found, Tensor) and found.shape[:1] == (few,)
    if not each and not isinstance(_check.plain(found.squeeze() if isinstance(found, Tensor) else found), int | float):
        said = f"metric {name} gives {_shape(found)} for {few} examples"
        raise TypeError(f"{said}; allowed: a number, or a tensor ({few}, …) of one score per example")
    if not each and not all(isinstance(part, Tensor) and part.shape[:1] == (few,) for part in tree_leaves(outputs)):
        said = f"model {type(model).__name__} returns {_shape(outputs)} for {few} examples"
        raise TypeError(
            f"{said}; allowed where a metric gives one number: tensors ({few}, …), also in tuples and dicts"
        )
    return Metric(name, function, better, each)


def _accuracy(better: str, model: nn.Module, x: Tensor, y: Tensor) -> Metric:
    if better != "higher":
        raise ValueError(f"better is {better!r} without a metric; allowed: 'higher', for accuracy")
    _check.examples(x, y)
    label = int(y.max())
    logits_of(model, x[:PROBE], label)

    def right(outputs: Any, y: Tensor) -> Tensor:
        return as_logits(model, outputs, len(y), label).argmax(1) == y

    return Metric("accuracy", right, percent=True)


def _outputs(model: nn.Module, x: Tensor) -> Any:
    try:
        with running(model, "x", x):
            return model(x)
    except TypeError as error:
        raise TypeError(f"model {type(model).__name__} does not run on x alone: {error}") from error


def _shape(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
