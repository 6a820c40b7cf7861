"""Panel of notebook 09: the article's network with a fault of your choice, its gradient check, its run, its pruning."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from labkit import _check, article, plots
from labkit.data import Data, load_data
from labkit.explore import _controls, _words
from labkit.explore._article_runs import RETRAIN, THRESHOLDS, Key, Seen, Stop, clip, fresh, heal, race, rows
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._training import Curves, Run

PASSES = 1e-3  # relative error: rounding stays far below it, a fault far above
KEPT = 12  # trained networks that stay at hand
CODES = [
    ("mended: tanh, squared error", "mended"),
    ("mended: softmax, cross-entropy", "softmax"),
    ("fault: A1 unknown, as printed", "A1 unknown"),
    ("fault: no tanh′ at the output", "no tanh′"),
    ("fault: a sum, not a mean", "sum, not mean"),
    ("fault: weights in [0, 1)", "weights in [0, 1)"),
    ("fault: random targets", "random targets"),
    ("all of them, with A1 kept", "all but A1"),
]
TITLES = ("gradient check, before training", "training loss", "validation accuracy", "pruned ★, retrained ✚")
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
WIDTHS = (4, 8, 16, 32, 64, 128)


class ArticleMLP:
    """The view: analytic against numeric slopes, loss and accuracy of the run, accuracy against the threshold."""

    def __init__(self, data: Data) -> None:
        self.rows, self.live = rows(data), LiveFigure(10.4, 4.9)
        self._trained: dict[Key, Seen] = {}  # the newest last
        figure = self.live.figure
        self.lines = plots.slopes_axes(figure.add_axes((0.065, 0.115, 0.325, 0.815)))
        loss, accuracy = figure.add_axes((0.455, 0.605, 0.225, 0.325)), figure.add_axes((0.455, 0.115, 0.225, 0.36))
        self.clipping, key = figure.add_axes((0.755, 0.445, 0.235, 0.485)), figure.add_axes((0.715, 0.03, 0.28, 0.29))
        self.curves = Curves(loss, accuracy, key)
        loss.set_ylim(0.01, 5)
        loss.set_xlabel("")
        plots.threshold_axis(self.clipping, float(THRESHOLDS[-1]))
        for ax in (loss, accuracy, self.clipping):
            ax.set_ylabel("")  # the title says it
        (self.curve,) = self.clipping.plot([], [], "-", color=plots.BLUE, lw=2)
        (self.healed,) = self.clipping.plot([], [], "P", ms=12, color=plots.SKY, mec="black", mew=1.1)
        (self.star,) = self.clipping.plot([], [], "*", ms=17, color=plots.ORANGE, mec="black", mew=1.1)
        for ax, title in zip(figure.axes, TITLES, strict=False):
            ax.set_title(title, fontsize=11, loc="left")
        self.live.move([*self.lines.values(), *self.curves.artists, self.curve, self.healed, self.star])

    def results(self, code: str, lr: float, hidden: int, threshold: float) -> Iterator[Seen]:
        """The fresh network, checked; the trained one, pruned at the threshold, where it is at hand."""
        key = (code, lr, hidden)
        if key in self._trained:
            yield clip(self.rows, self._trained[key], threshold)
        else:
            yield replace(fresh(self.rows, key), ghosts=self._ghosts(key))

    def _ghosts(self, key: Key) -> tuple[Run, ...]:
        """Earlier runs, the oldest first; the mended network with the same settings comes last."""
        last = ("mended", *key[1:])
        order = sorted(self._trained, key=lambda other: other == last)
        return tuple(self._trained[other].run for other in order if other != key and self._trained[other].run.moments)

    def train(self, settings: dict[str, Any], show: Callable[[Seen], None], overtaken: Stop) -> None:
        """Train this network, the mended one beside it, if they are not at hand; prune it, retrain what is left."""
        key: Key = (settings["code"], settings["lr"], settings["hidden"])
        if key not in self._trained:
            self._learn(key, show, overtaken)
        if overtaken():
            return
        seen = clip(self.rows, self._trained[key], settings["threshold"])
        show(seen)
        if seen.pruned:
            for healing in heal(self.rows, seen, seen.pruned, overtaken):
                show(healing)

    def _learn(self, key: Key, show: Callable[[Seen], None], overtaken: Stop) -> None:
        """Train the networks that are not at hand, and keep them unless they are overtaken."""
        ghosts, mended = self._ghosts(key), ("mended", *key[1:])
        entrants = {each: fresh(self.rows, each) for each in (mended, key) if each not in self._trained}
        running = {each: seen for each, seen in entrants.items() if not seen.error}
        with np.errstate(all="ignore"):  # a run that diverges is told in words
            for moment in race(self.rows, running, overtaken):
                entrants |= moment
                beside = [seen.run for each, seen in moment.items() if each != key]
                show(replace(entrants[key], ghosts=(*ghosts, *beside)))
        if not overtaken():
            self._trained |= entrants
            self._trained[key] = replace(self._trained[key], ghosts=self._ghosts(key))
            self._trained = dict(list(self._trained.items())[-KEPT:])

    def draw(self, seen: Seen) -> None:
        """Move the slopes, the curves of the run, the curve of the threshold and the points on it."""
        for name, line in self.lines.items():
            line.set_data(*plots.place_slopes(*(seen.slopes[name] if seen.slopes else (np.array([]), np.array([])))))
        self.curves.show(seen.run, seen.ghosts)
        curve = np.array([]) if seen.curve is None else seen.curve
        self.curve.set_data(THRESHOLDS[: len(curve)], plots.logit(curve))
        for point, pruned in ((self.star, seen.pruned), (self.healed, seen.retrained)):
            accuracy = [pruned.accuracy] if pruned else []
            point.set_data([seen.threshold] * len(accuracy), plots.logit(np.array(accuracy)))

    def tell(self, seen: Seen) -> Words:
        """The network in words."""
        cards = [check_card(seen), loss_card(seen), self._accuracy_card(seen), *pruned_cards(seen)]
        code = next(label for label, value in CODES if value == seen.key[0])
        return Words(
            cards,
            _words.sentence(f"{code}; lr {seen.key[1]:g}, {seen.key[2]} hidden", cards) + seen.run.scored,
            self._status(seen),
        )

    def _accuracy_card(self, seen: Seen) -> Card:
        if not seen.run.score:
            return "accuracy", "–", "not trained"
        low, high = seen.run.score.interval
        mended = [g for g in seen.ghosts if g.label.startswith("mended")]
        beside = f" · mended {mended[-1].accuracy:.2%}" if mended else ""
        return "accuracy", f"{seen.run.accuracy:.2%}", f"95 %: {low:.1%}–{high:.1%}{beside}"

    def _status(self, seen: Seen) -> str:
        if seen.error:
            ended = seen.ghosts and seen.ghosts[-1].ended
            beside = f"; beside it the mended network, {seen.ghosts[-1].scored.removeprefix('; ')}" if ended else ""
            return f"this code stops at its first step: {seen.error}{beside}"
        if not seen.run.ended:
            return seen.run.words + seen.run.scored
        healed = f"; retrained: {seen.healing:.0%} of {RETRAIN} epoch" if seen.retrained else ""
        return f"{seen.run.words}{outcome(seen.run)}{seen.run.scored}{healed}"


def check_card(seen: Seen) -> Card:
    """Whether the slopes agree, the largest relative error, and parameters that have no slope at all."""
    if seen.slopes is None:
        return "gradient check", "does not run", seen.error
    still = [name for name, pair in seen.slopes.items() if np.abs(pair).max() < plots.NO_SLOPE]
    errors = {name: article.relative_error(*pair) for name, pair in seen.slopes.items() if name not in still}
    worst = max(errors, key=lambda name: errors[name], default="")
    notes = [f"relative error up to {errors[worst]:.2g}, in {worst}"] if worst else []
    notes += [f"no slope in {', '.join(still)}"] if still else []
    return "gradient check", "passes" if errors.get(worst, 0) < PASSES else "fails", " · ".join(notes)


def loss_card(seen: Seen) -> Card:
    """The loss of the first batch and the mean of the last ones."""
    if not seen.run.moments:
        return "loss", "–", "not trained"
    first, last = seen.run.moments[0].loss, seen.run.moments[-1].loss
    return "loss", f"{last:.3f}", f"mean of the last batches · first {first:.3f}"


def pruned_cards(seen: Seen) -> list[Card]:
    """The network pruned at θ, and retrained: accuracy and file."""
    label, pruned, again = f"pruned at θ = {seen.threshold:.2f}", seen.pruned, seen.retrained
    if not pruned:
        return [("pruned", "–", "when trained"), ("file", "–", "when trained")]
    left = f"{pruned.left:,} of {pruned.weights:,} weights left"
    healed = f"retrained {again.accuracy:.2%}" if again else "not retrained"
    smaller = f"{seen.dense_bytes / pruned.size_bytes:.1f}× smaller · dense {seen.dense_bytes:,} B"
    return [(label, f"{pruned.accuracy:.2%}", f"{healed} · {left}"), ("file", f"{pruned.size_bytes:,} B", smaller)]


def outcome(run: Run) -> str:
    """What has to be said of an ended run whose loss did not fall."""
    first, last = run.moments[0].loss, run.moments[-1].loss
    if last > first:
        return f"; diverged: the loss rose from {first:.2f} to {last:.2f}"
    return ""


def article_mlp(data: Data | None = None) -> Panel:
    """The live panel of notebook 09: at most 10,000 training images of MNIST, or of `data`; everything in NumPy."""
    _check.kind(Data | None, data=data)
    controls = {
        "code": _controls.choice("code", CODES, "no tanh′"),
        "lr": _controls.steps("learning rate", [(f"{lr:g}", lr) for lr in RATES], 0.3),
        "hidden": _controls.steps("hidden width", [(str(width), width) for width in WIDTHS], 32),
        "threshold": _controls.real("prune at θ", 0.1, float(THRESHOLDS[-1]), 0.01),
    }
    view = ArticleMLP(data or load_data("mnist"))
    return Panel("article_mlp", view, controls, run=view.train)
