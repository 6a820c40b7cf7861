"""Runs of the panel `few_bits`: a training that rounds weights, gradients or both, and what flows back in it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import plots, store
from labkit.compress.gradients import integer_gradients
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.quantize import quantize
from labkit.explore._start import Dense
from labkit.explore._training import Run, stream
from labkit.optim import TORCHS
from labkit.sweep import fresh

FLOAT = 32  # bits of what is not rounded
BATCH = 128
EDGES = np.linspace(-7, 0, 50)  # of the histogram: log10 of |g| over the largest |g| of its tensor


@dataclass(frozen=True)
class Setting:
    """What a run starts from, what it rounds and how, and its budget."""

    start: str  # "trained" or "new": the weights
    bits: int  # of a weight
    straight: bool  # weights rounded in every step, straight through (QAT); else only afterwards
    gradient_bits: int
    stochastic: bool  # gradients rounded stochastically; else to the nearest level
    optimizer: str  # a key of TORCHS
    lr: float
    epochs: int

    @property
    def twin(self) -> "Setting | None":
        """The same run with gradients rounded the other way; where they are float, weights. None if nothing is."""
        if self.gradient_bits < FLOAT:
            return replace(self, stochastic=not self.stochastic)
        return replace(self, straight=not self.straight) if self.bits < FLOAT else None

    @property
    def label(self) -> str:
        """What is rounded and how, in short, and the learning rate: a row in the key."""
        weights = f"{self.bits}-bit {'QAT' if self.straight else 'after'}, " if self.bits < FLOAT else ""
        how = "stoch." if self.stochastic else "nearest"
        gradients = f"g {self.gradient_bits} {how}, " if self.gradient_bits < FLOAT else ""
        return f"{weights}{gradients}{self.optimizer} {plots.lr_text(self.lr)}"

    @property
    def ways(self) -> tuple[str, str]:
        """How weights and how gradients are rounded."""
        weights = "straight through" if self.straight else "only afterwards"
        return weights, "stochastically" if self.stochastic else "to the nearest"

    @property
    def words(self) -> str:
        """All of it, for the alt text."""
        parts = [("weights", self.bits), ("gradients", self.gradient_bits)]
        weights, gradients = (
            f"{what} of {bits} bit{'s' * (bits > 1)} rounded {way}" if bits < FLOAT else f"float {what}"
            for (what, bits), way in zip(parts, self.ways, strict=True)
        )
        budget = f"{self.optimizer}, lr {plots.lr_text(self.lr)}, {self.epochs} epoch{'s' * (self.epochs > 1)}"
        return f"{self.start} weights, {weights}, {gradients}, {budget}"


@dataclass(frozen=True)
class Gradients:
    """What flowed back in the last step of a run, and who has had a gradient so far."""

    count: int
    histogram: np.ndarray  # share of the values, by EDGES, before they were rounded
    zero_histogram: np.ndarray  # of those that were 0 behind it
    zeros: float  # share of the values that were 0
    still: float  # share of the values that were 0 in every step so far


@dataclass(frozen=True)
class Trial:
    """A setting and its run so far; `size_bytes` is the file of the rounded network, 0 if there is none."""

    dense: Dense
    setting: Setting
    run: Run
    size_bytes: int = 0
    gradients: Gradients | None = None
    twin: "Trial | None" = None
    ghosts: tuple["Trial", ...] = ()


class Flow:
    """Watches the gradients of a run: of the last step, before they are rounded and behind it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.before: list[Tensor] = []
        self.zero = self.still = torch.ones(0, dtype=torch.bool)

    def optimizer(self, parameters: Iterable[Any], **settings: Any) -> torch.optim.Optimizer:
        """The optimizer of the setting, for `fit`."""
        build, bits = self._seen_before, self.setting.gradient_bits
        if bits < FLOAT:
            build = integer_gradients(bits, stochastic=self.setting.stochastic, optimizer=self._seen_before)
        stepper = build(parameters, **settings)
        stepper.register_step_post_hook(self._behind)
        return stepper

    def _seen_before(self, parameters: Iterable[Any], **settings: Any) -> torch.optim.Optimizer:
        stepper = TORCHS[self.setting.optimizer](parameters, **settings)
        stepper.register_step_pre_hook(self._before)  # hooks run in the order in which they came: the rounding is next
        return stepper

    def _before(self, stepper: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.before = _gradients(stepper)

    def _behind(self, stepper: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.zero = torch.cat([g.flatten() == 0 for g in _gradients(stepper)])
        self.still = self.zero & self.still if len(self.still) else self.zero

    def seen(self) -> Gradients:
        """The gradients as they stand."""
        share = torch.cat([(g.abs() / g.abs().max().clamp(min=1e-30)).flatten() for g in self.before])
        place = share.nan_to_num(1.0).clamp(1.001 * 10.0 ** EDGES[0], 0.999).log10()
        every, zero = (torch.histc(p, len(EDGES) - 1, EDGES[0], EDGES[-1]) for p in (place, place[self.zero]))
        means = (float(rows.float().mean()) for rows in (self.zero, self.still))
        return Gradients(len(share), every.numpy() / len(share), zero.numpy() / len(share), *means)


def _gradients(stepper: torch.optim.Optimizer) -> list[Tensor]:
    return [p.grad for group in stepper.param_groups for p in group["params"] if p.grad is not None]


def run_trial(
    dense: Dense, setting: Setting, show: Callable[[Trial], None], overtaken: Callable[[], bool]
) -> Trial | None:
    """Train by a setting on all training images; what is shown is the rounded network. None if it was overtaken."""
    flow, latest = Flow(setting), Trial(dense, setting, Run(setting.label))
    aware = setting.bits < FLOAT and setting.straight

    def rounded(model: nn.Module) -> nn.Module:
        if aware:
            return finish_qat(model)
        return quantize(model, setting.bits) if setting.bits < FLOAT else model

    def seen(run: Run, small: nn.Module) -> None:
        nonlocal latest
        size = 0 if run.diverged else len(store.encode(small))
        latest = Trial(dense, setting, run, size, flow.seen())
        show(latest)

    model, train = fresh(dense.model, 0) if setting.start == "new" else dense.model, dense.data.train
    ended = stream(
        prepare_qat(model, setting.bits) if aware else model, train, dense.data.validation, setting.label, seen,
        overtaken, made=rounded, optimizer=flow.optimizer, lr=setting.lr, epochs=setting.epochs,
        batch_size=min(BATCH, len(train)),
    )  # fmt: skip
    return latest if ended else None
