"""Panel of notebook 09: the article's network with a fault of your choice, its gradient check, its run, its pruning."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labkit import _check, article, drawing
from labkit.data import Data, load_data
from labkit.live import words
from labkit.live.controls import choice, real, steps
from labkit.live.network import NetworkView, panel_of
from labkit.live.panel import Panel
from labkit.live.training import Curves, Run, Stop, run_card
from labkit.live.view import Card, Summary
from labkit.topics.the_article_mlp import plots, runs
from labkit.topics.the_article_mlp.runs import EPOCHS, RETRAIN, THRESHOLDS, Key, Seen, race, retrain

PASSES = 1e-3  # relative error: rounding stays far below it, a fault far above
KEPT = 12  # trained networks that are kept
CODES = [
    ("mended: tanh, squared error", "mended"),
    ("mended: softmax, cross-entropy", "softmax"),
    ("fault: A1 unknown, as printed", "A1 unknown"),
    ("fault: no tanh′ at the output", "no tanh′"),
    ("fault: a sum, not a mean", "sum, not mean"),
    ("fault: weights in [0, 1)", "weights in [0, 1)"),
    ("fault: random targets", "random targets"),
    ("all faults but the first, A1", "all but A1"),
]
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
WIDTHS = [(str(width), width) for width in (4, 8, 16, 32, 64, 128)]


@dataclass(frozen=True)
class Settings:
    """The values of the controls."""

    code: str = choice("code", CODES, "no tanh′", note="the corrected network, or one fault put back", word="{}")
    lr: float = steps("learning rate", [(f"{lr:g}", lr) for lr in RATES], 0.3, note="of plain gradient descent")
    hidden: int = steps("hidden width", WIDTHS, 32, note="units of the hidden layer", word="{} hidden units")
    threshold: float = real(
        "prune at θ", 0.1, float(THRESHOLDS[-1]), 0.01, note="after training, every |weight| up to it is set to 0",
        word="pruned at θ = {}",
    )  # fmt: skip


class ArticleMLP(NetworkView):
    """The view: analytic against numeric slopes, loss and accuracy of the run, accuracy against the threshold."""

    name, settings_type, networks, runs = "article_mlp", Settings, (), True
    scenes = {
        "the check fails, the loss falls": dict(code="no tanh′", lr=0.3, hidden=32, threshold=0.1),
        "the loss falls, nothing is learnt": dict(code="random targets", lr=0.3, hidden=32, threshold=0.1),
        "the check passes: all slopes are 0": dict(code="weights in [0, 1)", lr=0.3, hidden=32, threshold=0.1),
        "a sum, not a mean: it diverges": dict(code="sum, not mean", lr=0.3, hidden=32, threshold=0.1),
    }

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.rows, self.shipped = runs.rows(data), data is load_data("mnist")
        self._trained: dict[Key, Seen] = {}  # the newest last
        self._retrained: dict[tuple[Key, float], Seen] = {}
        add = self.live.figure.add_axes
        self.slopes, self.loss = add((0.06, 0.155, 0.225, 0.76)), add((0.345, 0.155, 0.165, 0.76))
        self.accuracy = add((0.575, 0.155, 0.165, 0.76))
        self.clipping, self.key = add((0.81, 0.485, 0.18, 0.43)), add((0.765, 0.0, 0.235, 0.34))

    def dense(self, checkpoint: Any = None) -> Any:
        """There is no trained network at first: the data take its place."""
        return self.rows

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """Code that does not run leaves nothing to prune."""
        return {"threshold"} if settings["code"] == "A1 unknown" else set()

    def measure(self, dense: Any, settings: Settings) -> Iterator[Seen]:
        """The new network, checked; or the trained one, pruned at the threshold, if it is kept."""
        key = settings.code, settings.lr, settings.hidden
        if key not in self._trained:
            yield replace(runs.fresh(self.rows, key), settings=settings, ghosts=self._ghosts(key))
        elif (key, settings.threshold) in self._retrained:
            yield self._retrained[key, settings.threshold]
        else:
            yield runs.clip(self._trained[key], settings)

    def _ghosts(self, key: Key) -> tuple[Run, ...]:
        """Earlier runs, the oldest first; the mended network with the same settings comes last."""
        last = ("mended", *key[1:])
        order = sorted(self._trained, key=lambda other: other == last)
        return tuple(self._trained[other].run for other in order if other != key and self._trained[other].run.moments)

    def train(self, settings: dict[str, Any], show: Callable[[Seen], None], overtaken: Stop) -> None:
        """Train this network and the mended one, if they are not kept; prune it, retrain the other weights."""
        seen: Seen = next(self.results(**settings))
        if seen.key not in self._trained:
            self._learn(seen, show, overtaken)
            if overtaken():
                return
            seen = next(self.results(**settings))
            show(seen)
        if seen.pruned and not seen.retrained:
            for later in retrain(seen, seen.pruned, overtaken):
                show(later)
                if later.retraining == 1:
                    self._retrained = newest(self._retrained | {(seen.key, settings["threshold"]): later})

    def _learn(self, seen: Seen, show: Callable[[Seen], None], overtaken: Stop) -> None:
        """Train the networks that are not kept yet, and keep them unless a newer setting stops this."""
        key, ghosts, mended = seen.key, seen.ghosts, ("mended", *seen.key[1:])
        entrants = {one: runs.fresh(self.rows, one) for one in (mended, key) if one not in self._trained} | {key: seen}
        running = {one: entrant for one, entrant in entrants.items() if not entrant.error}
        with np.errstate(all="ignore"):  # the status reports a run that diverges
            for moment in race(running, overtaken):
                entrants |= moment
                beside = [other.run for one, other in moment.items() if one != key]
                show(replace(entrants[key], ghosts=(*ghosts, *beside)))
        if not overtaken():
            self._trained |= entrants
            self._trained[key] = replace(self._trained[key], ghosts=self._ghosts(key))
            self._trained = newest(self._trained)

    def still_for(self, seen: Seen) -> Any:
        """Code that does not run has no slopes and nothing to prune."""
        return seen.error

    def background(self, seen: Seen) -> None:
        """Empty axes, and the error in place of the slopes where the code does not run."""
        self.curves = Curves(self.loss, self.accuracy, self.key)
        self.accuracy.legend(loc=(0.3, 0.23), fontsize=10, framealpha=0.9, handlelength=1.4)  # clear of guessing
        self.loss.set_ylim(0.01, 5)
        self.lines = plots.slopes_axes(self.slopes)
        plots.threshold_axis(self.clipping, float(THRESHOLDS[-1]))
        titles = ("gradient check", "training loss", "validation accuracy", "pruned ★, retrained ✚")
        for ax, title in zip((self.slopes, self.loss, self.accuracy, self.clipping), titles, strict=True):
            ax.set_title(title, fontsize=11, loc="left")
            ax.set_ylabel("" if ax is not self.slopes else ax.get_ylabel())  # the title names it
        self.clipping.set_visible(not seen.error)
        if seen.error:
            self.slopes.clear()
            self.slopes.set_axis_off()
            text = "the program stops at its\nfirst step:\n" + seen.error.replace(": ", ":\n")
            self.slopes.text(0, 0.6, text, fontsize=12, color=drawing.RED, va="center")
        (self.curve,) = self.clipping.plot([], [], "-", color=drawing.BLUE, lw=2)
        (self.retrained_point,) = self.clipping.plot([], [], "P", ms=12, color=drawing.SKY, mec="black", mew=1.1)
        (self.star,) = self.clipping.plot([], [], "*", ms=17, color=drawing.ORANGE, mec="black", mew=1.1)
        slopes = [] if seen.error else self.lines.values()
        self.live.move([*slopes, *self.curves.artists, self.curve, self.retrained_point, self.star])

    def update(self, seen: Seen) -> None:
        """Move the slopes, the curves of the run, the curve of the threshold and the points on it."""
        for name, line in self.lines.items():
            line.set_data(*plots.place_slopes(*(seen.slopes[name] if seen.slopes else (np.array([]), np.array([])))))
        self.curves.show(seen.run, seen.ghosts)
        drawing.set_points(self.curve, [] if seen.curve is None else np.stack([THRESHOLDS, seen.curve], 1))
        for point, pruned in ((self.star, seen.pruned), (self.retrained_point, seen.retrained)):
            drawing.set_points(point, [(seen.settings.threshold, pruned.accuracy)] if pruned else [])

    def summarize(self, seen: Seen) -> Summary:
        """The network in words."""
        cards = [check_card(seen), loss_card(seen), accuracy_card(seen), *pruned_cards(seen)]
        alt = words.sentence(words.setting(seen.dense, seen.settings, self), cards) + seen.run.scored
        done = (EPOCHS * seen.run.progress + RETRAIN * seen.retraining) / (EPOCHS + RETRAIN)
        return Summary(cards, alt, status(seen), finding(seen), done if 0 < done < 1 else None)

    def code(self, settings: Mapping[str, Any]) -> str:
        """Train, prune."""
        load = 'data = lk.load_data("mnist")' if self.shipped else "# data: your own"
        lines = [
            f"net, losses = article.trained(net, x, y, lr={settings['lr']}, epochs={EPOCHS}, variant=variant)",
            "model = article.to_torch(net)",
            f"small = lk.prune(model, threshold={settings['threshold']})",
            'lk.accuracy(model, data.validation)["accuracy"], len(lk.encode(small))',
        ]
        if settings["code"] == "A1 unknown":
            lines = ["try:", f"    {lines[0]}", "except NameError as error:", "    print(error)"]
        return "\n".join(
            [
                "import labkit as lk", "from labkit import article", load,
                f"x, labels = article.arrays(lk.data.take(data.train, {min(runs.IMAGES, len(self.rows.x))}))",
                f'variant = article.VARIANTS["{settings["code"]}"]',
                "y = article.targets(labels, len(data.classes), variant.targets)",
                f"net = article.new_net(x.shape[1], {settings['hidden']}, len(data.classes), init=variant.init)",
                *lines,
            ]
        )  # fmt: skip


def newest(kept: dict[Any, Seen]) -> dict[Any, Seen]:
    """The last KEPT networks."""
    return dict(list(kept.items())[-KEPT:])


def check_card(seen: Seen) -> Card:
    """Whether the slopes agree, the largest relative error, and parameters that have no slope at all."""
    if seen.slopes is None:
        return "gradient check", "does not run", seen.error
    flat = [name for name, pair in seen.slopes.items() if np.abs(pair).max() < plots.NO_SLOPE]
    errors = {name: article.relative_error(*pair) for name, pair in seen.slopes.items() if name not in flat}
    worst = max(errors, key=lambda name: errors[name], default="")
    notes = [f"relative error up to {errors[worst]:.2g}, in {worst}"] if worst else []
    notes += [f"no slope in {', '.join(flat)}"] if flat else []
    return "gradient check", "passes" if errors.get(worst, 0) < PASSES else "fails", " · ".join(notes)


def loss_card(seen: Seen) -> Card:
    """The loss of the first batch and the mean of the last ones."""
    if not seen.run.moments:
        return "loss", "–", "not trained"
    first, last = seen.run.moments[0].loss, seen.run.moments[-1].loss
    return "loss", f"{last:.3f}", f"mean of the last batches · first {first:.3f}"


def accuracy_card(seen: Seen) -> Card:
    """The accuracy before pruning, and that of the mended network beside it."""
    mended = [ghost.accuracy for ghost in seen.ghosts if ghost.label.startswith("mended")]
    return run_card(seen.run, f" · mended {mended[-1]:.2%}" if mended else "", "not trained")


def pruned_cards(seen: Seen) -> list[Card]:
    """The network pruned at θ, and retrained: accuracy and file."""
    pruned, again = seen.pruned, seen.retrained
    if not pruned:
        note = "nothing to prune" if seen.error else "when trained"
        return [("pruned", "–", note), ("file", "–", note)]
    label, left = f"pruned at θ = {seen.settings.threshold:.2f}", f"{pruned.left:,} of {pruned.weights:,} weights left"
    note = f"retrained {again.accuracy:.2%}" if again else "not retrained"
    smaller = f"{seen.dense_bytes / pruned.size_bytes:.1f}× smaller · dense {seen.dense_bytes:,} B"
    return [(label, f"{pruned.accuracy:.2%}", f"{note} · {left}"), ("file", f"{pruned.size_bytes:,} B", smaller)]


def finding(seen: Seen) -> str:
    """The result of the check, whether the loss falls, and the accuracy."""
    if seen.error:
        return "as printed, the program stops"
    verdict = f"the check {check_card(seen)[1]}"
    if not seen.run.ended:
        return verdict
    falls = "rises" if rises(seen.run) else "falls"
    return f"{verdict}, the loss {falls}, accuracy {seen.run.accuracy:.1%}"


def rises(run: Run) -> bool:
    """Whether the loss of an ended run did not fall."""
    return run.moments[-1].loss > run.moments[0].loss


def status(seen: Seen) -> str:
    """The state of the run."""
    run = seen.run
    if seen.error:
        ended = seen.ghosts and seen.ghosts[-1].ended
        beside = f"; beside it the mended network, {seen.ghosts[-1].scored.removeprefix('; ')}" if ended else ""
        return f"this code stops at its first step: {seen.error}{beside}"
    if not run.ended:
        return run.words + run.scored
    first, last = run.moments[0].loss, run.moments[-1].loss
    outcome = f"; diverged: the loss rose from {first:.2f} to {last:.2f}" if rises(run) else ""
    retrained = f"; retrained: {seen.retraining:.0%} of {words.count(RETRAIN, 'epoch')}" if seen.retrained else ""
    return f"{run.words}{outcome}{run.scored}{retrained}"


def article_mlp(data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 09: at most 10,000 training images of MNIST, or of `data`; everything in NumPy."""
    _check.kind(Data | None, data=data)
    return panel_of(ArticleMLP(data or load_data("mnist")), preset)
