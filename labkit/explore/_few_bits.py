"""Panels of notebook 02c: a training with few bits in its weights or its gradients, and its twin at the same budget."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from torch import nn

from labkit import _check, plots
from labkit.data import Data
from labkit.explore import _controls, _words
from labkit.explore._few_bits_runs import EDGES, FLOAT, Setting, Trial, run_trial
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._start import Dense, Key, shipped, start
from labkit.explore._training import GHOSTS, Curves, Run

NETWORKS = (("lenet-300-100", "mnist"), ("lenet-300-100", "fashion-mnist"))
WEIGHT_BITS = (*range(1, 9), FLOAT)
GRADIENT_BITS = (2, 3, 4, 6, 8, 12, 16, FLOAT)
EPOCHS = (1, 2, 4, 6)
RATES = (3e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
USUAL = {"AdamW": 1e-3, "momentum": 0.03, "SGD": 0.1}  # where the menu sets the learning rate
FIRST = {  # where the controls stand at first: (start, weight bits, gradient bits, peak lr), as in the sweeps
    "weights": ("trained", 2, FLOAT, 1e-3),
    "gradients": ("new", FLOAT, 2, 2e-3),
}


class FewBits:
    """The view: accuracy against bits, measured, with a star for this run; its curves; what became of its gradients."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 5.6), own
        self._shown: Dense | None = None
        self._ended: list[Trial] = []
        add = self.live.figure.add_axes
        self.weights, self.gradients = add((0.07, 0.6, 0.25, 0.34)), add((0.07, 0.1, 0.25, 0.34))
        self.accuracies, self.losses = add((0.395, 0.6, 0.26, 0.34)), add((0.395, 0.1, 0.26, 0.34))
        self.flow, self.key = add((0.725, 0.6, 0.265, 0.34)), add((0.68, 0.08, 0.315, 0.36))

    def results(self, checkpoint: Key | None = None, **settings: Any) -> Iterator[Trial]:
        """A setting before its run, with its twin if that has run, and runs of other settings as ghosts."""
        dense: Dense = shipped(checkpoint) if checkpoint else self._own  # type: ignore[assignment]
        setting = Setting(**settings)
        # what is not rounded is not rounded in either way
        setting = replace(setting, straight=setting.straight or setting.bits == FLOAT)
        setting = replace(setting, stochastic=setting.stochastic or setting.gradient_bits == FLOAT)
        mine = {trial.setting: trial for trial in self._ended if trial.dense is dense}
        twin = mine.pop(setting.twin, None) if setting.twin else None
        mine.pop(setting, None)
        ghosts = tuple(mine.values())[1 - GHOSTS :]
        yield Trial(dense, setting, Run(setting.label), twin=twin, ghosts=ghosts)

    def train(self, settings: dict[str, Any], show: Callable[[Trial], None], overtaken: Callable[[], bool]) -> None:
        """Train by the setting; then, if it has not run before, its twin, beside it."""
        blank = next(self.results(**settings))

        def beside(trial: Trial, twin: Trial | None = blank.twin) -> Trial:
            return replace(trial, twin=twin, ghosts=blank.ghosts)

        ended = run_trial(blank.dense, blank.setting, lambda trial: show(beside(trial)), overtaken)
        if not ended:
            return
        self._keep(ended)
        if blank.setting.twin and not blank.twin:
            other = run_trial(blank.dense, blank.setting.twin, lambda twin: show(beside(ended, twin)), overtaken)
            if other:
                self._keep(other)

    def _keep(self, trial: Trial) -> None:
        one = (trial.dense, trial.setting)
        self._ended = [t for t in self._ended if (t.dense, t.setting) != one] + [trial]

    def draw(self, trial: Trial) -> None:
        """Move curves, stars and the histogram."""
        if trial.dense is not self._shown:
            self._draw_still(trial.dense)
            self._shown = trial.dense
        beside = [*trial.ghosts, trial.twin] if trial.twin else trial.ghosts
        self.curves.show(trial.run, [other.run for other in beside])
        self._place(self.stars, trial)
        self._place(self.twins, trial.twin)
        seen, n = trial.gradients, 2 ** (trial.setting.gradient_bits - 1) - 1
        blank = np.zeros(len(EDGES) - 1)
        self.every.set_data(seen.histogram if seen else blank)
        self.zero.set_data(seen.zero_histogram if seen else blank)
        half = [math.log10(0.5 / n)] * 2 if trial.setting.gradient_bits < FLOAT else []
        self.half.set_data(half, self.flow.get_ylim() if half else [])

    def _place(self, marks: list[Line2D], trial: Trial | None) -> None:
        """Put a trial where it belongs on the planes of what it rounds; what is below a plane is drawn at its edge."""
        last = [trial.run.accuracy] if trial and trial.run.score else []
        where = places(trial.setting) if trial else (None, None)
        for mark, ax, place in zip(marks, (self.weights, self.gradients), where, strict=True):
            here = [] if place is None else [(place, accuracy) for accuracy in last]
            x, accuracies = np.array(here).reshape(-1, 2).T
            mark.set_data(x, np.clip(plots.logit(accuracies), *ax.get_ylim()))

    def _draw_still(self, dense: Dense) -> None:
        for ax in (self.weights, self.gradients, self.accuracies, self.losses, self.flow, self.key):
            ax.clear()
        self.live.moving.clear()
        plots.bits_curves(self.weights, dense.sweep("qat"), "method", WEIGHT_BITS, 0.3)
        plots.bits_curves(self.gradients, dense.sweep("gradients"), "rounding", GRADIENT_BITS, 0.7)
        self.curves = Curves(self.losses, self.accuracies, self.key)
        self.losses.set_ylim(0.005, 6)
        for ax in (self.weights, self.accuracies):
            ax.axhline(float(plots.logit(dense.score.accuracy)), color=plots.BLACK, lw=1, ls=":")
        look: dict[str, Any] = dict(ls="", mec="black", mew=1.2, zorder=6, clip_on=False)
        planes = (self.weights, self.gradients)
        self.twins = [ax.plot([], [], marker="*", ms=12, color=plots.SKY, **look)[0] for ax in planes]
        self.stars = [ax.plot([], [], marker="*", ms=18, color=plots.YELLOW, **look)[0] for ax in planes]
        self.every, self.zero, self.half = plots.gradient_histogram(self.flow, EDGES)
        titles = {
            self.weights: "bits of a weight; lines: 6 epochs",
            self.gradients: "bits of a gradient; lines: 2 epochs",
            self.accuracies: "the rounded network, as it trains",
            self.losses: "loss of what trains",
            self.flow: "gradients of the last step",
            self.key: "this run, its twin, earlier ones",
        }
        for ax, title in titles.items():
            ax.set_title(title, fontsize=10.5, loc="left")
        self.live.move([*self.curves.artists, *self.twins, *self.stars, self.every, self.zero, self.half])
        self.live.refresh()

    def tell(self, trial: Trial) -> Words:
        """The trial and its twin in words."""
        cards = [accuracy_card(trial), twin_card(trial), file_card(trial), zeros_card(trial), still_card(trial)]
        status = trial.run.words
        if trial.run.ended and trial.twin:
            status += f"; twin {trial.twin.run.words}"
        alt = _words.sentence(f"{trial.dense.name}, {trial.setting.words}", cards) + trial.run.scored
        return Words(cards, alt, status + trial.run.scored)


def places(setting: Setting) -> tuple[int | None, int | None]:
    """Where a run stands among the bits of weights and of gradients; None for what it leaves alone."""
    float_weights, float_gradients = setting.bits == FLOAT, setting.gradient_bits == FLOAT
    return (
        None if float_weights and not float_gradients else WEIGHT_BITS.index(setting.bits),
        None if float_gradients and not float_weights else GRADIENT_BITS.index(setting.gradient_bits),
    )


def accuracy_card(trial: Trial) -> Card:
    """Where the rounded network stands on validation."""
    if trial.run.score is None:
        return "accuracy", "–", "the run starts when the controls rest"
    return _words.accuracy_card(trial.run.score, trial.dense.score)


def twin_card(trial: Trial) -> Card:
    """Where the twin stands, and on how many images the two differ."""
    setting, twin = trial.setting.twin, trial.twin
    if setting is None:
        return "twin", "–", "nothing is rounded"
    label = f"twin: {setting.ways[setting.gradient_bits < FLOAT]}"
    if twin is None or twin.run.score is None:
        return label, "–", "trained behind this run, as long"
    if not (twin.run.ended and trial.run.ended and trial.run.score):
        return label, f"{twin.run.score.accuracy:.2%}", "the same budget"
    _, counts, p = _words.flips_card(twin.run.score, trial.run.score, trial.dense.data.validation.y)
    return label, f"{twin.run.score.accuracy:.2%}", f"this run lost / won {counts}, {p}"


def file_card(trial: Trial) -> Card:
    """The file of the rounded network, and its twin's."""
    if not trial.size_bytes:
        return "file", "–", f"fp32 {trial.dense.size_bytes:,} B"
    label, value, note = _words.file_card(trial.size_bytes, trial.dense.size_bytes)
    return label, value, note + (f" · twin {trial.twin.size_bytes:,} B" if trial.twin and trial.twin.size_bytes else "")


def zeros_card(trial: Trial) -> Card:
    """How many gradient values were 0 in the last step."""
    if trial.gradients is None:
        return "gradients that are 0", "–", "of the last step"
    return "gradients that are 0", f"{trial.gradients.zeros:.1%}", f"of {trial.gradients.count:,} in the last step"


def still_card(trial: Trial) -> Card:
    """How many gradient values were 0 in every step so far: what no gradient ever moved."""
    twin = trial.twin.gradients if trial.twin else None
    note = f"twin {twin.still:.1%}" if twin else "twin –"
    if trial.gradients is None:
        return "0 in every step", "–", note
    return "0 in every step", f"{trial.gradients.still:.1%}", f"of {trial.run.moments[-1].step:,} steps · {note}"


def follow_optimizer(controls: dict[str, Any]) -> None:
    """Let the learning rate go to where an optimizer usually has it, when the optimizer is chosen."""

    def place(change: dict[str, Any]) -> None:
        controls["lr"].value = USUAL[change["new"]]

    controls["optimizer"].observe(place, "value")


def few_bits(model: nn.Module | None = None, data: Data | None = None, rounded: str = "weights") -> Panel:
    """A live panel of notebook 02c: a training with few bits, of LeNet-300-100 or of your own `model` on `data`.

    `rounded` says where the controls stand at first: "weights", 2 bits of a trained network, or "gradients", 2 bits
    from new weights on.
    """
    _check.one_of("rounded", rounded, FIRST)
    own, controls = start(model, data, NETWORKS)
    begin, bits, gradient_bits, lr = FIRST[rounded]
    levels = [("32 (float)" if b == FLOAT else str(b), b) for b in GRADIENT_BITS]
    ways = [("stochastically", True), ("to the nearest", False)]
    straight = [("straight through (QAT)", True), ("only afterwards", False)]
    controls |= {
        "start": _controls.choice("start from", [("trained weights", "trained"), ("new weights", "new")], begin),
        "bits": _controls.bits("weight bits", bits),
        "straight": _controls.choice("round weights", straight, True),
        "gradient_bits": _controls.steps("gradient bits", levels, gradient_bits),
        "stochastic": _controls.choice("round gradients", ways, False),
        "optimizer": _controls.choice("optimizer", list(USUAL), "AdamW"),
        "lr": _controls.steps("peak lr", [(plots.lr_text(rate), rate) for rate in RATES], lr),
        "epochs": _controls.steps("epochs", [(str(e), e) for e in EPOCHS], 1),
    }
    view = FewBits(own)
    panel = Panel(f"few bits of {rounded}", view, controls, run=view.train)
    follow_optimizer(controls)
    return panel
