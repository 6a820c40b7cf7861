"""Runs of the panel `few_bits`: training with rounded weights, gradients or both, and the gradients recorded."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import drawing, store
from labkit.compress.gradients import integer_gradients
from labkit.compress.qat import finish_qat, prepare_qat
from labkit.compress.quantize import quantize
from labkit.live.controls import bits, choice, steps
from labkit.live.training import Run, Stop, Trained, batch_size, stream
from labkit.models import reinitialized
from labkit.optim import TORCHS

FLOAT = 32  # bits: not rounded
GRADIENT_BITS = (2, 3, 4, 6, 8, 12, 16, FLOAT)
STARTS = [("trained weights", "trained"), ("new weights", "new")]
RATES = (3e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
USUAL = {"AdamW": 1e-3, "momentum": 0.03, "SGD": 0.1}  # the learning rate that the menu sets
EDGES = np.linspace(-7, 0, 50)  # of the histogram: log10 of |g| over the largest |g| of its tensor


@dataclass(frozen=True)
class Settings:
    """What a run starts from, what it rounds and how, and its budget."""

    start: str = choice("start from", STARTS, "trained", note="the weights before the first step", word="{}")
    bits: int = bits("weight bits", 2, note="bits per weight; 32 leaves the weights as they are")
    straight: bool = choice(
        "round weights", [("straight through (QAT)", True), ("only afterwards", False)], True,
        note="in every training step, with a straight-through gradient; or once, after training", word="rounded {}",
    )  # fmt: skip
    gradient_bits: int = steps(
        "gradient bits", [("32 (float)" if b == FLOAT else str(b), b) for b in GRADIENT_BITS], FLOAT,
        note="bits per gradient value; 32 leaves the gradients as they are",
    )  # fmt: skip
    stochastic: bool = choice(
        "round gradients", [("stochastically", True), ("to the nearest", False)], False,
        note="up or down at random, correct on average; or to the nearest level", word="rounded {}",
    )  # fmt: skip
    optimizer: str = choice("optimizer", list(USUAL), "AdamW", note="sets the peak lr to its usual value", word="{}")
    lr: float = steps("peak lr", [(drawing.lr_text(r), r) for r in RATES], 1e-3, note="the highest learning rate")
    epochs: int = steps("epochs", [(str(e), e) for e in (1, 2, 4, 6)], 1, note="passes over the training images")

    @property
    def control(self) -> "Settings | None":
        """The run with the gradients, or else the weights, rounded the other way. None if nothing is rounded."""
        if self.gradient_bits < FLOAT:
            return replace(self, stochastic=not self.stochastic)
        return replace(self, straight=not self.straight) if self.bits < FLOAT else None

    @property
    def label(self) -> str:
        """What is rounded and how, in short, and the learning rate: a row of the legend."""
        weights = f"{self.bits}-bit {'QAT' if self.straight else 'after'}, " if self.bits < FLOAT else ""
        how = "stochastic" if self.stochastic else "nearest"
        gradients = f"g {self.gradient_bits} {how}, " if self.gradient_bits < FLOAT else ""
        return f"{weights}{gradients}{self.optimizer} {drawing.lr_text(self.lr)}"

    @property
    def way(self) -> str:
        """The rounding mode in which this run differs from its control run."""
        if self.gradient_bits < FLOAT:
            return "stochastically" if self.stochastic else "to the nearest"
        return "straight through" if self.straight else "only afterwards"


@dataclass(frozen=True)
class Gradients:
    """The gradients of the last step of a run, and the values that have been 0 in every step."""

    count: int
    histogram: np.ndarray  # fraction of the values, by EDGES, before they were rounded
    zero_histogram: np.ndarray  # of those that rounding set to 0
    zeros: float  # fraction of the values that were 0
    still: float  # fraction of the values that were 0 in every step so far


@dataclass(frozen=True)
class Trial(Trained):
    """Settings and their run so far; `size_bytes` is the file of the rounded network, 0 if there is none."""

    size_bytes: int = 0
    gradients: Gradients | None = None
    control: "Trial | None" = None  # the control run so far


class Flow:
    """Records the gradients of the last step of a run, before and after rounding."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.before: list[Tensor] = []
        self.zero = self.still = torch.ones(0, dtype=torch.bool)

    def optimizer(self, parameters: Iterable[Any], **settings: Any) -> torch.optim.Optimizer:
        """The optimizer of the settings, for `fit`."""
        build, bits = self._seen_before, self.settings.gradient_bits
        if bits < FLOAT:
            build = integer_gradients(bits, stochastic=self.settings.stochastic, optimizer=self._seen_before)
        optimizer = build(parameters, **settings)
        optimizer.register_step_post_hook(self._after)
        return optimizer

    def _seen_before(self, parameters: Iterable[Any], **settings: Any) -> torch.optim.Optimizer:
        optimizer = TORCHS[self.settings.optimizer](parameters, **settings)
        optimizer.register_step_pre_hook(self._before)  # hooks run in order of registration: rounding is next
        return optimizer

    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.before = _gradients(optimizer)

    def _after(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.zero = torch.cat([g.flatten() == 0 for g in _gradients(optimizer)])
        self.still = self.zero & self.still if len(self.still) else self.zero

    def seen(self) -> Gradients:
        """The gradients of the last step."""
        share = torch.cat([(g.abs() / g.abs().max().clamp(min=1e-30)).flatten() for g in self.before]).nan_to_num(1.0)
        every, zero = (drawing.log_counts(g, EDGES) / len(share) for g in (share, share[self.zero]))
        means = (float(rows.float().mean()) for rows in (self.zero, self.still))
        return Gradients(len(share), every, zero, *means)


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def run_trial(trial: Trial, show: Callable[[Trial], None], overtaken: Stop) -> Trial | None:
    """Train on all training images; the results shown are of the rounded network. None if overtaken."""
    settings, data, flow = trial.settings, trial.dense.data, Flow(trial.settings)
    aware = settings.bits < FLOAT and settings.straight

    def rounded(model: nn.Module) -> nn.Module:
        if aware:
            return finish_qat(model)
        return quantize(model, settings.bits) if settings.bits < FLOAT else model

    def seen(run: Run, small: nn.Module) -> None:
        nonlocal trial
        size = 0 if run.diverged else len(store.encode(small))
        trial = replace(trial, run=run, size_bytes=size, gradients=flow.seen())
        show(trial)

    model = reinitialized(trial.dense.model, 0) if settings.start == "new" else trial.dense.model
    ended = stream(
        prepare_qat(model, settings.bits) if aware else model, data.train, data.validation, trial.run.label, seen,
        overtaken, made=rounded, optimizer=flow.optimizer, lr=settings.lr, epochs=settings.epochs,
        batch_size=batch_size(data.train),
    )  # fmt: skip
    return trial if ended else None
