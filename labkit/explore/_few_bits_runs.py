"""Runs of the panel `few_bits`: a training that rounds weights, gradients or both, and its gradients."""

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
from labkit.live.controls import bits, choice, steps
from labkit.live.training import Run, Trained, batch_size, stream
from labkit.optim import TORCHS
from labkit.sweep import fresh

FLOAT = 32  # bits of what is not rounded
GRADIENT_BITS = (2, 3, 4, 6, 8, 12, 16, FLOAT)
RATES = (3e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
USUAL = {"AdamW": 1e-3, "momentum": 0.03, "SGD": 0.1}  # where the menu sets the learning rate
EDGES = np.linspace(-7, 0, 50)  # of the histogram: log10 of |g| over the largest |g| of its tensor


@dataclass(frozen=True)
class Settings:
    """What a run starts from, what it rounds and how, and its budget."""

    start: str = choice(
        "start from", [("trained weights", "trained"), ("new weights", "new")], "trained",
        note="the weights before the first step", word="{}",
    )  # fmt: skip
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
    lr: float = steps("peak lr", [(plots.lr_text(r), r) for r in RATES], 1e-3, note="the highest learning rate")
    epochs: int = steps("epochs", [(str(e), e) for e in (1, 2, 4, 6)], 1, note="passes over the training images")

    @property
    def control(self) -> "Settings | None":
        """The run that rounds gradients the other way; where they are float, weights. None if nothing is rounded."""
        if self.gradient_bits < FLOAT:
            return replace(self, stochastic=not self.stochastic)
        return replace(self, straight=not self.straight) if self.bits < FLOAT else None

    @property
    def label(self) -> str:
        """What is rounded and how, in short, and the learning rate: a row in the key."""
        weights = f"{self.bits}-bit {'QAT' if self.straight else 'after'}, " if self.bits < FLOAT else ""
        how = "stochastic" if self.stochastic else "nearest"
        gradients = f"g {self.gradient_bits} {how}, " if self.gradient_bits < FLOAT else ""
        return f"{weights}{gradients}{self.optimizer} {plots.lr_text(self.lr)}"

    @property
    def way(self) -> str:
        """How it rounds, where its control run does otherwise."""
        if self.gradient_bits < FLOAT:
            return "stochastically" if self.stochastic else "to the nearest"
        return "straight through" if self.straight else "only afterwards"


@dataclass(frozen=True)
class Gradients:
    """What flowed back in the last step of a run, and who has had a gradient so far."""

    count: int
    histogram: np.ndarray  # share of the values, by EDGES, before they were rounded
    zero_histogram: np.ndarray  # of those that were 0 after it
    zeros: float  # share of the values that were 0
    still: float  # share of the values that were 0 in every step so far


@dataclass(frozen=True)
class Trial(Trained):
    """Settings and their run so far; `size_bytes` is the file of the rounded network, 0 if there is none."""

    size_bytes: int = 0
    gradients: Gradients | None = None
    control: "Trial | None" = None  # the control run, as far as it has come


class Flow:
    """Watches the gradients of a run: of the last step, before they are rounded and after it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.before: list[Tensor] = []
        self.zero = self.still = torch.ones(0, dtype=torch.bool)

    def optimizer(self, parameters: Iterable[Any], **settings: Any) -> torch.optim.Optimizer:
        """The optimizer of the settings, for `fit`."""
        build, bits = self._seen_before, self.settings.gradient_bits
        if bits < FLOAT:
            build = integer_gradients(bits, stochastic=self.settings.stochastic, optimizer=self._seen_before)
        stepper = build(parameters, **settings)
        stepper.register_step_post_hook(self._behind)
        return stepper

    def _seen_before(self, parameters: Iterable[Any], **settings: Any) -> torch.optim.Optimizer:
        stepper = TORCHS[self.settings.optimizer](parameters, **settings)
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


def run_trial(trial: Trial, show: Callable[[Trial], None], overtaken: Callable[[], bool]) -> Trial | None:
    """Train on all training images; what is shown is the rounded network. None if it was overtaken."""
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

    model = fresh(trial.dense.model, 0) if settings.start == "new" else trial.dense.model
    ended = stream(
        prepare_qat(model, settings.bits) if aware else model, data.train, data.validation, trial.run.label, seen,
        overtaken, made=rounded, optimizer=flow.optimizer, lr=settings.lr, epochs=settings.epochs,
        batch_size=batch_size(data.train),
    )  # fmt: skip
    return trial if ended else None
