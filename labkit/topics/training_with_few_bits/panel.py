"""Panels of notebook 02c: training with few bits in the weights or the gradients, and a control run."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from torch import nn

from labkit import _check, drawing
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline, given
from labkit.live.controls import Control
from labkit.live.network import BESIDE, Star, panel_of
from labkit.live.panel import Panel
from labkit.live.training import GHOST_COLOURS, GHOSTS, Curves, Run, Stop, TrainingView, batch_size, means, usual
from labkit.live.view import Card, Summary
from labkit.topics.training_with_few_bits import plots
from labkit.topics.training_with_few_bits.runs import EDGES, FLOAT, GRADIENT_BITS, USUAL, Settings, Trial, run_trial

WEIGHT_BITS = (*range(1, 9), FLOAT)
WEIGHTS: dict[str, Any] = dict(
    start="trained", bits=2, straight=True, gradient_bits=FLOAT, stochastic=False, optimizer="AdamW", lr=1e-3, epochs=1
)
FIRST = {  # initial settings, as in the sweeps
    "weights": WEIGHTS,
    "gradients": WEIGHTS | dict(start="new", bits=FLOAT, gradient_bits=2, lr=2e-3),
}
PLANES: dict[str, Any] = {  # a sweep, its column of methods, the field of the bits, the ticks, the lowest accuracy, ...
    "weights": ("qat", "method", "bits", WEIGHT_BITS, 0.2, "bits per weight", "6 epochs from trained weights"),
    "gradients": ("gradients", "rounding", "gradient_bits", GRADIENT_BITS, 0.7, "bits per gradient value",
                  "2 epochs from new weights"),
}  # fmt: skip


class FewBits(TrainingView):
    """The view: measured accuracy against bits, with a star for this run; its curves; its loss or its gradients."""

    settings_type, size = Settings, BESIDE
    networks = (("lenet-300-100", "mnist"), ("lenet-300-100", "fashion-mnist"))
    scenes = {
        "weights of 2 bits": FIRST["weights"],
        "two values per weight": FIRST["weights"] | dict(bits=1),
        "gradients of 2 bits": FIRST["gradients"],
        "gradients of 4 bits": FIRST["gradients"] | dict(gradient_bits=4),
    }

    def __init__(self, own: Baseline | None = None, rounded: str = "weights") -> None:
        super().__init__(own)
        self.rounded, self.name = rounded, f"few bits of {rounded}"  # type: ignore[misc]  # two panels, one view
        add, below = self.live.figure.add_axes, (0.57, 0.14, 0.42, 0.3)
        self.plane, self.accuracies = add((0.085, 0.43, 0.4, 0.44)), add((0.57, 0.615, 0.42, 0.32))
        self.losses, self.flow, self.key = add(below), add(below), add((0.012, 0.0, 0.49, 0.25))

    def controls(self) -> dict[str, Control]:
        """The controls with the initial settings of `rounded`; an optimizer sets its usual learning rate."""
        made = super().controls()
        for name, value in FIRST[self.rounded].items():
            made[name].value = value
        usual(made["optimizer"], made["lr"], USUAL)
        return made

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The rounding modes of values that stay float."""
        ways = {"straight": settings["bits"], "stochastic": settings["gradient_bits"]}
        return {name for name, bits in ways.items() if bits == FLOAT}

    def settled(self, dense: Baseline, settings: Settings) -> Settings:
        """The settings with unused rounding modes set to True, so that equal runs have equal settings."""
        either: Any = dict.fromkeys(self.idle(asdict(settings)), True)
        return replace(settings, **either)

    def measure(self, dense: Baseline, settings: Settings) -> Iterator[Trial]:
        """The run of these settings and its control run, if they have ended; other runs are ghosts."""
        settings = self.settled(dense, settings)
        known: dict[Any, Any] = {trial.settings: trial for trial in self.ended if trial.dense is dense}
        trial = known.pop(settings, None) or Trial(dense, settings, Run(settings.label))
        control = known.pop(settings.control, None)
        yield replace(trial, control=control, ghosts=tuple(known.values())[1 - GHOSTS :])

    def train(self, settings: dict[str, Any], show: Callable[[Any], None], overtaken: Stop) -> None:
        """Train with these settings, then do the control run, as long; runs that have ended are not repeated."""
        trial = self.training(next(self.results(**settings)), show, overtaken)
        if trial and trial.settings.control and not trial.control:
            blank = Trial(trial.dense, trial.settings.control, Run(trial.settings.control.label))
            self.training(blank, lambda control: show(replace(trial, control=control)), overtaken)

    def training(self, trial: Any, show: Callable[[Any], None], overtaken: Stop) -> Trial | None:
        """The finished trial, or None if it was overtaken."""
        ended = trial if trial.run.ended else run_trial(trial, show, overtaken)
        if ended and not trial.run.ended:
            self.keep(ended)
        return ended

    def plane_of(self, settings: Settings) -> str:
        """The plane to show: of what is rounded; if nothing is, the one that the panel opened with."""
        if settings.control is None:
            return self.rounded
        return "gradients" if settings.gradient_bits < FLOAT else "weights"

    def still_for(self, trial: Any) -> Any:
        """The still part depends on the network and on the plane."""
        return trial.dense, self.plane_of(trial.settings)

    def background(self, trial: Trial) -> None:
        """The plane, the axes of the curves, and those of the loss or of the gradients."""
        dense, of = self.still_for(trial)
        self.losses.set_visible(of == "weights")
        self.flow.set_visible(of == "gradients")
        self._draw_plane(dense, *PLANES[of])
        self.accuracies.axhline(dense.score.accuracy, color=drawing.BLACK, lw=1, ls=":", label="dense")
        self.curves = Curves(self.losses if of == "weights" else None, self.accuracies, self.key)
        self.accuracies.set_ylabel("accuracy, rounded")
        self.key.set_title("★ this run, its control run; ● earlier runs", fontsize=11, loc="left")
        self.losses.set_ylim(0.005, 6)
        self.histogram = plots.gradient_histogram(self.flow, EDGES)
        self.live.move([*self.curves.artists, self.dots, *self.control.artists, *self.star.artists])
        self.live.move(self.histogram if of == "gradients" else ())

    def _draw_plane(
        self, dense: Baseline, kind: str, column: str, field: str, bits: Any, lowest: float, label: str, budget: str
    ) -> None:
        records = dense.sweep(kind)
        plots.bits_curves(self.plane, records, column, bits, lowest)
        self.plane.set_xlabel(label)
        title = f"lines: {budget}" if len(records) else "no measured runs of this network"
        self.plane.set_title(title, fontsize=11, loc="left", pad=17 if len(records) else 6)
        (self.dots,) = self.plane.plot([], [], "o", ms=7, color=drawing.GREY, mec="black")
        self.control = Star(self.live, self.plane, GHOST_COLOURS[0])
        self.star = Star(self.live, self.plane, drawing.BLUE)
        self.control.star.set_markersize(14)
        self.place = lambda trial: bits.index(getattr(trial.settings, field))
        rows = means(records, column, "bits")
        captions = [f"{method}, {b} bits: {accuracy:.2%}\nmean of 3 seeds, {budget}" for method, b, accuracy in rows]
        to = [measured_settings(method, b) for method, b, _ in rows]
        self.live.offer(self.plane, [(bits.index(b), accuracy) for _, b, accuracy in rows], captions, to)

    def update(self, trial: Trial) -> None:
        """Move curves, stars and the histogram."""
        settings, control, other, seen = trial.settings, trial.control, trial.settings.control, trial.gradients
        row = [replace(control.run if control else Run(""), label=f"control: {other.label}")] if other else []
        self.curves.show(trial.run, [*(ghost.run for ghost in trial.ghosts), *row])
        self.star.place(self.place(trial), trial.run.score)
        self.control.place(self.place(trial), control.run.score if control else None)
        same = [one for one in trial.ghosts if self.still_for(one) == self.still_for(trial)]
        drawing.set_points(self.dots, [(self.place(one), one.run.accuracy) for one in same])
        every, zero, half = self.histogram
        every.set_data(seen.histogram if seen else np.zeros(len(EDGES) - 1))
        zero.set_data(seen.zero_histogram if seen else np.zeros(len(EDGES) - 1))
        levels = 2 ** (settings.gradient_bits - 1) - 1
        half.set_xdata([math.log10(0.5 / levels)] * 2)
        half.set_visible(settings.gradient_bits < FLOAT)

    def cards(self, trial: Any) -> list[Card]:
        """Accuracy and control run; the file if weights are rounded, the zeros if gradients are."""
        made = [accuracy_card(trial), control_card(trial)]
        made += [file_card(trial)] * (trial.settings.bits < FLOAT)
        return made + [zeros_card(trial)] * (trial.settings.gradient_bits < FLOAT)

    def finding(self, trial: Any) -> str:
        """The two accuracies."""
        settings, run, other = trial.settings, trial.run, trial.control
        if not run.score:
            return super().finding(trial)
        if not settings.control:
            return f"nothing rounded: {run.reached}"
        of = self.plane_of(settings)
        control = f", {other.run.reached} {other.settings.way}" if other and other.run.score else ""
        return f"{getattr(settings, PLANES[of][2])}-bit {of}: {run.reached} {settings.way}{control}"

    def status(self, trial: Any) -> str:
        """The progress of the run and its control run."""
        control = f"; control run {trial.control.run.words}" if trial.run.ended and trial.control else ""
        return str(trial.run.words + control + trial.run.scored)

    def summarize(self, trial: Any) -> Summary:
        """The summary; its progress is that of both runs, if both are to be trained."""
        runs = [trial.run, trial.control.run if trial.control else Run("")]
        if trial.settings.control is None or runs[1].ended:
            runs.pop()
        done = sum(1.0 if run.ended else run.progress for run in runs) / len(runs)
        return super().summarize(trial)._replace(progress=done if 0 < done < 1 else None)

    def code(self, settings: Mapping[str, Any]) -> str:
        """Round in every step or after training, score, write."""
        bits, optimizer = settings["bits"], f'lk.optim.TORCHS["{settings["optimizer"]}"]'
        if settings["gradient_bits"] < FLOAT:
            way = f"{settings['gradient_bits']}, stochastic={settings['stochastic']}"
            optimizer = f"lk.integer_gradients({way}, optimizer={optimizer})"
        size = batch_size(self.dense(settings.get("checkpoint")).data.train)
        how = f"epochs={settings['epochs']}, lr={settings['lr']}, batch_size={size}, optimizer={optimizer}"
        aware = bits < FLOAT and settings["straight"]
        lines = [
            *self.loaded(settings),
            *["model = lk.models.reinitialized(model, 0)"] * (settings["start"] == "new"),
            *[f"model = lk.prepare_qat(model, {bits})"] * aware,
            f"model, history = lk.fit(model, data.train, {how})",
            *["model = lk.finish_qat(model)" if aware else f"model = lk.quantize(model, {bits})"] * (bits < FLOAT),
            'lk.accuracy(model, data.validation)["accuracy"], len(lk.encode(model))',
        ]
        return "\n".join(lines)


def measured_settings(method: str, bits: int) -> dict[str, Any]:
    """The settings of a measured run; none for a method that the controls do not have."""
    if method in ("stochastic", "nearest"):
        return FIRST["gradients"] | dict(gradient_bits=bits, stochastic=method == "stochastic", epochs=2)
    straight = {"QAT": True, "fine-tuned, then rounded": False}.get(method)
    return {} if straight is None else FIRST["weights"] | dict(bits=bits, straight=straight, epochs=6)


def accuracy_card(trial: Trial) -> Card:
    """The accuracy of the rounded network on validation."""
    if trial.run.score is None:
        return "accuracy", "–", "the run starts when the controls rest"
    return words.accuracy_card(trial.run.score, trial.dense.score)


def control_card(trial: Trial) -> Card:
    """The accuracy of the control run, and on how many images the two runs differ."""
    settings, other = trial.settings.control, trial.control
    if settings is None:
        return "control run", "–", "nothing is rounded"
    label = f"control run: {settings.way}"
    if other is None or other.run.score is None:
        return label, "–", "trained next, same budget"
    if not (other.run.ended and trial.run.ended and trial.run.score):
        return label, f"{other.run.score.accuracy:.2%}", "the same budget"
    _, counts, p = words.flips_card(other.run.score, trial.run.score, trial.dense.data.validation.y)
    return label, f"{other.run.score.accuracy:.2%}", f"this run lost / won {counts}, {p}"


def file_card(trial: Trial) -> Card:
    """The file of the rounded network, and that of its control run."""
    if not trial.size_bytes:
        return "file", "–", f"fp32 {trial.dense.size_bytes:,} B"
    label, value, note = words.file_card(trial.size_bytes, trial.dense.size_bytes)
    other = trial.control.size_bytes if trial.control else 0
    return label, value, note + f" · control run {other:,} B" * (other > 0)


def zeros_card(trial: Trial) -> Card:
    """The fraction of the gradient values that were 0 in every step so far, and in the last step."""
    other, seen, label = trial.control and trial.control.gradients, trial.gradients, "gradients 0 in every step"
    if seen is None:
        return label, "–", "of all gradient values"
    control = f" · control run {other.still:.1%}" if other else ""
    return label, f"{seen.still:.1%}", f"in the last step {seen.zeros:.1%} of {seen.count:,}{control}"


def few_bits(
    model: nn.Module | None = None, data: Data | None = None, rounded: str = "weights", preset: str = ""
) -> Panel:
    """A live panel of notebook 02c: LeNet-300-100, or your own `model` on `data`, trained with few bits.

    `rounded` selects the initial settings: "weights", 2-bit weights of a trained network, or "gradients", 2-bit
    gradients from new weights.
    """
    _check.one_of("rounded", rounded, FIRST)
    return panel_of(FewBits(given(model, data), rounded), preset)
